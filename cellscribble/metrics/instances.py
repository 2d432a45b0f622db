"""Scores of objects: matching by overlap (AP, F1, PQ) and the object-level Dice of three papers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cellscribble.core.errors import InputError
from cellscribble.metrics.contingency import Contingency

SMALLEST_PIECE_PX = 64
"""Of `components_of_mask`."""

AP_THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@dataclass(frozen=True, slots=True)
class Matching:
    """Objects that found their partner at one IoU threshold, and those that did not."""

    n_true_positive: int
    n_false_positive: int
    n_false_negative: int
    sum_iou: float

    @property
    def average_precision(self) -> float:
        """TP / (TP + FP + FN); 1 where there is no object on either side.

        Source: J. C. Caicedo et al., "Nucleus segmentation across imaging experiments: the 2018 Data
        Science Bowl", Nature Methods 16, 2019; so used by StarDist (U. Schmidt et al., MICCAI 2018).
        """
        return _ratio(self.n_true_positive, self._n_all)

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN); 1 where there is no object on either side."""
        return _ratio(2 * self.n_true_positive, self._n_all + self.n_true_positive)

    @property
    def segmentation_quality(self) -> float:
        """SQ, the mean IoU of the matched pairs; 1 where there is no object, 0 where none matched."""
        return _ratio(self.sum_iou, self.n_true_positive) if self.n_true_positive else float(not self._n_all)

    @property
    def panoptic_quality(self) -> float:
        """PQ = SQ * RQ with RQ = F1.

        Source: A. Kirillov et al., "Panoptic segmentation", CVPR 2019, equations 1 and 2.
        """
        return self.segmentation_quality * self.f1

    @property
    def _n_all(self) -> int:
        return self.n_true_positive + self.n_false_positive + self.n_false_negative


def match_objects(overlaps: Contingency, threshold: float = 0.5) -> Matching:
    """Pair true and predicted objects one to one where IoU >= `threshold`.

    Above 0.5 an object has one possible partner. At exactly 0.5 it may have two, of which one counts
    (">=" as in StarDist; the Data Science Bowl asked for ">").

    Raises
    ------
    InputError
        If the threshold is below 0.5, where the pairing would need an assignment problem.
    """
    if not 0.5 <= threshold <= 1:
        raise InputError(f"the IoU threshold is {threshold}; expected 0.5 to 1")
    truth, labels, iou = _object_ious(overlaps)
    taken_truth: set[int] = set()
    taken_labels: set[int] = set()
    total = 0.0
    candidates = np.flatnonzero(iou >= threshold)
    # At 0.5 ties form stars, never chains (both parts lie within the whole), so greedy is optimal.
    for k in candidates[np.argsort(-iou[candidates], kind="stable")]:
        i, j = int(truth[k]), int(labels[k])
        if i not in taken_truth and j not in taken_labels:
            taken_truth.add(i)
            taken_labels.add(j)
            total += float(iou[k])
    n = len(taken_truth)
    return Matching(n, overlaps.n_labels - n, overlaps.n_truth - n, total)


def average_precisions(overlaps: Contingency, thresholds: Sequence[float] = AP_THRESHOLDS) -> tuple[float, ...]:
    """AP at each IoU threshold, see `Matching.average_precision`."""
    return tuple(match_objects(overlaps, t).average_precision for t in thresholds)


def mean_dice_per_truth(overlaps: Contingency) -> float:
    """mDice of Scribble2Label: each true object against the prediction that covers most of it.

    ``1/N sum_i Dice(G_i, S(i))``, S(i) the predicted object with the most pixels inside G_i, 0 if
    there is none; of two with equally many the lower number. Several true objects may share one
    prediction, and a false object that touches no true one costs nothing.

    Without a true object: 1 if nothing was predicted either, else 0.

    Source: H. Lee and W.-K. Jeong, "Scribble2Label", MICCAI 2020, after K. Nishimura et al.,
    "Weakly supervised cell instance segmentation by propagating from detection response", MICCAI
    2019. Their published script differs in ways that we take for slips: a true object below 20
    pixels counts as 1, and after the first object that is missed so does each later one that
    touches the image's border. It scores connected components of at least 64 pixels: see `components_of_mask`.
    """
    if overlaps.n_truth == 0:
        return float(overlaps.n_labels == 0)
    objects = (overlaps.truth > 0) & (overlaps.labels > 0)
    dice = _pair_dice(overlaps)[objects]
    truth, labels, pixels = overlaps.truth[objects], overlaps.labels[objects], overlaps.pixels[objects]
    order = np.lexsort((labels, -pixels, truth))
    _, first = np.unique(truth[order], return_index=True)
    return float(dice[order][first].sum() / overlaps.n_truth)


