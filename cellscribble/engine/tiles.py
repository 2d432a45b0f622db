"""Cutting a label image of any size into tiles that each hold their objects whole, every object in one tile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.blocks import BlockGrid, Slices
from cellscribble.core.labels import label_dtype
from cellscribble.core.volume import ImageVolume
from cellscribble.measure.blockwise import BLOCK_PX, by_block, label_numbers, sum_objects


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of a label image with the objects whose centres (of their bounding boxes) lie in one block of it.

    place : of the block along each axis
    window : of the tile in the image: it holds those objects and a pixel around them, and may end beyond the block
    labels : (*spatial) objects 1..n of this tile, without those of other tiles
    ids : (n,) the number of each in the image
    """

    place: tuple[int, ...]
    window: Slices
    labels: npt.NDArray[Any]
    ids: npt.NDArray[np.int64]


def tiles(labels: ImageVolume) -> Iterator[Tile]:
    """The tiles that have objects, in raster order; one is in memory at a time.

    labels : one channel of labels, 0 background
    """
    shape = labels.spatial_shape
    grid = BlockGrid(shape, BLOCK_PX[labels.ndim])
    for k, sums in by_block(sum_objects(labels), lambda part: (part.low + part.high) // 2, grid):
        if not len(sums):
            return
        low, high = sums.low.min(axis=0), sums.high.max(axis=0)
        ends = zip(low.tolist(), high.tolist(), shape, strict=True)
        window = tuple(slice(max(a - 1, 0), min(b + 1, n)) for a, b, n in ends)
        ids = np.sort(sums.ids)
        found = label_numbers(labels.data[(0, *window)], labels.name)
        at = np.searchsorted(ids, found).clip(max=len(ids) - 1)
        numbers = np.where(ids[at] == found, at + 1, 0).astype(label_dtype(len(ids)))
        yield Tile(grid.place(k), window, numbers, ids)
