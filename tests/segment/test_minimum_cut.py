import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellscribble.segment.minimum_cut import cut_grid

SHAPES = [(2, 5), (3, 3), (1, 7), (2, 2, 3), (1, 4, 2)]


def energy(inside: np.ndarray, gain: np.ndarray, weights: list[np.ndarray]) -> int:
    """Written once more, pixel by pixel."""
    total = -int(gain[inside].sum())
    for axis, weight in enumerate(weights):
        for at in itertools.product(*(range(n) for n in gain.shape)):
            to = tuple(i + (a == axis) for a, i in enumerate(at))
            if to[axis] < gain.shape[axis] and inside[at] != inside[to]:
                total += int(weight[at])
    return total


def best(gain: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    """Of all segmentations the one of least energy; of several the one of fewest pixels."""
    n = gain.size
    every = (np.array([code >> i & 1 for i in range(n)], bool).reshape(gain.shape) for code in range(2**n))
    return min(every, key=lambda inside: (energy(inside, gain, weights), inside.sum()))


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), shape=st.sampled_from(SHAPES), strong=st.integers(2, 12))
def test_the_cut_of_a_grid_is_the_best_of_all_segmentations(seed, shape, strong):
    rng = np.random.default_rng(seed)
    gain = rng.integers(-9, 10, shape).astype(np.int32)
    weights = [rng.integers(0, strong, shape).astype(np.int32) for _ in shape]
    np.testing.assert_array_equal(cut_grid(gain, weights), best(gain, weights))


def test_pixels_that_are_sure_need_no_flow(monkeypatch):
    monkeypatch.setattr("scipy.sparse.csgraph.maximum_flow", None)
    gain = np.array([[9, 9, -1, 9, -9, 2, -9]], np.int32)
    # Links of 2: the third pixel is drawn in by its neighbours, the sixth out by its own.
    weights = [np.zeros_like(gain), np.full_like(gain, 2)]
    assert cut_grid(gain, weights).tolist() == [[True, True, True, True, False, False, False]]


def test_a_row_that_only_a_flow_can_decide():
    # Alone no pixel outweighs its links of 5; together three of gain 3 outweigh what they cut.
    gain = np.array([[-9, 3, 3, 3, -9]], np.int32)
    weights = [np.zeros_like(gain), np.full_like(gain, 4)]
    assert cut_grid(gain, weights).tolist() == [[False, True, True, True, False]]
    weights = [np.zeros_like(gain), np.full_like(gain, 5)]
    assert not cut_grid(gain, weights).any()


@pytest.mark.parametrize("shape", [(1,), (4, 1, 1), (0, 3)])
def test_thin_and_empty_grids(shape):
    gain = np.ones(shape, np.int32)
    assert cut_grid(gain, [np.zeros_like(gain)] * len(shape)).tolist() == (gain > 0).tolist()
