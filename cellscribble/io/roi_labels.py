"""Label images as ImageJ ROIs, one an object, and back; both exact."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import roifile
from scipy import ndimage

from cellscribble.core.errors import InputError
from cellscribble.io.atomic import atomic_path, check_writable, remove
from cellscribble.io.label_images import whole_numbers
from cellscribble.io.outlines import outline
from cellscribble.io.roi_tiles import TILE_PX, find_tiles, tiles_of
from cellscribble.io.roi_zip import write_zip
from cellscribble.io.rois import rasterise, read_rois, slices_of

_MAX_SHORT_CORNERS = 65_535
_ID = re.compile(r"(\d+)(?:_z\d+)?")


@dataclass(frozen=True, slots=True)
class Painted:
    """Labels (*spatial) uint32 from ROIs.

    overlapping_px : pixels that two objects claim; the later one has them
    reading : how the numbers were found, a sentence part for the user
    """

    labels: npt.NDArray[np.uint32]
    n_rois: int
    overlapping_px: int
    reading: str


def rois_of_labels(labels: npt.NDArray[np.integer[Any]]) -> Iterator[Any]:
    """One ROI an object of a label image (Y, X), or one an object and plane of (Z, Y, X).

    Outlines lie on pixel edges; an object with holes or several parts is one composite ROI. Its
    name is its number, in a stack with the plane: "7", "7_z3".
    """
    for z, plane in enumerate(labels if labels.ndim == 3 else labels[None]):
        ids, dense = np.unique(plane, return_inverse=True)
        # Numbers without gaps, the smallest being 0 also where there is no background.
        dense = dense.reshape(plane.shape) + (ids[0] != 0)
        ids = ids[ids != 0]
        for number, window in enumerate(ndimage.find_objects(dense), 1):
            corner = np.array([window[1].start, window[0].start])
            rings = [ring + corner for ring in outline(dense[window] == number)]
            name = str(ids[number - 1])
            yield _roi(rings, name if labels.ndim == 2 else f"{name}_z{z + 1}", z + 1 if labels.ndim == 3 else 0)


def save_label_rois(path: str | Path, labels: Any, overwrite: bool = False) -> list[Path]:
    """Write the ROIs of a label image (anything that slices, *spatial) as a zip; the files written.

    An image with a side above 60,535 px, which ImageJ's coordinates do not reach, becomes several files
    NAME_y16384_x0.zip: tiles, whose ROIs count from the tile's first pixel. Objects are cut at their borders.

    Raises
    ------
    InputError
        If the labels hold fractions or negative numbers.
    OutputError
        If a file exists (without `overwrite`) or cannot be written.
    """
    path = Path(path)
    height, width = labels.shape[-2:]
    corners = tiles_of(path, height, width)
    size = TILE_PX if len(corners) > 1 else max(height, width)
    for target in corners:
        check_writable(target, overwrite)
    written: list[Path] = []
    try:
        for target, (y, x) in corners.items():
            tile = whole_numbers(np.asarray(labels[..., y : y + size, x : x + size]), path)
            with atomic_path(target, overwrite) as temporary:
                write_zip(temporary, rois_of_labels(tile))
            written.append(target)
    except BaseException:
        for target in written:
            remove(target)
        raise
    return written


def paint_labels(path: str | Path, shape: Sequence[int]) -> Painted:
    """The label image (*shape) whose ROIs a file holds; where two overlap the later one stays.

    If all names are numbers ("7", "7_z3") they are the labels; otherwise the ROIs are numbered in their order. A
    file that is not there may be there as tiles, as `save_label_rois` names them.

    Raises
    ------
    InputError
        If there is no such file, or a ROI lies outside the image.
    FileFormatError
        If a file is damaged or holds something else.
    """
    tiles = [(corner, read_rois(tile)) for tile, corner in find_tiles(Path(path))]
    rois = [roi for _, some in tiles for roi in some]
    found = [_ID.fullmatch(roi.name) for roi in rois]
    named = bool(rois) and all(one and 0 < int(one[1]) < 2**32 for one in found)
    numbers: Iterable[int] = (int(one[1]) for one in found if one) if named else range(1, len(rois) + 1)
    labels = np.zeros(tuple(shape), np.uint32)
    overlapping = 0
    number = iter(numbers)
    for (y, x), some in tiles:
        for roi in some:
            overlapping += _paint(labels[..., y:, x:], roi, next(number), path)
    return Painted(labels, len(rois), overlapping, f"numbered by {'name' if named else 'order'}")


def _paint(labels: npt.NDArray[np.uint32], roi: Any, number: int, path: Any) -> int:
    cover = rasterise(roi, labels.shape[-2:])
    if not cover.mask.any():
        raise InputError(
            f"ROI {roi.name!r} in {path} (y {roi.top} to {roi.bottom}, x {roi.left} to {roi.right} px) covers nothing "
            f"of the image, which is {labels.shape[-2:]} (y, x); give the image that it was drawn on"
        )
    depth = (slices_of(roi, labels.shape[0], path),) if labels.ndim == 3 else ()
    part = labels[(*depth, *cover.window)]
    drawn = np.broadcast_to(cover.mask, part.shape)
    overlapping = int(np.count_nonzero(drawn & (part != 0) & (part != number)))
    part[drawn] = number
    return overlapping


def _roi(rings: list[npt.NDArray[np.int_]], name: str, position: int) -> Any:
    roi = roifile.ImagejRoi()
    roi.name, roi.z_position = name, position
    corners = np.concatenate(rings)
    (roi.left, roi.top), (roi.right, roi.bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    if len(rings) == 1 and len(corners) <= _MAX_SHORT_CORNERS:
        roi.roitype = roifile.ROI_TYPE.TRACED
        roi.n_coordinates = len(corners)
        roi.integer_coordinates = (corners - (roi.left, roi.top)).astype(np.int32)
        return roi
    # ImageJ's composite: 0 x y moves, 1 x y draws, 4 closes a ring.
    path: list[npt.NDArray[np.float64]] = []
    for ring in rings:
        steps = np.concatenate([np.ones((len(ring), 1)), ring], axis=1)
        steps[0, 0] = 0
        path += [steps.ravel(), np.array([4.0])]
    roi.roitype = roifile.ROI_TYPE.RECT
    roi.multi_coordinates = np.concatenate(path).astype(np.float32)
    roi.shape_roi_size = len(roi.multi_coordinates)
    return roi
