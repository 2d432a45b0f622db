"""Counting the objects of images of any size, a block at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.blocks import BlockGrid, Slices
from cellscribble.core.errors import InputError
from cellscribble.core.volume import ImageVolume
from cellscribble.io.label_images import whole_numbers
from cellscribble.measure.outline import MARGIN_PX
from cellscribble.measure.sorted_records import AT_ONCE, SortedRecords, to_records
from cellscribble.measure.sums import Sums, merge, sum_block

BLOCK_PX = {2: (2048, 2048), 3: (128, 256, 256)}
"""Many chunks of an OME-Zarr in one block: those at its rim are read again by its neighbours."""

PIECE_PX = {2: (512, 512), 3: (64, 64, 64)}
"""A block is read at once and counted in such pieces, which a processor's cache holds: that is twice as fast."""


def sum_objects(
    labels: ImageVolume,
    image: ImageVolume | None = None,
    *,
    block_px: Sequence[int] | None = None,
    folder: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Sums]:
    """Count all objects of `labels`, in memory that neither their number nor the image's size changes.

    Parameters
    ----------
    labels : one channel of whole numbers, 0 background
    image : of the same spatial shape; what is measured of its channels
    block_px : changes memory and time, and of an image of whole numbers of up to 16 bits no bit of the result
    folder : where parts of many objects wait on the disk (`SortedRecords`)
    progress : called with (blocks done, blocks in all)

    Yields
    ------
    Sums of some objects, labels ascending from one to the next; of an image without objects one that is empty.

    Raises
    ------
    InputError
        If `labels` is no label image, or `image` of another shape.
    OutputError
        If the disk has no room for the parts.
    """
    check_pair(labels, image)
    shape = labels.spatial_shape
    grid = BlockGrid(shape, tuple(block_px or BLOCK_PX[labels.ndim]))
    halo = (MARGIN_PX,) * labels.ndim
    n_channels = 0 if image is None else image.n_channels
    empty = np.zeros((n_channels, *(0,) * labels.ndim))
    with closing(SortedRecords("ids", folder)) as counted:
        pending: list[Sums] = []
        for k in range(len(grid)):
            window = grid.window(k, halo)
            numbers = label_numbers(labels.data[(0, *window)], labels.name)
            if numbers.any():
                values = empty if image is None else np.asarray(image.data[(slice(None), *grid.box(k))])
                pending += _pieces(numbers, values, grid.box(k), window, shape)
            if pending and (sum(map(len, pending)) > AT_ONCE or k + 1 == len(grid)):
                counted.add(merge(pending).to_records())
                pending = []
            progress(k + 1, len(grid))
        for records in counted:
            yield merge([Sums.from_records(records)])
        if not len(counted):
            nothing, no_margin = np.zeros((1,) * labels.ndim, np.uint16), ((0, 0),) * labels.ndim
            yield sum_block(nothing, np.zeros((n_channels, *nothing.shape)), (0,) * labels.ndim, no_margin)


def by_block(
    sums: Iterable[Sums], corner: Callable[[Sums], npt.NDArray[np.int64]], grid: BlockGrid, folder: Path | None = None
) -> Iterator[tuple[int, Sums]]:
    """The objects that belong to each block, block after block; blocks without any are left out, but if all are.

    Parameters
    ----------
    sums : all objects, as `sum_objects` gives them
    corner : the (n, D) places of some objects; the block in which it lies has the object
    folder : as `sum_objects`
    """
    with closing(SortedRecords("block", folder)) as placed:
        for part in sums:
            blocks = np.ravel_multi_index(tuple((corner(part) // np.array(grid.block_px)).T), grid.counts)
            placed.add(to_records({"block": blocks, "sums": part.to_records()}))
        for records in placed:
            for one in np.split(records, np.flatnonzero(np.diff(records["block"])) + 1):
                yield int(one["block"][0]) if len(one) else 0, Sums.from_records(one["sums"])


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


def spacing_of(labels: ImageVolume) -> tuple[float, ...]:
    """Sizes of a pixel, one an axis, in pixels as large as those along y; all 1 where they are not known."""
    size = labels.pixel_size_um or (1.0,) * labels.ndim
    return tuple(s / size[-2] for s in size)


def check_pair(labels: ImageVolume, image: ImageVolume | None) -> None:
    """Raise InputError if `labels` is no label image, or `image` of another shape."""
    if labels.n_channels != 1:
        raise InputError(f"{labels.name} has {labels.n_channels} channels; a label image has one number a pixel")
    if image is not None and image.spatial_shape != labels.spatial_shape:
        raise InputError(
            f"labels {labels.name} are {labels.spatial_shape} px but image {image.name} is {image.spatial_shape} px; "
            "give the image that was segmented, at the same pyramid level"
        )
