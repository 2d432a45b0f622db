import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellscribble.metrics.overlap import score_masks
from cellscribble.propagation.grabcut import _cost, _cut, _mixture, grabcut
from tests.conftest import make_balls, make_disks


def normalised(example) -> np.ndarray:
    return (np.asarray(example.image.data, np.float32) - 150) / 900


def pairs(*rows):
    one, other, weight = zip(*rows, strict=True)
    return np.array(one), np.array(other), np.array(weight, float)


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 7))
def test_the_cut_is_the_best_of_all_segmentations(seed, n):
    rng = np.random.default_rng(seed)
    gain = rng.normal(0, 3, n)
    votes = rng.choice([-1, 0, 0, 0, 1], n).astype(float)
    edges = [(i, j, rng.exponential(2)) for i in range(n) for j in range(i) if rng.random() < 0.6] or [(1, 0, 1.0)]
    costs = {}
    for code in range(2**n):
        inside = np.array([code >> i & 1 for i in range(n)], bool)
        if (inside[votes > 0]).all() and not (inside[votes < 0]).any():
            costs[code] = -gain[inside & (votes == 0)].sum() + sum(w for i, j, w in edges if inside[i] != inside[j])
    found = _cut(gain, votes, pairs(*edges))
    cost = costs[sum(1 << i for i in range(n) if found[i])]
    # Capacities are rounded to 1/64.
    assert cost == pytest.approx(min(costs.values()), abs=0.25)


def test_a_chain_by_hand():
    # 0 is stroked inside and 3 outside; 1 and 2 gain 1 and -1; the weak link, of weight 2, is cut.
    assert _cut(
        np.array([0.0, 1, -1, 0]), np.array([1.0, 0, 0, -1]), pairs((0, 1, 9), (1, 2, 2), (2, 3, 9))
    ).tolist() == [
        True,
        True,
        False,
        False,
    ]
    # Where the middle link is strong the last one goes: 1 is lost with 2, and 3 is saved.
    assert _cut(
        np.array([0.0, 1, -1, 0]), np.array([1.0, 0, 0, -1]), pairs((0, 1, 9), (1, 2, 9), (2, 3, 2))
    ).tolist() == [
        True,
        True,
        True,
        False,
    ]


def test_a_component_by_hand():
    # Values 1 and 3: weight 2/3 of three pixels, mean 2, variance 1 (+ 0.01^2).
    ((weight, mean, covariance), other) = _mixture(np.array([[1.0], [3.0], [9.0]]), np.array([0, 0, 1]))
    assert (weight, mean.tolist()) == (2 / 3, [2.0])
    assert covariance[0, 0] == pytest.approx(1.0001)
    # -log 2/3 + log(1)/2 + (4 - 2)^2 / 2
    assert _cost(np.array([[4.0]]), weight, mean, np.eye(1))[0] == pytest.approx(np.log(1.5) + 2)
    assert other[0] == 1 / 3


@pytest.mark.parametrize("example", [make_disks(), make_balls()], ids=["2D", "3D"])
def test_disks_and_balls_grow_from_their_strokes(example):
    labels = grabcut(normalised(example), example.scribbles, 2, 5, np.random.default_rng(0))
    assert score_masks(labels == 1, example.mask > 0).iou > 0.75
    stroked = example.scribbles >= 0
    np.testing.assert_array_equal(labels[stroked], example.scribbles[stroked])


def test_two_classes_of_cells_are_told_apart_by_their_colours():
    example = make_disks(0, 2)
    image = normalised(example)
    left = np.arange(64)[None, :] < 22
    image[1] = np.where(left, image[0], image[1, 0, 0])
    strokes = np.where(left & (example.scribbles == 1), 2, example.scribbles)
    labels = grabcut(image, strokes, 3, 5, np.random.default_rng(0))
    for label, where in ((2, left), (1, ~left)):
        assert score_masks((labels == label) & where, (example.mask > 0) & where).iou > 0.6
        assert ((labels == label) & ~where).sum() < 20


def test_a_class_without_strokes_is_not_proposed():
    example = make_disks()
    strokes = np.where(example.scribbles == 1, -1, example.scribbles)
    assert set(np.unique(grabcut(normalised(example), strokes, 2, 5, np.random.default_rng(0)))) == {0}
