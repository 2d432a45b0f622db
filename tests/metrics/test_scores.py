import math

import numpy as np
import pytest

from cellscribble.core.errors import InputError
from cellscribble.metrics.scores import bootstrap_interval, evaluate, is_mask, summarise

CELLS = np.array([[1, 1, 0, 2, 2], [1, 1, 0, 2, 2]])


def test_a_perfect_prediction_scores_one_everywhere() -> None:
    scores = evaluate(CELLS * 3, CELLS, (CELLS > 0).astype(np.float32))
    for name in ("iou", "dice", "precision", "recall", "auc", "mean_dice_per_truth", "mean_best_dice", "object_dice"):
        assert getattr(scores, name) == pytest.approx(1), name
    assert scores.average_precision == (1.0,) * 10
    assert scores.panoptic_quality == scores.f1 == scores.segmentation_quality == 1
    assert scores.voi_split == scores.voi_merge == scores.rand_error == 0
    assert (scores.n_truth, scores.n_labels, scores.semantic) == (2, 2, False)


def test_touching_cells_are_objects_although_the_mask_is_one() -> None:
    merged, touching = np.array([[1, 1, 1, 1]]), np.array([[1, 1, 2, 2]])
    scores = evaluate(merged, touching)
    assert scores.iou == 1
    assert scores.average_precision[0] == 0.5
    assert scores.voi_merge == 1


def test_masks_have_pixel_scores_only() -> None:
    mask = np.where(CELLS > 0, 255, 0).astype(np.uint8)
    scores = evaluate(CELLS, mask)
    assert scores.semantic
    assert scores.iou == scores.recall == 1
    assert math.isnan(scores.panoptic_quality)
    assert math.isnan(scores.average_precision[0])
    # 255 in one file and 1 in the other mean the same
    assert evaluate((mask > 0).astype(np.uint8), mask).mean_class_iou == 1


def test_class_maps_are_scored_by_class_when_asked() -> None:
    scores = evaluate(np.array([[1, 1, 2, 0]]), np.array([[1, 1, 2, 2]]), semantic=True)
    assert scores.mean_class_iou == (1 + 0.5) / 2
    assert scores.iou == 3 / 4


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.zeros((2, 2), np.uint8), False),
        (CELLS, False),
        (CELLS > 0, True),
        (np.array([[0, 1, 1]]), False),
        (np.array([[0, 255, 255]]), True),
    ],
)
def test_a_mask_is_told_from_objects(labels: np.ndarray, expected: bool) -> None:
    assert is_mask(labels) is expected


def test_row_names_each_threshold() -> None:
    row = evaluate(CELLS, CELLS).as_row()
    assert [name for name in row if name.startswith("ap_")][:2] == ["ap_50", "ap_55"]
    assert row["ap_mean"] == 1


def test_interval_holds_the_mean_and_shrinks_with_more_images(rng: np.random.Generator) -> None:
    few, many = rng.normal(0.7, 0.1, 10), rng.normal(0.7, 0.1, 1000)
    low, high = bootstrap_interval(few, rng)
    assert low < few.mean() < high
    low_many, high_many = bootstrap_interval(many, rng, n=500)
    assert high_many - low_many < (high - low) / 3
    # about mean +- 1.96 s / sqrt(n)
    assert high_many - low_many == pytest.approx(2 * 1.96 * many.std() / math.sqrt(1000), rel=0.2)


def test_interval_of_equal_values_is_that_value_and_of_one_value_unknown(rng: np.random.Generator) -> None:
    assert bootstrap_interval([0.5, 0.5, math.nan, 0.5], rng) == (0.5, 0.5)
    assert all(map(math.isnan, bootstrap_interval([0.5], rng)))
    with pytest.raises(InputError, match="between 0 and 1"):
        bootstrap_interval([0.5, 0.6], rng, level=95)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = [0.1, 0.5, 0.9]
    first, second = (bootstrap_interval(values, np.random.default_rng(3)) for _ in range(2))
    assert first == second


def test_means_leave_out_images_to_which_a_score_does_not_apply(rng: np.random.Generator) -> None:
    scores = [evaluate(CELLS, CELLS), evaluate(CELLS > 0, CELLS > 0)]
    means = summarise(scores, rng)
    assert means["iou"].n == 2
    assert means["panoptic_quality"].n == 1
    assert "auc" not in means
    assert summarise([], rng) == {}
