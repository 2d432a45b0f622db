"""Otsu's threshold: no training at all.

Source: N. Otsu, "A threshold selection method from gray-level histograms", IEEE Trans. SMC 9, 1979.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from skimage.filters import threshold_otsu

from cellscribble.baselines.base import Classify
from cellscribble.core.errors import InputError
from cellscribble.data.samples import Sample


def otsu_threshold(values: npt.NDArray[Any]) -> float:
    """The grey value between the two classes that differ most."""
    return float(threshold_otsu(values))  # type: ignore[no-untyped-call]


def learn_otsu(samples: Sequence[Sample], n_classes: int, seed: int) -> Classify:
    """Otsu's threshold of each image's mean channel; the strokes say which side of it is cell.

    Probability is 0.5 at the threshold and follows the two classes that Otsu finds, taken as Gaussians of one width:
    logit p = (m1 - m0) (x - threshold) / variance within the classes. So it can be ranked, and its
    edge level measured, as of any other method.

    Raises
    ------
    InputError
        If there are more than two classes.
    """
    if n_classes != 2:
        raise InputError(f"a threshold tells two classes apart, but the strokes have {n_classes}; leave otsu out")
    grey = [sample.normalised().mean(axis=0) for sample in samples]
    inside, outside = (
        np.concatenate([g[s.scribbles == label] for g, s in zip(grey, samples, strict=True)]) for label in (1, 0)
    )
    sign = np.float32(1 if inside.mean() >= outside.mean() else -1)

    def classify(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        values = sign * image.mean(axis=0)
        threshold = otsu_threshold(values)
        above = values > threshold
        means = values[above].mean(), values[~above].mean()
        within = np.where(above, values - means[0], values - means[1]).var()
        # A picture of two values has no width: its threshold is a step.
        slope = (means[0] - means[1]) / max(float(within), 1e-9)
        foreground = expit(np.clip(slope * (values - threshold), -30, 30))
        return np.stack([1 - foreground, foreground]).astype(np.float32)

    return classify
