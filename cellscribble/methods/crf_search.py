"""The numbers of a dense CRF that suit the strokes held out best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
import numpy.typing as npt

from cellscribble.core.labels import UNLABELLED
from cellscribble.data.samples import Sample, find_strokes, middle_pixel
from cellscribble.methods.base import Predict
from cellscribble.nn.mean_field import CrfWeights, refine

GRID = (1 / 3, 1, 3)
MAX_SEARCH_STROKES = 8
SEARCH_PX = 64
"""Half of a window of the search along each axis; in a volume along the last two, a quarter of it along z."""

Labels = npt.NDArray[np.int16]
Floats = npt.NDArray[np.float32]


def search_crf(samples: Sequence[Sample], predict: Predict, start: CrfWeights, n_classes: int) -> CrfWeights:
    """The weights with the best balanced accuracy on held-out strokes, one number after the other; ties change none.

    Where no stroke of these images is held out, `start`.
    """
    windows: list[tuple[Floats, Floats, Labels]] = []
    for sample in samples:
        strokes = find_strokes(sample.held_out, n_classes)
        if not strokes or len(windows) >= MAX_SEARCH_STROKES:
            continue
        image, probability, shape = sample.normalised(), predict(sample), sample.scribbles.shape
        reach = np.array([SEARCH_PX // 4, SEARCH_PX, SEARCH_PX][-len(shape) :])
        for stroke in {stroke.label: stroke for stroke in strokes}.values():
            at = middle_pixel(stroke, shape)
            window = tuple(slice(max(0, int(m - r)), int(m + r)) for m, r in zip(at, reach, strict=True))
            cut = (slice(None), *window)
            windows.append((np.log(np.maximum(probability[cut], 1e-6)), image[cut], sample.held_out[window]))
    if not windows:
        return start

    def accuracy(weights: CrfWeights) -> float:
        right, seen = np.zeros(n_classes), np.zeros(n_classes)
        for logits, image, truth in windows:
            found = refine(logits, image, weights).argmax(axis=0)
            known = truth != UNLABELLED
            seen += np.bincount(truth[known], minlength=n_classes)
            right += np.bincount(truth[known & (found == truth)], minlength=n_classes)
        return float((right[seen > 0] / seen[seen > 0]).mean())

    best, score = start, accuracy(start)
    for name, value in asdict(start).items():
        for factor in GRID:
            if factor != 1:
                candidate = replace(best, **{name: factor * value})
                reached = accuracy(candidate)
                if reached > score:
                    best, score = candidate, reached
    return best
