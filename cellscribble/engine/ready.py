"""Which blocks of a grid may be worked on, as the blocks they need get done.

Three bytes or so are kept of a block (done, ready, how many of its needs are missing) and no object:
ten million take 30 MB. When a block is done, only those that need it are looked at.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.blocks import BlockGrid, Slices

Bools = npt.NDArray[np.bool_]

SLAB = 2**15
"""Blocks whose needs are counted at once when a run begins: bounds its memory."""


class Ready:
    """The blocks of one stage.

    Parameters
    ----------
    grid : the blocks
    done : (len(grid),) bool, changed in place
    only : (len(grid),) bool, blocks outside never become ready; None: all may
    before, halo_px : a block needs those blocks of the stage before that meet its own and `halo_px`
        around it; None: it needs nothing
    """

    def __init__(
        self, grid: BlockGrid, done: Bools, only: Bools | None, before: Ready | None, halo_px: tuple[int, ...]
    ) -> None:
        assert done.shape == (len(grid),), f"done has shape {done.shape} for {len(grid)} blocks"
        assert done.dtype == bool, f"done is {done.dtype}, not bool"
        assert done.flags.c_contiguous, "done is a view with gaps; reshaping would copy it"
        self.grid, self.halo_px, self.n_ready = grid, halo_px, 0
        self.done = done.reshape(grid.counts)
        self._only = None if only is None else only.reshape(grid.counts)
        self._before = before
        self._ready = ~self.done if self._only is None else self._only & ~self.done
        if before is not None:
            self._missing = _count_missing(grid, before.grid, before.done, halo_px)
            self._ready &= self._missing == 0
        self.n_ready = int(np.count_nonzero(self._ready))
        self._flat = self._ready.reshape(-1)
        self._first = 0  # no block before it is ready

    def take(self) -> int:
        """The lowest of the ready blocks, which then is no longer one."""
        k = self._first + int(self._flat[self._first :].argmax())
        self._flat[k] = False
        self._first = k + 1
        self.n_ready -= 1
        return k

    def need_done(self, k: int) -> None:
        """Block `k` of the stage before, which was not done, is: look at those that need it."""
        assert self._before is not None
        # A window meets a block if the block, grown by the same halo, meets the window's own block.
        places = self.grid.meeting(self._before.grid.window(k, self.halo_px))
        missing = self._missing[places]
        missing -= 1
        new = (missing == 0) & ~self.done[places]
        if self._only is not None:
            new &= self._only[places]
        n = int(np.count_nonzero(new))
        if n:
            self._ready[places] |= new
            self.n_ready += n
            self._first = min(self._first, self.grid.number(_first_of(new, places)))

    def why_waiting(self) -> str:
        """The first block that is not done, and the first block it waits for, in words."""
        k = int(self.done.argmin())
        if self._before is None:
            return f"block {k} needs nothing"
        places = self._before.grid.meeting(self.grid.window(k, self.halo_px))
        undone = ~self._before.done[places]
        if not undone.any():
            return f"block {k} has all it needs"
        return f"block {k} waits for block {self._before.grid.number(_first_of(undone, places))} of the stage before"


def _first_of(chosen: Bools, places: Slices) -> list[int]:
    """The place of the first block that is chosen; `chosen` is the part of the grid at `places`."""
    at = np.unravel_index(int(chosen.argmax()), chosen.shape)
    return [s.start + int(i) for s, i in zip(places, at, strict=True)]


def _count_missing(
    grid: BlockGrid, needed: BlockGrid, done: Bools, halo_px: tuple[int, ...]
) -> npt.NDArray[np.unsignedinteger[Any]]:
    """For each block of `grid` (*counts), how many of the blocks of `needed` it needs are not `done`.

    What a block needs is a range along each axis, so it is counted axis by axis.
    """
    assert grid.shape == needed.shape, f"grids over images of {grid.shape} and {needed.shape} px"
    ranges = [_needed_ranges(*axis) for axis in zip(grid.shape, grid.block_px, needed.block_px, halo_px, strict=True)]
    most = math.prod(int((stop - start).max()) for start, stop in ranges)
    missing = np.empty(grid.counts, np.min_scalar_type(most))
    rows = max(1, SLAB // math.prod(grid.counts[1:]))
    for row in range(0, grid.counts[0], rows):
        start, stop = (ends[row : row + rows] for ends in ranges[0])
        counted: npt.NDArray[Any] = ~done[start[0] : stop[-1]]
        for axis, (low, high) in enumerate([(start - start[0], stop - start[0]), *ranges[1:]]):
            total = np.insert(np.cumsum(counted, axis, np.int32), 0, 0, axis)
            counted = total.take(high, axis) - total.take(low, axis)
        missing[row : row + rows] = counted
    return missing


def _needed_ranges(n: int, block_px: int, needed_px: int, halo_px: int) -> tuple[npt.NDArray[np.int64], ...]:
    """Along one axis, the first block that each block needs, and the first after that it does not."""
    own, needed = BlockGrid((n,), (block_px,)), BlockGrid((n,), (needed_px,))
    places = (needed.meeting(own.window(k, (halo_px,)))[0] for k in range(len(own)))
    ends = np.fromiter((end for s in places for end in (s.start, s.stop)), np.int64, 2 * len(own))
    return ends[::2], ends[1::2]
