"""Which class an ImageJ ROI belongs to: by its name, else its group, else its stroke colour."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from cellscribble.io.paint import BACKGROUND_NAME, FOREGROUND_NAME, Colour, class_of_colour, class_title

SUGGESTION = "suggest"
"""Boxes that `cellscribble suggest` names, suggest_01: where to draw, no strokes."""

_BACKGROUND = re.compile(r"(bg|background|back)(?![a-z])", re.IGNORECASE)
_FOREGROUND = re.compile(r"(fg|foreground|fore)(?![a-z])", re.IGNORECASE)
_NUMBERED = re.compile(r"([a-z]+(?:[ _-][a-z]+)*)[ _-]?\d", re.IGNORECASE)
# Names that programs give by themselves say nothing about a class; roifile's are UUIDs.
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_SHAPES = ("roi", "selection", "line", "oval", "rectangle", "polygon", "point", "freehand", "freeline")
_OTHERS = ("trace", "traced", "overlay", "polyline", "composite", "ellipse", "slice")
_AUTOMATIC = frozenset((*_SHAPES, *_OTHERS, SUGGESTION))


def class_by_name(name: str) -> str | None:
    """The class a ROI's name stands for, None if it stands for none.

    "bg_3", "Background 2" -> "background"; "fg_1" -> "foreground"; "nucleus_12", "nucleus 12",
    "nucleus12" -> "nucleus"; "0123-0456", "active", "Oval 3" -> None.
    """
    name = name.strip()
    if _BACKGROUND.match(name):
        return BACKGROUND_NAME
    if _FOREGROUND.match(name):
        return FOREGROUND_NAME
    found = _NUMBERED.match(name)
    if not found or _UUID.fullmatch(name) or found.group(1).lower() in _AUTOMATIC:
        return None
    return found.group(1).lower()


def classes_of_rois(rois: Sequence[Any]) -> tuple[list[str | None], tuple[str, ...]]:
    """The class of each ROI (None without one) and the evidence that was used, for the user.

    A group takes the class of the named ROIs in it; in a file without names, group 1 is background
    and group 2 the first class, as the numbers in a scribble TIFF. Colour comes last because setting
    a group in ImageJ overwrites it; a group of a file with names that no name explains is not guessed.
    """
    named = [class_by_name(roi.name) for roi in rois]
    by_group: dict[int, set[str]] = {}
    for roi, one in zip(rois, named, strict=True):
        if one is not None and roi.group:
            by_group.setdefault(roi.group, set()).add(one)
    classes: list[str | None] = []
    evidence: dict[str, None] = {}
    for roi, one in zip(rois, named, strict=True):
        word = "name"
        if one is None and roi.group:
            known = by_group.get(roi.group, set())
            word = "group"
            if len(known) == 1:
                one = next(iter(known))
            elif not by_group:
                one = class_title(roi.group - 1)
        elif one is None:
            word = "stroke colour"
            index = class_of_colour(roi_colour(roi))
            one = None if index is None else class_title(index)
        classes.append(one)
        if one is not None:
            evidence[word] = None
    return classes, tuple(evidence)


def roi_colour(roi: Any) -> Colour:
    """Stroke colour (fill colour where there is no stroke) as red, green, blue 0..255."""
    for stored in (roi.stroke_color, roi.fill_color):
        if stored != b"\x00\x00\x00\x00":
            argb = stored if roi.byteorder == ">" else stored[::-1]
            return argb[1], argb[2], argb[3]
    return 0, 0, 0
