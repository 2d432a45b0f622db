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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.errors import InputError

Slices = tuple[slice, ...]


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


def plan_blocks(
    shape: Sequence[int], block_px: Sequence[int], halo_px: Sequence[int], multiple: Sequence[int]
) -> Iterator[Block]:
    """Yield the blocks that cover `shape`, each pixel written exactly once.

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
    per_axis = []
    whole = padded_shape(shape, multiple)
    blocks, halos = padded_shape(block_px, multiple), padded_shape(halo_px, multiple)
    for n, n_padded, block, halo in zip(shape, whole, blocks, halos, strict=True):
        axis = []
        for start in range(0, n, block):
            stop = min(start + block, n)
            read = slice(max(0, start - halo), min(n_padded, start + block + halo))
            axis.append((read, slice(start - read.start, stop - read.start), slice(start, stop)))
        per_axis.append(axis)
    for parts in itertools.product(*per_axis):
        reads, keeps, writes = zip(*parts, strict=True)
        yield Block(tuple(reads), tuple(keeps), tuple(writes))


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
