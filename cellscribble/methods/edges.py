"""The edge level of the training images, as methods measure it at an ensembling step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cellscribble.data.samples import Sample
from cellscribble.segment.edge_level import find_edge_level

MAX_EDGE_PIXELS = 8_000_000
"""Enough contour for a stable level."""


def even_choice(samples: Sequence[Sample]) -> slice:
    """Which of the images the level is measured on: as many as hold 8 Mpx, evenly over the list."""
    n_pixels = sum(s.scribbles.size for s in samples)
    return slice(None, None, max(1, -(-n_pixels // MAX_EDGE_PIXELS)))


def edge_level(samples: Sequence[Sample], predictions: Sequence[npt.NDArray[np.float32]]) -> float:
    """The edge level of images by their predictions (K, *spatial): see `segment.edge_level`."""
    pairs = zip(samples, predictions, strict=True)
    return find_edge_level((sample.normalised(), p, sample.scribbles) for sample, p in pairs).level
