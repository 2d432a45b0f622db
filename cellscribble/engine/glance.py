"""Which blocks look empty on the lowest level of a pyramid: for a forecast, before anything is read at full size."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cellscribble.core.blocks import BlockGrid
from cellscribble.core.intensity import IntensityRule, fit_intensity
from cellscribble.core.volume import ImageVolume
from cellscribble.engine.empty import FLAT

MAX_PIXELS = 1 << 26
"""Of a lowest level: of a larger one, which few files have, reading takes longer than a forecast may."""


def looks_empty(lowest: ImageVolume, rule: IntensityRule, grid: BlockGrid) -> npt.NDArray[np.bool_]:
    """(len(grid),) bool: whether all that the lowest level shows of a block is of one brightness, as far as `FLAT`.

    What is decided in a run is decided by a block's own pixels (`empty`): a single faint cell may not show here.

    Parameters
    ----------
    lowest : coarse pixels of the whole image
    rule : how brightness is measured
    grid : over the image at full size

    Raises
    ------
    InputError
        If the level is constant or holds NaN.
    FileFormatError
        If it is damaged.
    """
    pixels = fit_intensity(lowest, rule).apply(np.asarray(lowest.data))
    low = high = pixels
    for axis, (n, size, block, count) in enumerate(
        zip(grid.shape, pixels.shape[1:], grid.block_px, grid.counts, strict=True), start=1
    ):
        starts = np.minimum(np.arange(count) * block * size // n, size - 1)
        low, high = np.minimum.reduceat(low, starts, axis), np.maximum.reduceat(high, starts, axis)
    return np.asarray((high - low <= FLAT).all(axis=0)).ravel()
