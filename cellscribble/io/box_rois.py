"""Boxes as ImageJ ROIs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import roifile

from cellscribble.io.atomic import atomic_path, check_writable, remove
from cellscribble.io.roi_tiles import TILE_PX, tiles_of
from cellscribble.io.roi_zip import write_zip

COLOUR = b"\xff\xff\x82\x00"
"""Orange, opaque: a colour that stands for no class (`paint.class_of_colour`)."""


@dataclass(frozen=True, slots=True)
class MarkedBox:
    """A rectangle (y, x) in px; plane : of a stack, from 0, or None; score : kept as the ROI's property "score"."""

    name: str
    corner: tuple[int, int]
    size_px: tuple[int, int]
    plane: int | None
    score: float


def save_box_rois(
    path: Path, boxes: Sequence[MarkedBox], shape_yx: tuple[int, int], overwrite: bool = False
) -> list[Path]:
    """Write rectangles on an image of `shape_yx` as a zip of ROIs, in their order; the files written.

    For an image beyond ImageJ's coordinates these are tiles as of `save_label_rois`, those that hold a box's corner.

    Raises
    ------
    OutputError
        If a file exists (without `overwrite`) or cannot be written.
    """
    tiles = tiles_of(path, *shape_yx)
    side = TILE_PX if len(tiles) > 1 else max(shape_yx)
    inside = {
        (target, corner): [b for b in boxes if all(0 <= p - c < side for p, c in zip(b.corner, corner, strict=True))]
        for target, corner in tiles.items()
    }
    filled = {where: some for where, some in inside.items() if some}
    for target, _ in filled:
        check_writable(target, overwrite)
    written: list[Path] = []
    try:
        for (target, corner), some in filled.items():
            with atomic_path(target, overwrite) as temporary:
                write_zip(temporary, (_roi(box, corner) for box in some))
            written.append(target)
    except BaseException:
        for target in written:
            remove(target)
        raise
    return written


def _roi(box: MarkedBox, corner: tuple[int, int]) -> Any:
    roi = roifile.ImagejRoi()
    roi.roitype = roifile.ROI_TYPE.RECT
    roi.name, roi.z_position = box.name, 0 if box.plane is None else box.plane + 1
    roi.top, roi.left = (int(p - c) for p, c in zip(box.corner, corner, strict=True))
    roi.bottom, roi.right = roi.top + int(box.size_px[0]), roi.left + int(box.size_px[1])
    roi.stroke_color = COLOUR if roi.byteorder == ">" else COLOUR[::-1]
    roi.props = f"score: {box.score:.3f}\n"
    return roi
