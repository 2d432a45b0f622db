"""Strokes drawn as shapes: ImageJ ROIs (.zip, .roi, overlays in a TIFF) and Labkit labelings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from cellscribble.core.errors import FileFormatError, InputError
from cellscribble.io.paint import Colour, class_of_colour, shown_colour
from cellscribble.io.roi_classes import class_by_name, classes_of_rois, roi_colour
from cellscribble.io.rois import bounds_yx, rasterise, read_rois, slices_of
from cellscribble.io.strokes import Piece, Scribbles, assemble


def strokes_from_rois(path: Path, shape: tuple[int, ...], timepoint: int | None) -> Scribbles:
    """Strokes from the ROIs in a file; `shape` is the image's (Y, X) or (Z, Y, X).

    Raises
    ------
    InputError
        If no ROI has a class, or they were drawn on an image of another size.
    """
    rois = read_rois(path)
    classes, evidence = classes_of_rois(rois)
    unread = tuple(roi.name or roi.autoname for roi, one in zip(rois, classes, strict=True) if one is None)
    if rois and len(unread) == len(rois):
        shown = ", ".join(unread[:5]) + (" ..." if len(unread) > 5 else "")
        raise InputError(
            f"none of the {len(rois)} ROIs in {path} has a class ({shown}); rename them fg_1, bg_1, ... "
            "in the ROI Manager, or colour them red (class) and blue (background)"
        )
    pieces: list[Piece] = []
    colours: dict[str, Colour] = {}
    outside = 0
    for roi, one in zip(rois, classes, strict=True):
        if one is None or (timepoint is not None and roi.t_position not in (0, timepoint + 1)):
            continue
        cover = rasterise(roi, shape[-2:])
        outside += not cover.mask.any()
        depth = (slices_of(roi, shape[0], path),) if len(shape) == 3 else ()
        pieces.append((one, (*depth, *cover.window), cover.mask))
        colour = roi_colour(roi)
        paint = class_of_colour(colour)
        if colour != (0, 0, 0):
            colours.setdefault(one, colour if paint is None else shown_colour(paint))
    reach = np.max([bounds_yx(roi) for roi in rois], axis=0, initial=0) if rois else np.zeros(2)
    if outside and (reach > np.multiply(shape[-2:], 1.05)).any():
        raise InputError(
            f"ROIs in {path} reach to y {int(reach[0])}, x {int(reach[1])} px but the image is {shape[-2:]} "
            "(y, x); draw them on this image, or crop both to the same region"
        )
    reading = f"ImageJ ROIs, class by {' and '.join(evidence) or 'nothing'}"
    return replace(assemble(pieces, shape, reading, colours), unread=unread)


def strokes_from_labkit(path: Path, shape: tuple[int, ...]) -> Scribbles:
    """Strokes from Labkit's JSON; its pixels are (x, y[, z]).

    Raises
    ------
    FileFormatError
        If it is no such JSON, or of another number of axes.
    InputError
        If a stroke lies outside the image.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        lists = {str(n): np.asarray(xyz, int).reshape(-1, len(shape)) for n, xyz in content["labels"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileFormatError(
            f"{path} is no Labkit labeling for an image of shape {shape}: {error}; save it again in Labkit"
        ) from error
    pieces: list[Piece] = []
    for name, xyz in lists.items():
        position = xyz[:, ::-1]
        if len(position) and ((position < 0) | (position >= np.asarray(shape))).any():
            size = tuple(int(n) for n in position.max(axis=0) + 1)
            raise InputError(
                f"{path} has strokes up to {size} px but the image is {shape}; use the image it was drawn on"
            )
        mask = np.zeros(shape, bool)
        mask[tuple(position.T)] = True
        pieces.append((class_by_name(name) or name.lower(), tuple(slice(0, n) for n in shape), mask))
    return assemble(pieces, shape, "Labkit labeling")
