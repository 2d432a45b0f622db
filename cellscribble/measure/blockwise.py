"""Counting the objects of images of any size, a block at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.blocks import BlockGrid, Slices
from cellscribble.core.errors import InputError
from cellscribble.core.volume import ImageVolume
from cellscribble.io.label_images import whole_numbers
from cellscribble.measure.outline import MARGIN_PX
from cellscribble.measure.sums import Sums, merge, sum_block

BLOCK_PX = {2: (2048, 2048), 3: (128, 256, 256)}
"""Many chunks of an OME-Zarr in one block: those at its rim are read again by its neighbours."""

PIECE_PX = {2: (512, 512), 3: (64, 64, 64)}
"""A block is read at once and counted in such pieces, which a processor's cache holds: that is twice as fast."""

MAX_PENDING = 1 << 17
"""Objects of blocks that wait to be put together, at least; more where there are many objects."""


def sum_objects(
    labels: ImageVolume,
    image: ImageVolume | None = None,
    *,
    block_px: Sequence[int] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Sums:
    """Count all objects of `labels`; what is kept grows with their number, not with the image.

    Parameters
    ----------
    labels : one channel of whole numbers, 0 background
    image : of the same spatial shape; what is measured of its channels
    block_px : changes memory and time, and of an image of whole numbers of up to 16 bits no bit of the result
    progress : called with (blocks done, blocks in all)

    Raises
    ------
    InputError
        If `labels` is no label image, or `image` of another shape.
    """
    _check(labels, image)
    shape = labels.spatial_shape
    grid = BlockGrid(shape, tuple(block_px or BLOCK_PX[labels.ndim]))
    halo = (MARGIN_PX,) * labels.ndim
    empty = np.zeros((0 if image is None else image.n_channels, *(0,) * labels.ndim))
    pending: list[Sums] = []
    n_merged = 0
    for k in range(len(grid)):
        window = grid.window(k, halo)
        numbers = label_numbers(labels.data[(0, *window)], labels.name)
        if numbers.any():
            values = empty if image is None else np.asarray(image.data[(slice(None), *grid.box(k))])
            pending += _pieces(numbers, values, grid.box(k), window, shape)
        if sum(map(len, pending)) > max(MAX_PENDING, 2 * n_merged):
            pending = [merge(pending)]
            n_merged = len(pending[0])
        progress(k + 1, len(grid))
    if not pending:
        nothing, no_margin = np.zeros((1,) * labels.ndim, np.uint16), ((0, 0),) * labels.ndim
        pending = [sum_block(nothing, np.zeros((len(empty), *nothing.shape)), (0,) * labels.ndim, no_margin)]
    return merge(pending)


def _pieces(
    numbers: npt.NDArray[np.integer[Any]],
    values: npt.NDArray[Any],
    box: Slices,
    window: Slices,
    shape: tuple[int, ...],
) -> Iterator[Sums]:
    """The counts of the pieces of a block; `numbers` are those of its window, `values` those of the block alone."""
    grid = BlockGrid(tuple(s.stop - s.start for s in box), PIECE_PX[len(box)])
    for k in range(len(grid)):
        piece = grid.box(k)
        begins = [b.start + p.start for b, p in zip(box, piece, strict=True)]
        ends = [b.start + p.stop for b, p in zip(box, piece, strict=True)]
        margin = tuple(
            (min(MARGIN_PX, begin), min(MARGIN_PX, n - end)) for begin, end, n in zip(begins, ends, shape, strict=True)
        )
        around = tuple(
            slice(begin - before - w.start, end + behind - w.start)
            for begin, end, (before, behind), w in zip(begins, ends, margin, window, strict=True)
        )
        if numbers[around].any():
            yield sum_block(numbers[around], values[(slice(None), *piece)], tuple(begins), margin)


def label_numbers(values: Any, name: str) -> npt.NDArray[np.integer[Any]]:
    """A part of a label image as integers (`whole_numbers`), also where it only says which pixels are objects."""
    array = whole_numbers(np.asarray(values), name)
    return array.astype(np.uint8) if array.dtype.kind == "b" else array


def _check(labels: ImageVolume, image: ImageVolume | None) -> None:
    if labels.n_channels != 1:
        raise InputError(f"{labels.name} has {labels.n_channels} channels; a label image has one number a pixel")
    if image is not None and image.spatial_shape != labels.spatial_shape:
        raise InputError(
            f"labels {labels.name} are {labels.spatial_shape} px but image {image.name} is {image.spatial_shape} px; "
            "give the image that was segmented, at the same pyramid level"
        )
