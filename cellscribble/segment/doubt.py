"""Whether a model is as sure of an image as of those that it learnt from: if not, look there first.

A network that sees what it has not learnt from is often unsure of much of it, or sees nothing that it knows. How
much is usual differs from model to model more than from image to image, so each carries what its own training images
had. No mask is used.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

UNSURE = 0.3
"""A pixel is unsure where the probability of foreground is more than this, and of background too."""

FEWEST_PX = 100
"""Fewer pixels of foreground say nothing."""

FEWEST_IMAGES = 3

SPREAD = 0.05
"""So large a share of the training images, at either end, does not count: one odd image is no measure."""

MORE, LESS = 1.25, 0.25
"""Times the usual, from which on an image is unlike those that were learnt from."""


class Doubt:
    """How many pixels are unsure for each that is surely foreground, of one image seen piece by piece; thread-safe."""

    def __init__(self) -> None:
        self._n_sure = self._n_unsure = 0
        self._lock = threading.Lock()

    def add(self, probability: npt.NDArray[np.floating[Any]]) -> None:
        """Count the pixels of a probability (K, *spatial), background first, at the model's edge level of 0.5."""
        background = probability[0]
        n_sure = int(np.count_nonzero(background <= UNSURE))
        n_unsure = int(np.count_nonzero(background < 1 - UNSURE)) - n_sure
        with self._lock:
            self._n_sure += n_sure
            self._n_unsure += n_unsure

    @property
    def value(self) -> float | None:
        """0 or more; None where there is next to no foreground."""
        if self._n_sure + self._n_unsure < FEWEST_PX:
            return None
        return self._n_unsure / max(self._n_sure, 1)


def doubt(probability: npt.NDArray[np.floating[Any]]) -> float | None:
    """`Doubt` of an image whose probability (K, *spatial) is at hand."""
    whole = Doubt()
    whole.add(probability)
    return whole.value


def usual_doubt(doubts: Iterable[float | None]) -> tuple[float, float] | None:
    """The lowest and the highest that is usual, of the training images' `doubt`; None of fewer than three images."""
    known = [one for one in doubts if one is not None]
    if len(known) < FEWEST_IMAGES:
        return None
    low, high = np.quantile(known, [SPREAD, 1 - SPREAD])
    return float(low), float(high)


def unlike(found: float | None, usual: tuple[float, float] | None) -> str:
    """What to tell of an image with a doubt that is not usual; else empty."""
    if found is None or usual is None or LESS * usual[0] <= found <= MORE * usual[1]:
        return ""
    return (
        f"unlike the images that the model learnt from: it is unsure of {_percent(found)} of what may be foreground, "
        f"usual is {usual_words(usual)}; look at this image first, and if it came out wrong draw strokes on it and "
        "train again"
    )


def usual_words(usual: tuple[float, float] | None) -> str:
    """What `usual_doubt` found, as shares; empty where it found nothing."""
    return "" if usual is None else " to ".join(dict.fromkeys(map(_percent, usual)))


def _percent(doubt: float) -> str:
    """As a share of all that may be foreground."""
    percent = 100 * doubt / (1 + doubt)
    return f"{percent:.0f}%" if percent >= 10 else f"{percent:.2g}%"
