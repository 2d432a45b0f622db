"""ImageJ ROIs as pixels, by ImageJ's own rules.

What ImageJ means by a coordinate depends on the kind of ROI: for lines it is a pixel's index (its
centre is 0.5 further), for areas a pixel's corner. The rules were found by comparing with the
pixels that ImageJ 1.53t itself covers; tests hold them to its covers.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import roifile

from cellscribble.core.errors import InputError
from cellscribble.io.roi_zip import DAMAGE, read_zip, unreadable

_TYPE, _SUBTYPE = roifile.ROI_TYPE, roifile.ROI_SUBTYPE
_LINES = (_TYPE.LINE, _TYPE.POLYLINE, _TYPE.FREELINE, _TYPE.ANGLE)
_PATH_CLOSE = 4.0
_PATH_LENGTHS = {0: 3, 1: 3, 2: 5, 3: 7, 4: 1}


@dataclass(frozen=True, slots=True)
class Cover:
    """Pixels of one ROI: `mask` (h, w) bool whose first pixel is (`top`, `left`) of the image."""

    top: int
    left: int
    mask: npt.NDArray[np.bool_]

    @property
    def window(self) -> tuple[slice, slice]:
        h, w = self.mask.shape
        return slice(self.top, self.top + h), slice(self.left, self.left + w)


def read_rois(path: Path) -> list[Any]:
    """The ROIs of a .roi or .zip file, or embedded in a TIFF (overlay, then active selection).

    Raises
    ------
    FileFormatError
        If the file is damaged or holds something else.
    """
    if path.suffix.lower() == ".zip":
        return list(read_zip(path))
    try:
        found = roifile.roiread(path)
    except DAMAGE as error:
        raise unreadable(path, error) from error
    return list(found) if isinstance(found, (list, tuple)) else [found]


def rasterise(roi: Any, shape_yx: Sequence[int]) -> Cover:
    """Pixels that a ROI covers, clipped to an image of `shape_yx`; empty for text and pictures.

    Lines have butt ends and their stroke width (at least 1), strokes of the Overlay Brush round ends
    as ImageJ shows them; areas are filled even-odd at pixel centres; points are one pixel.
    """
    if roi.composite:
        rings = [np.asarray(ring, float) for ring in roi.coordinates(multi=True)]
        # The Overlay Brush stores its stroke as an open path with a width, not as an area.
        if roi.stroke_width and not _closed(roi.multi_coordinates):
            return _lines([ring + 0.5 for ring in rings], float(roi.stroke_width), shape_yx, butt=False)
        return _fill(rings, shape_yx)
    if roi.subtype in (_SUBTYPE.TEXT, _SUBTYPE.IMAGE):
        return Cover(0, 0, np.zeros((0, 0), bool))
    if roi.roitype == _TYPE.POINT:
        return _points(np.floor(np.asarray(roi.coordinates(), float)).astype(int), shape_yx)
    if roi.roitype in _LINES:
        # Beside the rounded width ImageJ stores the exact one.
        width_px = float(roi.float_stroke_width or roi.stroke_width)
        return _lines([np.asarray(roi.coordinates(), float) + 0.5], width_px, shape_yx)
    if roi.roitype == _TYPE.OVAL:
        return _oval(_rectangle(roi), shape_yx)
    if roi.roitype == _TYPE.RECT:
        left, top, right, bottom = _rectangle(roi)
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        return _fill([np.asarray(corners)], shape_yx)
    return _fill([np.asarray(roi.coordinates(), float)], shape_yx)


def bounds_yx(roi: Any) -> tuple[int, int]:
    """Largest y and x that a ROI reaches, px."""
    return int(roi.bottom), int(roi.right)


def slices_of(roi: Any, n_slices: int, path: Any) -> slice:
    """The planes of a stack that a ROI lies on; without a position all.

    Raises
    ------
    InputError
        If it lies on a plane that the stack has not.
    """
    # A hyperstack stores c, z, t; a plain stack one position. Both count from 1, and 0 is every slice.
    position = int(roi.z_position or (roi.position if not (roi.c_position or roi.t_position) else 0))
    if position > n_slices:
        raise InputError(
            f"ROI {roi.name!r} in {path} lies on slice {position} but the image has {n_slices}; "
            "draw it on this same stack"
        )
    return slice(position - 1, position) if position > 0 else slice(0, n_slices)


def _rectangle(roi: Any) -> tuple[float, float, float, float]:
    if roi.subpixelrect:
        return roi.xd, roi.yd, roi.xd + roi.widthd, roi.yd + roi.heightd
    return float(roi.left), float(roi.top), float(roi.right), float(roi.bottom)


def _closed(path: npt.NDArray[Any]) -> bool:
    position = 0
    while position < len(path):
        segment = float(path[position])
        if segment == _PATH_CLOSE:
            return True
        position += _PATH_LENGTHS.get(int(segment), len(path))
    return False


def _window(points: npt.NDArray[Any], margin: float, shape_yx: Sequence[int]) -> tuple[int, int, int, int]:
    """top, left, bottom, right of the pixels within `margin` of (x, y) points, inside the image."""
    low, high = np.floor(points.min(axis=0) - margin), np.ceil(points.max(axis=0) + margin)
    top, left = max(0, int(low[1])), max(0, int(low[0]))
    bottom, right = min(int(shape_yx[0]), int(high[1])), min(int(shape_yx[1]), int(high[0]))
    return top, left, max(top, bottom), max(left, right)


def _fill(rings: list[npt.NDArray[Any]], shape_yx: Sequence[int]) -> Cover:
    """Even-odd fill of all rings together, so that a ring inside another is a hole."""
    rings = [ring for ring in rings if len(ring) >= 3]
    if not rings:
        return Cover(0, 0, np.zeros((0, 0), bool))
    top, left, bottom, right = _window(np.concatenate(rings), 0, shape_yx)
    # Each edge flips the pixels to the right of where it crosses a row's centre line.
    flips = np.zeros((bottom - top, right - left + 1), bool)
    for ring in rings:
        for (xa, ya), (xb, yb) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            if ya == yb:
                continue
            first, last = np.ceil(min(ya, yb) - 0.5), np.ceil(max(ya, yb) - 0.5)
            rows = np.arange(max(first, top), min(last, bottom)).astype(int)
            crossing = xa + (rows + 0.5 - ya) * ((xb - xa) / (yb - ya))
            columns = np.clip(np.ceil(crossing - 0.5).astype(int) - left, 0, right - left)
            flips[rows - top, columns] ^= True
    return Cover(top, left, np.logical_xor.accumulate(flips[:, :-1], axis=1))


def _lines(paths: list[npt.NDArray[Any]], width_px: float, shape_yx: Sequence[int], butt: bool = True) -> Cover:
    radius = max(width_px, 1.0) / 2
    paths = [path for path in paths if len(path)]
    if not paths:
        return Cover(0, 0, np.zeros((0, 0), bool))
    top, left, bottom, right = _window(np.concatenate(paths), radius, shape_yx)
    mask = np.zeros((bottom - top, right - left), bool)
    for path in paths:
        if len(path) == 1:
            path = np.repeat(path, 2, axis=0)
        for i, (start, stop) in enumerate(itertools.pairwise(path)):
            ends = (butt and i == 0, butt and i == len(path) - 2)
            _draw_segment(mask, start - (left, top), stop - (left, top), radius, ends)
    return Cover(top, left, mask)


def _draw_segment(
    mask: npt.NDArray[np.bool_],
    start: npt.NDArray[Any],
    stop: npt.NDArray[Any],
    radius: float,
    ends: tuple[bool, bool],
) -> None:
    top, left, bottom, right = _window(np.stack([start, stop]), radius, mask.shape)
    y, x = np.mgrid[top:bottom, left:right] + 0.5
    along = stop - start
    length = float(along @ along)
    t = ((x - start[0]) * along[0] + (y - start[1]) * along[1]) / length if length else np.zeros_like(x)
    inside = np.clip(t, 0, 1)
    near = np.hypot(x - start[0] - inside * along[0], y - start[1] - inside * along[1]) <= radius
    # Butt ends: nothing beyond the first and last point; joints within the line stay round.
    if ends[0]:
        near &= t >= 0
    if ends[1]:
        near &= t <= 1
    mask[top:bottom, left:right] |= near


def _oval(rectangle: tuple[float, float, float, float], shape_yx: Sequence[int]) -> Cover:
    x0, y0, x1, y1 = rectangle
    top, left, bottom, right = _window(np.asarray([(x0, y0), (x1, y1)]), 0, shape_yx)
    y, x = np.mgrid[top:bottom, left:right] + 0.5
    half_w, half_h = max(x1 - x0, 1e-9) / 2, max(y1 - y0, 1e-9) / 2
    return Cover(top, left, ((x - (x0 + x1) / 2) / half_w) ** 2 + ((y - (y0 + y1) / 2) / half_h) ** 2 <= 1)


def _points(xy: npt.NDArray[np.int_], shape_yx: Sequence[int]) -> Cover:
    inside = (xy >= 0).all(axis=1) & (xy[:, 0] < shape_yx[1]) & (xy[:, 1] < shape_yx[0])
    xy = xy[inside]
    if not len(xy):
        return Cover(0, 0, np.zeros((0, 0), bool))
    left, top = xy.min(axis=0)
    right, bottom = xy.max(axis=0) + 1
    mask = np.zeros((bottom - top, right - left), bool)
    mask[xy[:, 1] - top, xy[:, 0] - left] = True
    return Cover(int(top), int(left), mask)
