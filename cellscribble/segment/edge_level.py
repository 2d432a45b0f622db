"""Where is the edge? The probability level at which the image's own edges lie.

Strokes say what is cell and what is background, nothing says where one turns into the other; a
network trained on them draws cells too fat, p > 0.5 is not where the cell ends. The image says it:
along the right level's contour the intensity changes most.

The mean change of intensity across the contour {p = t} is

    F(t) = integral over {p = t} of dI/dn ds / length of {p = t},   n = grad p / |grad p|.

By the co-area formula both integrals are histograms over the level, of grad I . grad L and of |grad L|
with L = logit p: one pass over the pixels gives F at all levels. The sign is kept: texture and noise
point either way and cancel, an edge points one way.

F is compared between levels of one place only. Over a whole image the contour at a high level is made of
other edges than the one at a low level: faint membranes and dim cells, of which the network is less sure, have
left it, and F grows with the level though no edge lies there. In a small window it is mostly the same edges
that are compared.

Strokes have the first word: a level that turns some of them wrong which another has right is no outline. A network
that has learnt little follows the intensity into the texture of cells, and there F is large at any level.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LOGIT_LIMIT = 7.0
N_BINS = 56
LEVELS: npt.NDArray[np.float64] = 1 / (1 + np.exp(LOGIT_LIMIT - (np.arange(N_BINS) + 0.5) * 2 * LOGIT_LIMIT / N_BINS))
"""Probability at the centre of each histogram bin."""
LEVEL_LIMITS = (0.1, 0.98)
"""Beyond, the contour is the network's noise floor and no outline of cells."""
SMOOTHING = (0.25, 0.5, 0.25)
WINDOW_PX = {2: 64, 3: 32}
"""Edge of a window, by the number of axes: a few cells."""
MIN_LENGTH = 1.0
"""Logits of contour (px times logit a px) that a level must have in a window before its mean counts in full."""
CROSSED = slice(N_BINS // 2 - 5, N_BINS // 2 + 5)
"""Levels from 0.22 to 0.78, at all of which a window that counts has a contour; looked at by half a logit, as on few
pixels a bin may be empty by chance."""
TOP_SHARE = 0.97
"""Levels with at least this share of the largest F count as good as the best."""
MAX_LOST = 0.01
"""Of the share of stroked pixels that are right, each side counting alike, what a level may cost."""


@dataclass(frozen=True, slots=True)
class EdgeLevel:
    """The level, and the evidence for it.

    level : probability of foreground at the image's edges; 0.5 where the images show no evidence
    gain : largest F / F(0.5)
    n_images : images with a contour
    """

    level: float
    gain: float
    n_images: int


def shift_to_edge(probability: npt.NDArray[np.float32], level: float) -> npt.NDArray[np.float32]:
    """Move `level` to 0.5: logit p' = logit p - logit level, of foreground against background.

    probability : (K, *spatial), background first, sums to 1. The classes keep their proportions.
    """
    odds = np.float32(level / (1 - level))
    background = probability[:1] * odds
    total = background + probability[1:].sum(axis=0, keepdims=True)
    out = np.concatenate([background, probability[1:]])
    out /= np.maximum(total, np.float32(1e-12))
    return out


def find_edge_level(
    pictures: Iterable[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.int16]]],
) -> EdgeLevel:
    """The edge level of images, each with its prediction and its strokes, as `EdgeEvidence.add` takes them."""
    evidence = EdgeEvidence()
    for image, probability, strokes in pictures:
        evidence.add(image, probability, strokes)
    return evidence.level()


