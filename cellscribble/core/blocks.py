"""Cutting an image into blocks so that the pieces give what the whole would give.

::

        read  (keep + halo on every side, clipped at the image's border)
        +--------------------------+
        |   keep (what is written) |
        |   +------------------+   |
        |   |                  |   |
        |   +------------------+   |
        +--------------------------+

Block origins lie on the network's stride and the halo is at least its receptive field, so that a
pixel of `keep` sees in `read` all that it would see in the whole image. Plain integers, any number
of spatial axes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.errors import InputError

Slices = tuple[slice, ...]


@dataclass(frozen=True, slots=True)
class BlockGrid:
    """The blocks of an image by number, in raster order; nothing is kept for a block.

    shape : of the image, px
    block_px : size of a block, px; the last of an axis may be smaller

    Raises
    ------
    InputError
        If the two differ in length or hold a number below 1.
    """

    shape: tuple[int, ...]
    block_px: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.shape) != len(self.block_px) or min(*self.shape, *self.block_px) < 1:
            raise InputError(
                f"blocks of {self.block_px} px in an image of {self.shape} px: expected one number >= 1 for each axis"
            )

    @property
    def counts(self) -> tuple[int, ...]:
        """Blocks along each axis."""
        return tuple(-(-n // b) for n, b in zip(self.shape, self.block_px, strict=True))

    def __len__(self) -> int:
        return math.prod(self.counts)

    def place(self, k: int) -> tuple[int, ...]:
        """Where block `k` stands along each axis. Raises IndexError if there is no such block."""
        if not 0 <= k < len(self):
            raise IndexError(f"block {k}; there are {len(self)}")
        place = []
        for count in reversed(self.counts):
            k, at = divmod(k, count)
            place.append(at)
        return tuple(reversed(place))

    def number(self, place: Sequence[int]) -> int:
        """The block at `place`: the inverse of `place`."""
        k = 0
        for at, count in zip(place, self.counts, strict=True):
            k = k * count + at
        return k

    def box(self, k: int) -> Slices:
        """Block `k` in the image. Raises IndexError if there is no such block."""
        return tuple(
            slice(at * b, min((at + 1) * b, n))
            for at, b, n in zip(self.place(k), self.block_px, self.shape, strict=True)
        )

    def window(self, k: int, halo_px: Sequence[int]) -> Slices:
        """Block `k` and `halo_px` on every side, clipped at the image."""
        return tuple(
            slice(max(s.start - halo, 0), min(s.stop + halo, n))
            for s, halo, n in zip(self.box(k), halo_px, self.shape, strict=True)
        )

    def meeting(self, window: Slices) -> Slices:
        """The places of all blocks that share a pixel with a window of the image (not empty)."""
        return tuple(
            slice(max(s.start, 0) // b, -(-min(s.stop, n) // b))
            for s, b, n in zip(window, self.block_px, self.shape, strict=True)
        )

    def numbers(self, places: Slices) -> list[int]:
        """The blocks at these places, as `meeting` gives them, in raster order."""
        ranges = [range(*s.indices(count)) for s, count in zip(places, self.counts, strict=True)]
        return [self.number(place) for place in itertools.product(*ranges)]

    def numbers_meeting(self, window: Slices) -> list[int]:
        """The blocks that share a pixel with a window of the image, in raster order."""
        return self.numbers(self.meeting(window))

    def coarser(self, factor: int) -> BlockGrid:
        """The grid in which `factor` blocks along each axis are one."""
        return BlockGrid(self.shape, tuple(b * factor for b in self.block_px))


def overlap(one: Sequence[slice], other: Sequence[slice]) -> Slices:
    """What two windows of the image share; they must meet."""
    return tuple(slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one, other, strict=True))


def relative(slices: Sequence[slice], window: Sequence[slice]) -> Slices:
    """Slices of the image as slices of a window of it."""
    return tuple(slice(s.start - w.start, s.stop - w.start) for s, w in zip(slices, window, strict=True))


def levels(grid: BlockGrid, factor: int) -> list[BlockGrid]:
    """The grid and, each `factor` (>= 2) coarser than the one before, those up to one single block."""
    grids = [grid]
    while len(grids[-1]) > 1:
        grids.append(grids[-1].coarser(factor))
    return grids


@dataclass(frozen=True, slots=True)
class Block:
    """One piece of a plan; all slices are spatial.

    read : what to read, in coordinates of the padded image (see `padded_shape`)
    keep : the part of the read array that is valid, in coordinates of that array
    write : where `keep` belongs, in coordinates of the image itself
    """

    read: Slices
    keep: Slices
    write: Slices


def padded_shape(shape: Sequence[int], multiple: Sequence[int]) -> tuple[int, ...]:
    """`shape` rounded up so that each axis is a multiple of the network's stride there."""
    return tuple(-(-n // m) * m for n, m in zip(shape, multiple, strict=True))


def block_size(shape: Sequence[int], block_px: Sequence[int], multiple: Sequence[int]) -> tuple[int, ...]:
    """The size of a block: what was asked for, one number being all axes, at most the image on the network's stride.

    Raises
    ------
    InputError
        If it is impossible.
    """
    block = tuple(block_px)
    if len(block) == 1:
        block = block * len(shape)
    if len(block) != len(shape) or min(block) < 1:
        raise InputError(
            f"block is {block} px; expected one positive number or {len(shape)}, one for each spatial axis"
        )
    return tuple(min(b, n) for b, n in zip(block, padded_shape(shape, multiple), strict=True))


def plan_blocks(
    shape: Sequence[int], block_px: Sequence[int], halo_px: Sequence[int], multiple: Sequence[int]
) -> Iterator[Block]:
    """The blocks that cover `shape`, each pixel written exactly once.

    Parameters
    ----------
    shape : spatial shape of the image, px
    block_px : size of what a block writes, px; rounded up to `multiple`
    halo_px : context on each side, px; rounded up to `multiple`
    multiple : the network's stride, px

    Raises
    ------
    InputError
        If a block size is not positive or a halo negative.
    """
    if min(block_px) < 1 or min(halo_px) < 0:
        raise InputError(f"block {tuple(block_px)} and halo {tuple(halo_px)} px: must be >= 1 and >= 0")
    grid = BlockGrid(tuple(shape), padded_shape(block_px, multiple))
    return (padded_block(grid, k, halo_px, multiple) for k in range(len(grid)))


def padded_block(grid: BlockGrid, k: int, halo_px: Sequence[int], multiple: Sequence[int]) -> Block:
    """Block `k` of a grid whose block size is a multiple of the network's stride; see `plan_blocks`."""
    box, whole, halos = grid.box(k), padded_shape(grid.shape, multiple), padded_shape(halo_px, multiple)
    read = tuple(
        slice(max(0, s.start - halo), min(n, s.start + block + halo))
        for s, halo, n, block in zip(box, halos, whole, grid.block_px, strict=True)
    )
    keep = tuple(slice(s.start - r.start, s.stop - r.start) for s, r in zip(box, read, strict=True))
    return Block(read, keep, box)


def read_padded(data: Any, read: Slices) -> npt.NDArray[Any]:
    """Read (C, *spatial) where `read` may reach past the image's end: mirrored there.

    Only the needed slab is read, so `data` may be lazy. The mirror depends on the image alone, not
    on the block, hence blockwise equals whole.
    """
    indices, slab = [], [slice(None)]
    for window, n in zip(read, data.shape[1:], strict=True):
        index = _mirror(np.arange(window.start, window.stop), int(n))
        low, high = int(index.min()), int(index.max()) + 1
        slab.append(slice(low, high))
        indices.append(index - low)
    out = np.asarray(data[tuple(slab)])
    for axis, index in enumerate(indices, start=1):
        if len(index) != out.shape[axis] or index[-1] != len(index) - 1:
            out = out.take(index, axis=axis)
    return out


def _mirror(index: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    """Reflect positions into 0..n-1 without repeating the edge, as often as needed."""
    if n == 1:
        return np.zeros_like(index)
    period = 2 * (n - 1)
    index = np.abs(index) % period
    return np.where(index < n, index, period - index)


def map_blocks(
    function: Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]],
    data: Any,
    n_out: int,
    block_px: Sequence[int],
    halo_px: Sequence[int],
    multiple: Sequence[int],
) -> npt.NDArray[np.float32]:
    """Apply `function`, (C, *spatial) -> (n_out, *spatial), block by block, in memory.

    The tiler that training and prediction share. `function` must be local: its result at a pixel
    may depend on `halo_px` around it and on the position modulo `multiple`, on nothing else.
    """
    shape = tuple(int(n) for n in data.shape[1:])
    out = np.empty((n_out, *shape), np.float32)
    for block in plan_blocks(shape, block_px, halo_px, multiple):
        result = function(read_padded(data, block.read))
        out[(slice(None), *block.write)] = result[(slice(None), *block.keep)]
    return out
