"""Which blocks look empty on a low level of a pyramid: for a forecast, before anything is read at full size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cellscribble.core.blocks import BlockGrid
from cellscribble.core.intensity import IntensityRule, fit_intensity
from cellscribble.core.volume import ImageVolume
from cellscribble.engine.empty import FLAT

MAX_PIXELS = 1 << 26
"""Of a level: reading a larger one takes longer than a forecast may."""

BLOCK_PX = 16
"""Of the level along a block's edge: in fewer, cells and the glass around them are one grey."""


def low_level(shapes: Sequence[Sequence[int]], counts: Sequence[int]) -> int:
    """Which level of a pyramid to look at: the lowest that shows blocks in `BLOCK_PX` pixels; 0 if none is small.

    shapes : of the levels, the finest first
    counts : of the blocks along each axis
    """

    def is_fine(shape: Sequence[int]) -> bool:
        return all(n >= BLOCK_PX * count for n, count in zip(shape[-2:], counts[-2:], strict=True))

    small = [k for k, shape in enumerate(shapes) if k and math.prod(shape) <= MAX_PIXELS]
    fine = [k for k in small if is_fine(shapes[k])]
    return fine[-1] if fine else next(iter(small), 0)


def looks_empty(
    low: ImageVolume, rule: IntensityRule, grid: BlockGrid, halo_px: Sequence[int]
) -> npt.NDArray[np.bool_]:
    """(len(grid),) bool: whether all that a low level shows of a block is of one brightness, as far as `FLAT`.

    What is decided in a run is decided by a block's own pixels (`empty`): a single faint cell may not show here.

    Parameters
    ----------
    low : coarse pixels of the whole image
    rule : how brightness is measured
    grid : over the image at full size
    halo_px : what the network sees around a block, which counts too

    Raises
    ------
    InputError
        If the level is constant or holds NaN.
    FileFormatError
        If it is damaged.
    """
    pixels = fit_intensity(low, rule).apply(np.asarray(low.data))
    darkest = brightest = pixels
    for axis, n in enumerate(grid.shape, start=1):
        block, size = grid.block_px[axis - 1], pixels.shape[axis]
        starts = np.arange(grid.counts[axis - 1]) * block
        first = np.maximum(starts - halo_px[axis - 1], 0) * size // n
        last = np.minimum(starts + block + halo_px[axis - 1], n) - 1
        # A window that ends with the array has no index to end at.
        ends = np.stack([np.minimum(first, size - 1), np.minimum(last * size // n, size - 1) + 1], axis=1).ravel()
        room = [(0, int(a == axis)) for a in range(pixels.ndim)]
        darkest = np.minimum.reduceat(np.pad(darkest, room, mode="edge"), ends, axis)
        brightest = np.maximum.reduceat(np.pad(brightest, room, mode="edge"), ends, axis)
        windows = (slice(None),) * axis + (slice(None, None, 2),)
        darkest, brightest = darkest[windows], brightest[windows]
    return np.asarray((brightest - darkest <= FLAT).all(axis=0)).ravel()
