import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cellscribble.core.errors import InputError
from cellscribble.metrics import overlap
from cellscribble.metrics.overlap import mean_iou, roc_auc, score_classes, score_masks


def test_scores_of_two_masks() -> None:
    found = np.array([[1, 1, 0], [1, 0, 0]])
    real = np.array([[9, 9, 9], [0, 9, 0]])
    scores = score_masks(found, real)
    # 2 pixels right, 1 too many, 2 missed
    assert scores.iou == 2 / 5
    assert scores.dice == 4 / 7
    assert scores.precision == 2 / 3
    assert scores.recall == 2 / 4


def test_two_empty_masks_agree_and_an_empty_one_misses_everything() -> None:
    empty, full = np.zeros((2, 2), int), np.ones((2, 2), int)
    assert score_masks(empty, empty).iou == score_masks(empty, empty).dice == 1
    assert score_masks(empty, full).iou == score_masks(full, empty).dice == 0


def test_masks_of_other_shape_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(2, 2\) but the truth is \(2, 3\)"):
        score_masks(np.zeros((2, 2)), np.zeros((2, 3)))


def test_each_class_is_scored_and_a_class_found_wrongly_counts() -> None:
    found = np.array([1, 1, 2, 3])
    real = np.array([1, 1, 2, 2])
    scores = score_classes(found, real)
    assert [scores[c].iou for c in (1, 2, 3)] == [1, 0.5, 0]
    assert mean_iou(found, real) == 0.5
    assert mean_iou(np.zeros(3, int), np.zeros(3, int)) == 1


def test_auc_counts_the_pairs_in_the_right_order() -> None:
    probability = np.array([0.9, 0.4, 0.4, 0.1])
    truth = np.array([1, 1, 0, 0])
    # of the 4 pairs 3 are right and one is a tie
    assert roc_auc(probability, truth) == 3.5 / 4


def test_auc_equals_scikit_learn(rng: np.random.Generator) -> None:
    truth = rng.random((40, 40)) < 0.3
    probability = np.round(0.5 * truth + rng.random((40, 40)), 2)
    assert roc_auc(probability, truth) == pytest.approx(roc_auc_score(truth.ravel(), probability.ravel()))


def test_auc_of_a_large_image_is_nearly_exact(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = rng.random(20_000) < 0.3
    probability = (0.2 * truth + rng.random(20_000)).astype(np.float32)
    exact = roc_auc(probability, truth)
    monkeypatch.setattr(overlap, "MAX_RANKED_PIXELS", 0)
    assert roc_auc(probability, truth) == pytest.approx(exact, abs=1e-5)


def test_auc_needs_both_foreground_and_background() -> None:
    assert np.isnan(roc_auc(np.ones(3), np.ones(3)))
