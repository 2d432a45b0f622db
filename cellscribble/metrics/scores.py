"""All scores of one image at once, and their mean over images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cellscribble.core.errors import InputError
from cellscribble.metrics import instances, overlap, partitions
from cellscribble.metrics.contingency import count_overlaps

NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one image; NaN where a score does not apply. See each function for its definition.

    semantic : True when numbers are classes, not objects; then the scores of objects are NaN
    iou, dice, precision, recall : of foreground pixels; Dice is the pixels' F1
    auc : area under the ROC curve of the probability
    mean_class_iou : of class maps only
    mean_dice_per_truth, mean_best_dice, object_dice : mDice of Scribble2Label, mDice of ImPartial,
        object Dice of GlaS
    average_precision : (10,) at IoU 0.50, 0.55 .. 0.95
    f1 : of objects at IoU 0.5
    panoptic_quality, segmentation_quality : PQ and SQ; RQ is `f1`
    voi_split, voi_merge : bits
    rand_error : adapted Rand error
    mean_best_iou : mIoU of ImPartial
    mean_dice_of_components : mDice of Scribble2Label as the thesis has it, of connected pieces of the foreground
    """

    n_truth: int
    n_labels: int
    semantic: bool
    iou: float
    dice: float
    precision: float
    recall: float
    auc: float = NAN
    mean_class_iou: float = NAN
    mean_dice_per_truth: float = NAN
    mean_best_dice: float = NAN
    object_dice: float = NAN
    average_precision: tuple[float, ...] = (NAN,) * len(instances.AP_THRESHOLDS)
    f1: float = NAN
    panoptic_quality: float = NAN
    segmentation_quality: float = NAN
    voi_split: float = NAN
    voi_merge: float = NAN
    rand_error: float = NAN
    mean_best_iou: float = NAN
    mean_dice_of_components: float = NAN

    def as_row(self) -> dict[str, float]:
        """The scores by name, flat: `ap_50` .. `ap_95` and their mean `ap_mean`."""
        row: dict[str, float] = {}
        for name in self.__slots__:
            value = getattr(self, name)
            if name != "average_precision":
                row[name] = value
                continue
            for threshold, ap in zip(instances.AP_THRESHOLDS, value, strict=True):
                row[f"ap_{100 * threshold:.0f}"] = ap
            row["ap_mean"] = float(np.mean(value))
        return row


class Mean(NamedTuple):
    """The mean of a score over the n images where it applies, with its interval."""

    mean: float
    low: float
    high: float
    n: int


def evaluate(
    labels: npt.NDArray[Any],
    truth: npt.NDArray[Any],
    probability: npt.NDArray[np.floating[Any]] | None = None,
    *,
    semantic: bool | None = None,
) -> Scores:
    """Score one prediction against its truth.

    Parameters
    ----------
    labels, truth : (*spatial) integer or bool, 0 background
    probability : (*spatial) float, of foreground, or None
    semantic : numbers are classes. None finds out: a mask (see `is_mask`) on either side holds no
        single objects, everything else is taken as objects.

    Raises
    ------
    InputError
        If the shapes differ or the labels are no whole numbers >= 0.
    """
    overlaps = count_overlaps(labels, truth)
    pixels = overlap.score_masks(labels, truth)
    semantic = is_mask(labels) or is_mask(truth) if semantic is None else semantic
    common: dict[str, Any] = {
        "n_truth": overlaps.n_truth,
        "n_labels": overlaps.n_labels,
        "semantic": semantic,
        "iou": pixels.iou,
        "dice": pixels.dice,
        "precision": pixels.precision,
        "recall": pixels.recall,
        "auc": NAN if probability is None else overlap.roc_auc(probability, truth),
    }
    if semantic:
        masks = max(overlaps.n_truth, overlaps.n_labels) <= 1
        # Two masks agree whatever their one number is, 255 or 1.
        return Scores(**common, mean_class_iou=pixels.iou if masks else overlap.mean_iou(labels, truth))
    matching = instances.match_objects(overlaps)
    voi = partitions.variation_of_information(overlaps)
    return Scores(
        **common,
        mean_dice_per_truth=instances.mean_dice_per_truth(overlaps),
        mean_best_dice=instances.mean_best_dice(overlaps),
        object_dice=instances.object_dice(overlaps),
        average_precision=instances.average_precisions(overlaps),
        f1=matching.f1,
        panoptic_quality=matching.panoptic_quality,
        segmentation_quality=matching.segmentation_quality,
        voi_split=voi.split,
        voi_merge=voi.merge,
        rand_error=partitions.adapted_rand_error(overlaps).error,
        mean_best_iou=instances.mean_best_iou(overlaps),
        mean_dice_of_components=instances.mean_dice_per_truth(
            count_overlaps(instances.components_of_mask(labels), truth)
        ),
    )


def is_mask(labels: npt.NDArray[Any]) -> bool:
    """True for a picture of foreground without single objects.

    It has one number besides 0, and that is 255 or lies in several separate places. (One cell in
    one place, numbered 1, is an object all the same.)
    """
    top = labels.max(initial=0)
    if top == 0 or bool(((labels != 0) & (labels != top)).any()):
        return False
    return bool(top == 255) or ndimage.label(labels, np.ones((3,) * labels.ndim))[1] > 1


def bootstrap_interval(
    values: Sequence[float] | npt.NDArray[np.floating[Any]],
    rng: np.random.Generator,
    n: int = 2000,
    level: float = 0.95,
) -> tuple[float, float]:
    """The interval of the mean of `values`, by drawing images anew: (low, high).

    NaN are left out; with fewer than two values the interval is NaN. It tells how far the mean
    depends on which images happened to be chosen, not how good the labels are.

    Raises
    ------
    InputError
        If `level` is not between 0 and 1.

    Source: percentile bootstrap, B. Efron, Annals of Statistics 7, 1979.
    """
    if not 0 < level < 1:
        raise InputError(f"the level is {level}; expected a number between 0 and 1")
    data = np.asarray(values, np.float64)
    data = data[~np.isnan(data)]
    if len(data) < 2:
        return NAN, NAN
    means = np.array([data[rng.integers(len(data), size=len(data))].mean() for _ in range(n)])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def summarise(scores: Iterable[Scores], rng: np.random.Generator) -> dict[str, Mean]:
    """The mean of each score over the images where it applies, with its 95 % interval."""
    rows = [score.as_row() for score in scores]
    means = {}
    for name in rows[0] if rows else ():
        values = np.array([row[name] for row in rows], np.float64)
        values = values[~np.isnan(values)]
        if name != "semantic" and len(values):
            means[name] = Mean(float(values.mean()), *bootstrap_interval(values, rng), len(values))
    return means
