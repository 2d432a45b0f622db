"""Scores of pixels: how far two masks, two class maps, or a probability and a mask agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from cellscribble.metrics.contingency import check_same_shape, count_overlaps

MAX_RANKED_PIXELS = 1 << 22
N_BINS = 1 << 16


@dataclass(frozen=True, slots=True)
class PixelScores:
    """Agreement of two masks. The pixels' F1 is their Dice.

    Where a denominator is 0, nothing is there to be found or to be wrong: the score is 1. So two
    empty masks agree fully, and an empty mask against a full one has IoU 0.
    """

    n_true_positive: int
    n_false_positive: int
    n_false_negative: int

    @property
    def iou(self) -> float:
        """TP / (TP + FP + FN), Jaccard's index."""
        return _ratio(self.n_true_positive, self.n_true_positive + self.n_false_positive + self.n_false_negative)

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN)."""
        two = 2 * self.n_true_positive
        return _ratio(two, two + self.n_false_positive + self.n_false_negative)

    @property
    def precision(self) -> float:
        """TP / (TP + FP): the share of the prediction that is right."""
        return _ratio(self.n_true_positive, self.n_true_positive + self.n_false_positive)

    @property
    def recall(self) -> float:
        """TP / (TP + FN): the share of the truth that was found."""
        return _ratio(self.n_true_positive, self.n_true_positive + self.n_false_negative)


def score_masks(prediction: npt.NDArray[Any], truth: npt.NDArray[Any]) -> PixelScores:
    """Compare two masks (*spatial); anything but 0 is foreground.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    check_same_shape(prediction, truth)
    found, real = prediction != 0, truth != 0
    both = int((found & real).sum())
    return PixelScores(both, int(found.sum()) - both, int(real.sum()) - both)


def score_classes(prediction: npt.NDArray[Any], truth: npt.NDArray[Any]) -> dict[int, PixelScores]:
    """Compare two class maps (*spatial) int: the scores of each class that occurs in either, without 0."""
    table = count_overlaps(prediction, truth)
    truth_px = dict(zip(table.truth_ids.tolist(), table.truth_pixels.tolist(), strict=True))
    found_px = dict(zip(table.label_ids.tolist(), table.label_pixels.tolist(), strict=True))
    same = table.truth == table.labels
    shared = dict(zip(table.truth[same].tolist(), table.pixels[same].tolist(), strict=True))
    scores = {}
    for c in sorted({*truth_px, *found_px} - {0}):
        both = shared.get(c, 0)
        scores[c] = PixelScores(both, found_px.get(c, 0) - both, truth_px.get(c, 0) - both)
    return scores


def mean_iou(prediction: npt.NDArray[Any], truth: npt.NDArray[Any]) -> float:
    """The mean IoU over the classes that occur in either class map, without background; 1 if none does."""
    scores = score_classes(prediction, truth)
    return float(np.mean([s.iou for s in scores.values()])) if scores else 1.0


def roc_auc(probability: npt.NDArray[np.floating[Any]], truth: npt.NDArray[Any]) -> float:
    """The area under the ROC curve: the chance that a foreground pixel has the higher probability.

    Parameters
    ----------
    probability : (*spatial) float, of foreground
    truth : (*spatial), anything but 0 is foreground

    Returns
    -------
    float
        NaN if the truth is all foreground or all background, where there is nothing to rank.

    Raises
    ------
    InputError
        If the shapes differ.

    Notes
    -----
    ``AUC = (R - n(n+1)/2) / (n m)``, R the sum of the ranks of the n foreground among all n + m
    pixels, ties sharing their mean rank (Mann-Whitney U; J. A. Hanley and B. J. McNeil, Radiology
    143, 1982). Exact up to 4 million pixels; above, values are counted in 65,536 bins between the
    extremes and pixels of one bin are ties.
    """
    check_same_shape(probability, truth)
    real = (truth != 0).ravel()
    n, m = int(real.sum()), int(real.size - real.sum())
    if n == 0 or m == 0:
        return float("nan")
    values = probability.ravel()
    if real.size <= MAX_RANKED_PIXELS:
        ranks = stats.rankdata(values)
        return float((ranks[real].sum() - n * (n + 1) / 2) / (n * m))
    low, high = float(values.min()), float(values.max())
    bins = np.minimum((values - low) * (N_BINS / max(high - low, 1e-30)), N_BINS - 1).astype(np.int64)
    inside = np.bincount(bins[real], minlength=N_BINS)
    outside = np.bincount(bins[~real], minlength=N_BINS)
    below = np.cumsum(outside) - outside
    return float((inside * (below + 0.5 * outside)).sum() / (n * m))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