def mean_best_dice(overlaps: Contingency) -> float:
    """mDice of ImPartial: the best Dice of each true region, the background counted as one.

    ``1/(N+1) sum_{i=0..N} max_j Dice(G_i, S_j)`` with G_0 and S_0 the background, which is a term
    of its own and may also be a true object's best partner. With many objects it is close to
    `mean_dice_per_truth`, with few the background lifts it.

    Source: N. Martinez et al., "ImPartial: partial annotations for cell instance segmentation",
    bioRxiv 2021; the definition is read from its published evaluation code.
    """
    return _mean_best(overlaps, _pair_dice(overlaps))


def mean_best_iou(overlaps: Contingency) -> float:
    """mIoU of ImPartial: as `mean_best_dice`, of the IoU.

    ``1/(N+1) sum_{i=0..N} max_j IoU(G_i, S_j)``. The partner is the same, since IoU = Dice / (2 - Dice) rises with it.
    """
    dice = _pair_dice(overlaps)
    return _mean_best(overlaps, dice / (2 - dice))


def _mean_best(overlaps: Contingency, scores: npt.NDArray[np.float64]) -> float:
    """The best score of each true region, background too, over the pairs that it is in; their mean."""
    best = np.zeros(len(overlaps.truth_ids))
    np.maximum.at(best, np.searchsorted(overlaps.truth_ids, overlaps.truth), scores)
    return float(best.mean())


def components_of_mask(labels: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """What the thesis scores in place of objects: connected pieces of the foreground, (*spatial) int32.

    Holes are filled, and pieces of less than 64 pixels removed; pixels that share a corner are connected. However the
    prediction tells touching cells apart, here they are one piece: for comparing with the published mDice, nothing
    else. Source: as `mean_dice_per_truth`.
    """
    filled = ndimage.binary_fill_holes(labels != 0)
    pieces, _ = ndimage.label(filled, np.ones((3,) * labels.ndim), output=np.int32)
    pieces[np.bincount(pieces.ravel())[pieces] < SMALLEST_PIECE_PX] = 0
    return np.asarray(pieces)


def object_dice(overlaps: Contingency) -> float:
    """Object-level Dice of the GlaS challenge: symmetric and weighted by area.

    ``1/2 (sum_i w_i D(G_i, S*(G_i)) + sum_j v_j D(G*(S_j), S_j))``, where the star is the object of
    the other image that overlaps most, w_i = |G_i| / sum |G| and v_j = |S_j| / sum |S|. An object
    without any overlap scores 0, so false objects cost. The challenge instead pairs such an object
    with the nearest one, which changes the Hausdorff distance but not the Dice, 0 either way.

    1 if both sides are empty, 0 if one is.

    Source: K. Sirinukunwattana, D. R. J. Snead, N. M. Rajpoot, "A stochastic polygons model for
    glandular structures in colon histology images", IEEE TMI 34, 2015, equations 15 to 17.
    """
    if overlaps.n_truth == 0 or overlaps.n_labels == 0:
        return float(overlaps.n_truth == overlaps.n_labels)
    objects = (overlaps.truth > 0) & (overlaps.labels > 0)
    dice, pixels = _pair_dice(overlaps)[objects], overlaps.pixels[objects]
    truth_px, label_px = (sizes[objects] for sizes in overlaps.sizes_of_pairs())
    total = 0.0
    for ids, sizes, ids_all, sizes_all in (
        (overlaps.truth[objects], truth_px, overlaps.truth_ids, overlaps.truth_pixels),
        (overlaps.labels[objects], label_px, overlaps.label_ids, overlaps.label_pixels),
    ):
        # Of partners that overlap equally the one of higher Dice, so that swapping the images or
        # their numbers changes nothing.
        order = np.lexsort((-dice, -pixels, ids))
        _, first = np.unique(ids[order], return_index=True)
        total += float((dice * sizes)[order][first].sum() / sizes_all[ids_all > 0].sum())
    return total / 2


def _object_ious(overlaps: Contingency) -> tuple[Any, Any, npt.NDArray[np.float64]]:
    objects = (overlaps.truth > 0) & (overlaps.labels > 0)
    truth_px, label_px = (sizes[objects] for sizes in overlaps.sizes_of_pairs())
    shared = overlaps.pixels[objects]
    return overlaps.truth[objects], overlaps.labels[objects], shared / (truth_px + label_px - shared)


def _pair_dice(overlaps: Contingency) -> npt.NDArray[np.float64]:
    truth_px, label_px = overlaps.sizes_of_pairs()
    return np.asarray(2 * overlaps.pixels / (truth_px + label_px))


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else 1.0
