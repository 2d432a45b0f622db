"""The record of one image's strokes, and how named pieces become it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.errors import InputError
from cellscribble.core.labels import MAX_CLASSES, UNLABELLED
from cellscribble.io.paint import BACKGROUND_NAME, FOREGROUND_NAME, Colour, class_title, shown_colour
from cellscribble.io.roi_classes import class_by_name

Piece = tuple[str, tuple[slice, ...], npt.NDArray[np.bool_]]
"""Class name, window of the image, and the stroke's pixels in it."""


@dataclass(frozen=True, slots=True)
class Scribbles:
    """Strokes of one image.

    Parameters
    ----------
    data : (*spatial) int16; -1 unlabelled, 0 background, 1.. classes
    class_names : one a class, background first
    colors : red, green, blue 0..255, one a class, for display
    reading : how the file was understood, a sentence part for the user
    overlapping_px : pixels that strokes of two classes claim; the later stroke has them
    unread : names of ROIs without a class
    """

    data: npt.NDArray[np.int16]
    class_names: tuple[str, ...]
    colors: tuple[Colour, ...]
    reading: str
    overlapping_px: int = 0
    unread: tuple[str, ...] = ()


def align_classes(scribbles: Sequence[Scribbles]) -> list[Scribbles]:
    """The same strokes with one list of classes for all, so that a number means one class everywhere.

    Needed where classes come from names: an image without any "edge" stroke numbers them otherwise.
    """
    names = sorted({n for one in scribbles for n in one.class_names[1:]}, key=_class_order)
    return [_renumber(one, [BACKGROUND_NAME, *names]) for one in scribbles]


def number_as(scribbles: Scribbles, classes: Sequence[str], path: Any) -> Scribbles:
    """The same strokes numbered as a list of classes says: background, then `classes` in their order.

    Raises
    ------
    InputError
        If there are strokes of a class that is not in the list.
    """
    names = [BACKGROUND_NAME, *(class_by_name(c) or c.strip().lower() for c in classes)]
    names = list(dict.fromkeys(names))
    # What a file without names calls class 1 need not be drawn at all: see `number_classes`.
    drawn = [n for i, n in enumerate(scribbles.class_names) if (scribbles.data == i).any()]
    alien = [n for n in drawn if n not in names]
    if alien:
        raise InputError(
            f"{path} has strokes of class {', '.join(alien)}, but the classes are {', '.join(names)}; "
            "rename the ROIs, or give their class too"
        )
    return _renumber(scribbles, names)


def _renumber(scribbles: Scribbles, names: list[str]) -> Scribbles:
    numbers = [names.index(n) if n in names else UNLABELLED for n in (BACKGROUND_NAME, *scribbles.class_names[1:])]
    data = np.array([UNLABELLED, *numbers])[scribbles.data + 1].astype(np.int16)
    colors = tuple(shown_colour(i) for i in range(len(names)))
    return replace(scribbles, data=data, class_names=tuple(names), colors=colors)


def assemble(
    pieces: Sequence[Piece],
    shape: tuple[int, ...],
    reading: str,
    colours: Mapping[str, Colour] | None = None,
) -> Scribbles:
    """Paint named pieces in their order; where two classes meet, the later one stays."""
    names = [BACKGROUND_NAME, *sorted({n for n, _, _ in pieces} - {BACKGROUND_NAME}, key=_class_order)]
    if len(names) > MAX_CLASSES:
        raise InputError(f"{len(names)} classes; at most {MAX_CLASSES} are possible: give ROIs of one class one name")
    data = np.full(shape, UNLABELLED, np.int16)
    contested = np.zeros(shape, bool)
    for name, window, mask in pieces:
        index = names.index(name)
        part = data[window]
        drawn = np.broadcast_to(mask, part.shape)
        contested[window] |= drawn & (part != UNLABELLED) & (part != index)
        part[drawn] = index
    colors = tuple((colours or {}).get(name, shown_colour(i)) for i, name in enumerate(names))
    return Scribbles(data, tuple(names), colors, reading, int(contested.sum()))


def number_classes(data: npt.NDArray[np.int16], reading: str) -> Scribbles:
    """Strokes whose classes have numbers only; there are always at least two classes."""
    n_classes = max(2, int(data.max(initial=1)) + 1)
    names = tuple(class_title(i) for i in range(n_classes))
    return Scribbles(data, names, tuple(shown_colour(i) for i in range(n_classes)), reading)


def _class_order(name: str) -> tuple[int, int, str]:
    """Foreground, then "class 2", "class 3" ..., then other names by alphabet."""
    number = name.removeprefix("class ")
    if name == FOREGROUND_NAME:
        return 0, 0, name
    return (1, int(number), name) if number.isdecimal() and number != name else (2, 0, name)
