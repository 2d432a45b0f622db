import numpy as np
import pytest
from scipy.stats import ttest_ind

from cellscribble.propagation.certainty import Spread, welch_p
from cellscribble.segment.edge_level import shift_to_edge


def spread_of(predictions: np.ndarray) -> Spread:
    spread = Spread.of(predictions[0])
    for prediction in predictions[1:]:
        spread.add(prediction)
    return spread


def test_mean_and_variance_are_those_of_all_predictions(rng):
    p = rng.random((7, 3, 4, 5)).astype(np.float32)
    spread = spread_of(p)
    np.testing.assert_allclose(spread.mean, p.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(spread.squares / 6, p.var(axis=0, ddof=1), rtol=1e-4)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_the_test_is_scipys_between_the_two_best_classes(k, rng):
    p = rng.dirichlet(np.ones(k), (9, 30)).transpose(0, 2, 1).astype(np.float32)
    found = welch_p(spread_of(p))
    for i in range(30):
        second, first = np.argsort(p[:, :, i].mean(axis=0))[-2:]
        expected = ttest_ind(p[:, first, i].astype(float), p[:, second, i].astype(float), equal_var=False).pvalue
        assert found[i] == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_what_never_varies_is_sure_unless_the_two_are_equal():
    p = np.repeat(np.array([[[0.3, 0.5], [0.7, 0.5]]], np.float32), 5, axis=0)
    assert welch_p(spread_of(p)).tolist() == [0, 1]


def test_at_a_level_the_background_counts_more_or_less(rng):
    p = rng.dirichlet(np.ones(3), (6, 40)).transpose(0, 2, 1).astype(np.float32)
    spread = spread_of(p)
    moved = spread.at_level(0.75)  # odds 3
    np.testing.assert_array_equal(moved.mean.argmax(axis=0), shift_to_edge(spread.mean, 0.75).argmax(axis=0))
    expected = spread_of(p * np.array([3, 1, 1], np.float32)[:, None])
    np.testing.assert_allclose(welch_p(moved), welch_p(expected), rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(welch_p(spread.at_level(0.5)), welch_p(spread))
