"""Scores of partitions, as used for EM volumes: no matching of objects, only who lies with whom.

Pixels that are background in the truth (membrane, unannotated) are left out; predicted background
inside true objects counts as one more region.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cellscribble.metrics.contingency import Contingency


class VariationOfInformation(NamedTuple):
    """Bits. split: H(labels | truth), over-segmentation. merge: H(truth | labels), under-segmentation."""

    split: float
    merge: float


class RandError(NamedTuple):
    """error = 1 - 2 PR / (P + R). Low precision P means merged, low recall R means split objects."""

    error: float
    precision: float
    recall: float


def variation_of_information(overlaps: Contingency) -> VariationOfInformation:
    """The two conditional entropies between prediction and truth; both 0 where they are equal.

    ``H(labels | truth) = -sum_ij p_ij log2(p_ij / p_i)`` with p_ij the share of pixels in true
    object i and predicted object j. NaN where the truth holds no object.

    Source: M. Meila, "Comparing clusterings - an information based distance", J. Multivariate
    Analysis 98, 2007; split and merge as in J. Nunez-Iglesias et al., PLoS ONE 8, 2013.
    """
    inside = overlaps.within(overlaps.truth > 0)
    if not inside.n_truth:
        return VariationOfInformation(float("nan"), float("nan"))
    truth_px, label_px = inside.sizes_of_pairs()
    share = inside.pixels / inside.pixels.sum()
    return VariationOfInformation(_entropy(share, inside.pixels, truth_px), _entropy(share, inside.pixels, label_px))


def adapted_rand_error(overlaps: Contingency) -> RandError:
    """1 - the F-score of pixel pairs that lie together in prediction and truth.

    ``P = sum n_ij^2 / sum n_j^2,  R = sum n_ij^2 / sum n_i^2``, with i true, j predicted objects.
    NaN where the truth holds no object.

    A pixel pairs with itself too, as in the paper (scikit-image leaves these out).

    Source: I. Arganda-Carreras et al., "Crowdsourcing the creation of image segmentation algorithms
    for connectomics", Frontiers in Neuroanatomy 9, 2015 (foreground-restricted Rand F-score).
    """
    inside = overlaps.within(overlaps.truth > 0)
    if not inside.n_truth:
        return RandError(float("nan"), float("nan"), float("nan"))
    # Squares of voxel counts pass 2**63 in a terabyte volume.
    together = float((inside.pixels.astype(np.float64) ** 2).sum())
    precision = together / float((inside.label_pixels.astype(np.float64) ** 2).sum())
    recall = together / float((inside.truth_pixels.astype(np.float64) ** 2).sum())
    return RandError(1 - 2 * precision * recall / (precision + recall), precision, recall)


def _entropy(share: npt.NDArray[Any], pixels: npt.NDArray[np.int64], of: npt.NDArray[np.int64]) -> float:
    # The sum of zeros is -0.0 otherwise.
    return float(max(0.0, -(share * np.log2(pixels / of)).sum()))
