"""Which blocks need no network: empty glass, the dark around a specimen, what was never recorded.

A block counts as empty when it is flat and the network, asked once for a flat tile of that very
colour, says background. So nothing is assumed about bright or dark backgrounds, and the flat inside
of a large cell is not taken for one. Where a pyramid has a level that shows as much, blocks are looked
at there first (`glance`), and what is flat is not read at full size.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cellscribble.core.blocks import Slices, padded_shape
from cellscribble.core.intensity import Intensity

FLAT = 0.04
"""A block is flat when means over `CELL_PX` differ by at most this, on the scale where the image's
own range is 0..1. Noise averages out in such a cell; the smallest object worth a label does not."""

CELL_PX = 8
FEWEST_CELLS = 4
"""In fewer cells along an axis an object may fill all alike."""

COLOURS = 64
"""Colours are rounded to 1/64 before the network is asked about one."""


class Network(Protocol):
    """Normalised block (C, *spatial) float32 -> probability (K, *keep), see `infer.runner.Runner`."""

    def __call__(self, block: npt.NDArray[np.float32], keep: Slices | None = None) -> npt.NDArray[np.float32]: ...


class EmptyTest:
    """Tells whether blocks are empty; thread-safe.

    Parameters
    ----------
    network : asked about flat tiles
    intensity : the image's
    halo_px, multiple : of the network, px
    is_background : decides for a probability (K, *spatial) whether all of it is background
    glance : tells the mean (C,) of a block, normalised, where it is known to be flat before it is read, or None
    """

    def __init__(
        self,
        network: Network,
        intensity: Intensity,
        halo_px: Sequence[int],
        multiple: Sequence[int],
        is_background: Callable[[npt.NDArray[np.float32]], bool],
        glance: Callable[[int], npt.NDArray[np.float32] | None] | None = None,
    ) -> None:
        self._network, self._intensity, self._is_background = network, intensity, is_background
        self._glance = glance
        self._tile = padded_shape([2 * halo + 1 for halo in halo_px], multiple)
        self._answers: dict[tuple[int, ...], bool] = {}
        self._lock = threading.Lock()

    def unread(self, k: int) -> bool:
        """Whether block `k` is known to be empty before it is read."""
        mean = None if self._glance is None else self._glance(k)
        return mean is not None and self._says_background(mean)

    def __call__(self, pixels: npt.NDArray[Any]) -> bool:
        """Whether a block as it was read, (C, *spatial) of the image's dtype, is empty."""
        if min(pixels.shape[-2:]) < FEWEST_CELLS * CELL_PX:
            return False
        # Most blocks show in a few cells that they are not flat.
        if flat_mean(self._intensity.apply(cell_means(pixels, every=8))) is None:
            return False
        mean = flat_mean(self._intensity.apply(cell_means(pixels)))
        return mean is not None and self._says_background(mean)

    def _says_background(self, mean: npt.NDArray[np.float32]) -> bool:
        colour = tuple(int(c) for c in np.rint(mean * COLOURS))
        with self._lock:
            if colour not in self._answers:
                shape = (len(colour), *self._tile)
                flat = np.array(colour, np.float32).reshape(-1, *(1,) * len(self._tile)) / COLOURS
                answer = self._network(np.broadcast_to(flat, shape).astype(np.float32))
                self._answers[colour] = self._is_background(answer)
            return self._answers[colour]


def flat_mean(means: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
    """The mean (C,) of normalised means (C, *spatial) that differ by at most `FLAT`; None where they differ more."""
    by_channel = means.reshape(len(means), -1)
    return by_channel.mean(axis=1) if (np.ptp(by_channel, axis=1) <= FLAT).all() else None


def cell_means(
    pixels: npt.NDArray[Any], every: int = 1, cell_px: tuple[int, int] = (CELL_PX, CELL_PX)
) -> npt.NDArray[np.float32]:
    """Means (C, [Z,] n, m) float32 over cells of `cell_px` in plane, of every so manieth cell.

    At the far sides the last pixels are repeated to fill a cell.
    """
    (n_y, y), (n_x, x) = ((-(-n // px), px) for n, px in zip(pixels.shape[-2:], cell_px, strict=True))
    rest = [(0, 0)] * (pixels.ndim - 2) + [(0, -n % px) for n, px in zip(pixels.shape[-2:], cell_px, strict=True)]
    whole = np.pad(pixels, rest, mode="edge") if any(after for _, after in rest) else pixels
    cells = whole.reshape(*pixels.shape[:-2], n_y, y, n_x, x)[..., ::every, :, ::every, :]
    return np.asarray(cells.mean(axis=(-3, -1), dtype=np.float32))
