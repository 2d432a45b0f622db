"""What a baseline is: a function that learns from strokes and gives one that looks at images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from cellscribble.data.samples import Sample

Classify = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
"""Normalised image (C, *spatial) float32 -> probability (K, *spatial) float32 that sums to 1, background first."""

Learn = Callable[[Sequence[Sample], int, int], Classify]
"""(samples, number of classes, seed) -> what was learnt from `Sample.scribbles` alone."""
