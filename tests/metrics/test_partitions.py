import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.metrics import adapted_rand_error as reference_rand
from skimage.metrics import variation_of_information as reference_voi

from cellscribble.metrics.contingency import count_overlaps
from cellscribble.metrics.partitions import adapted_rand_error, variation_of_information

LABELS = arrays(np.int32, (5, 6), elements=st.integers(0, 3))


def test_one_cell_cut_in_two_halves_costs_one_bit_of_split() -> None:
    voi = variation_of_information(count_overlaps(np.array([1, 1, 2, 2]), np.array([1, 1, 1, 1])))
    assert voi == (1, 0)


def test_two_cells_merged_cost_one_bit_of_merge() -> None:
    table = count_overlaps(np.array([1, 1, 1, 1]), np.array([1, 1, 2, 2]))
    assert variation_of_information(table) == (0, 1)
    # pairs: together in both 2*2+2*2, in the prediction 4*4: P = 1/2, R = 1
    assert adapted_rand_error(table) == pytest.approx((1 - 2 * 0.5 / 1.5, 0.5, 1))


def test_what_the_truth_leaves_open_does_not_count() -> None:
    table = count_overlaps(np.array([1, 1, 2, 3, 4]), np.array([1, 1, 2, 0, 0]))
    assert variation_of_information(table) == (0, 0)
    assert adapted_rand_error(table).error == 0


def test_without_true_objects_there_is_no_partition_to_score() -> None:
    table = count_overlaps(np.array([1, 2]), np.array([0, 0]))
    assert np.isnan(variation_of_information(table).split)
    assert np.isnan(adapted_rand_error(table).error)


@given(LABELS, LABELS.filter(lambda a: bool(a.any())))
@settings(max_examples=60)
def test_variation_of_information_equals_scikit_image(labels: np.ndarray, truth: np.ndarray) -> None:
    inside = truth > 0
    # scikit-image returns H(second | first), H(first | second)
    split, merge = reference_voi(truth[inside], labels[inside])
    assert variation_of_information(count_overlaps(labels, truth)) == pytest.approx((split, merge))


def test_rand_error_of_large_objects_equals_scikit_image(rng: np.random.Generator) -> None:
    # scikit-image leaves out pairs of a pixel with itself, which matters for tiny objects alone.
    truth = np.kron(rng.integers(0, 9, (6, 6)), np.ones((40, 40), int))
    labels = np.kron(rng.integers(0, 9, (8, 8)), np.ones((30, 30), int))
    error = adapted_rand_error(count_overlaps(labels, truth)).error
    assert error == pytest.approx(reference_rand(truth, labels)[0], abs=1e-3)


@given(LABELS, LABELS.filter(lambda a: bool(a.any())))
@settings(max_examples=30)
def test_rand_error_counts_pairs_of_pixels(labels: np.ndarray, truth: np.ndarray) -> None:
    a, b = truth[truth > 0], labels[truth > 0]
    same_truth, same_label = a[:, None] == a, b[:, None] == b
    both = (same_truth & same_label).sum()
    precision, recall = both / same_label.sum(), both / same_truth.sum()
    error = 1 - 2 * precision * recall / (precision + recall)
    assert adapted_rand_error(count_overlaps(labels, truth)) == pytest.approx((error, precision, recall))
