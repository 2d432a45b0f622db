"""How far a large run is, in numbers and words."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

SHARE = {"see": 1.0, "cut": 0.15, "number": 0.05}
"""What a pixel costs in each step, against the network; only so that the time left is about right."""

OTHER_SHARE = 0.01

Say = Callable[[float, float, str], None]
"""Called with (work done, work in all, words)."""


class BlockProgress:
    """Counts blocks and tells about them.

    Parameters
    ----------
    say : told after each block
    n_pixels : of the image
    """

    def __init__(self, say: Say, n_pixels: int) -> None:
        self._say, self._n_pixels = say, n_pixels
        self._sizes: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._n_empty = self._n_damaged = self._n_fresh = 0
        self._start = time.monotonic()

    def expect(self, done: Mapping[str, npt.NDArray[np.bool_]], n_empty: int, n_damaged: int = 0) -> None:
        """Say of some steps which tasks are done, and how many blocks were empty, or could not be read in part or at
        all and were gone on without."""
        self._sizes |= {step: len(flags) for step, flags in done.items() if len(flags)}
        self._done |= {step: int(flags.sum()) for step, flags in done.items()}
        self._n_empty, self._n_damaged = n_empty, n_damaged

    def finished(self, step: str, n_empty: int, n_damaged: int = 0) -> None:
        """One task more is done."""
        self._done[step] += 1
        self._n_empty, self._n_damaged = n_empty, n_damaged
        self._n_fresh += step == "see"
        work = sum(self._weight(s) for s in self._sizes)
        done = sum(self._weight(s) * self._done[s] / n for s, n in self._sizes.items())
        self._say(done, work, self._words())

    def _weight(self, step: str) -> float:
        return SHARE.get(step, OTHER_SHARE)

    def _words(self) -> str:
        done, size = self._done["see"], self._sizes["see"]
        if done == size:
            left = next((s for s, n in self._sizes.items() if self._done[s] < n), "")
            return f"all {size} blocks seen{self._kinds()}" + (f", {left}" if left else "")
        speed = self._n_fresh / size * self._n_pixels / 1e6 / max(time.monotonic() - self._start, 1e-3)
        return f"{done} of {size} blocks{self._kinds()}, {size - done} left, {speed:.2g} Mpixel/s"

    def _kinds(self) -> str:
        kinds = {"empty": self._n_empty, "damaged": self._n_damaged}
        return "".join(f", {n} {kind}" for kind, n in kinds.items() if n)