class EdgeEvidence:
    """Collects the histograms of one image after another.

    flux : (C, n_windows, N_BINS) of each image, length : (n_windows, N_BINS)
    stroked : (2, N_BINS), stroked pixels of background and of foreground at each level, of all images
    """

    def __init__(self) -> None:
        self.flux: list[npt.NDArray[np.float64]] = []
        self.length: list[npt.NDArray[np.float64]] = []
        self.stroked = np.zeros((2, N_BINS))

    def add(
        self,
        image: npt.NDArray[np.float32],
        probability: npt.NDArray[np.float32],
        strokes: npt.NDArray[np.int16],
    ) -> None:
        """Add one image (C, *spatial), normalised, its prediction (K, *spatial), and strokes (*spatial), -1 none."""
        p = np.clip(1 - probability[0], 1e-6, 1 - 1e-6).astype(np.float32)
        logit = np.log(p) - np.log1p(-p)
        for side, drawn in enumerate((strokes == 0, strokes > 0)):
            self.stroked[side] += np.bincount(_bins(logit[drawn]), minlength=N_BINS)
        inside = np.abs(logit) < LOGIT_LIMIT
        if not inside.any():
            return
        windows, n_windows = _windows(logit.shape)
        bins = windows[inside] * N_BINS + _bins(logit[inside])
        slopes = [np.gradient(logit, axis=a)[inside] for a in range(logit.ndim)]

        def histogram(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
            counted = np.bincount(bins, values, n_windows * N_BINS).astype(np.float64)
            return counted.reshape(n_windows, N_BINS)

        self.length.append(histogram(np.sqrt(sum(s**2 for s in slopes))))
        self.flux.append(np.stack([histogram(_change(channel, slopes, inside)) for channel in image]))

    def level(self) -> EdgeLevel:
        """The level nearest 0.5 whose F, a mean over windows, is all but the largest.

        Only windows count in which the network goes from ground that it is sure of to cells that it is sure of:
        elsewhere there is a contour at some levels and none at others, and no two to compare. Each
        window's curve is scaled to its own largest value: one bright, sharp cell would
        otherwise speak for all dim ones. It counts by the square root of its contour's length, as the error of
        a mean does. Cells are brighter than the ground, or darker, in all of an image: a window of
        texture points either way, and over many windows texture cancels (rules compared on seven data sets, see
        docs/accuracy.md). Near its top F is flat, and of levels that the images cannot tell apart the one that
        asks least of the network is right more often; 0.5 stays where nothing speaks against it.
        """
        limited = np.flatnonzero((LEVEL_LIMITS[0] < LEVELS) & (LEVEL_LIMITS[1] > LEVELS))
        curves, weights = [], []
        for flux, length in zip(self.flux, self.length, strict=True):
            direction = flux[:, :, limited].sum(axis=(1, 2))
            change = np.tensordot(direction, flux, 1) / (length + MIN_LENGTH)
            largest = np.abs(change[:, limited]).max(axis=1)
            crossed = length[:, CROSSED].reshape(len(length), -1, 2).sum(axis=2).min(axis=1)
            seen = (largest > 0) & (crossed >= MIN_LENGTH)
            curves.append(change[seen] / largest[seen, None])
            weights.append(np.sqrt(length[seen][:, limited].mean(axis=1)))
        weight = np.concatenate(weights) if weights else np.zeros(0)
        if not weight.sum() > 0:
            return EdgeLevel(0.5, 1.0, 0)
        mean = np.convolve(weight @ np.concatenate(curves) / weight.sum(), SMOOTHING, mode="same")
        allowed = limited[self._agree()[limited]]
        top = float(mean[allowed].max(initial=0.0))
        if not top > 0:
            return EdgeLevel(0.5, 1.0, 0)
        at_half = float(np.interp(0.5, LEVELS, mean))
        good = allowed[mean[allowed] >= TOP_SHARE * top]
        nearest = good[np.argmin(np.abs(LEVELS[good] - 0.5))]
        # 0.5 lies between the two bins in the middle: either of them says that it is as good.
        if nearest in (N_BINS // 2 - 1, N_BINS // 2):
            return EdgeLevel(0.5, 1.0, len(self.flux))
        level = float(LEVELS[nearest])
        gain = top / at_half if at_half > 0 else float("inf")
        return EdgeLevel(level, min(gain, 1e3), len(self.flux))

    def _agree(self) -> npt.NDArray[np.bool_]:
        """Levels at which strokes are right, each side counting alike, but for `MAX_LOST` of where most are."""
        n = self.stroked.sum(axis=1, keepdims=True)
        if not n.all():
            return np.ones(N_BINS, bool)
        background, cells = (np.cumsum(self.stroked, axis=1) - self.stroked / 2) / n
        right = (background + 1 - cells) / 2
        return np.asarray(right >= right.max() - MAX_LOST)


def _bins(logit: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """The histogram bin of each value; what lies beyond the histogram counts at its end."""
    bins = ((logit + LOGIT_LIMIT) * (N_BINS / (2 * LOGIT_LIMIT))).astype(np.int64)
    return np.clip(bins, 0, N_BINS - 1)


def _windows(shape: tuple[int, ...]) -> tuple[npt.NDArray[np.int64], int]:
    """The number of the window in which each pixel lies, (*spatial) int64, and how many there are."""
    counts = tuple(-(-n // WINDOW_PX[len(shape)]) for n in shape)
    along = [np.arange(n) * count // n for n, count in zip(shape, counts, strict=True)]
    return np.ravel_multi_index(np.ix_(*along), counts), math.prod(counts)


def _change(
    channel: npt.NDArray[np.float32], slopes: Sequence[npt.NDArray[np.float32]], inside: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float32]:
    """Flat: grad I . grad L of the pixels `inside`."""
    return np.asarray(sum(np.gradient(channel, axis=a)[inside] * s for a, s in enumerate(slopes)))
