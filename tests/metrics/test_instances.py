import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cellscribble.core.errors import InputError
from cellscribble.metrics.contingency import count_overlaps
from cellscribble.metrics.instances import (
    average_precisions,
    components_of_mask,
    match_objects,
    mean_best_dice,
    mean_best_iou,
    mean_dice_per_truth,
    object_dice,
)
from cellscribble.metrics.scores import evaluate

LABELS = arrays(np.uint16, (6, 6), elements=st.integers(0, 4))

# Cell 1 (4 px) is found as 1 with one pixel missing; cell 2 (4 px) is cut into halves 2 and 3;
# cell 3 (2 px) is missed; object 4 (2 px) is no cell.
TRUTH = np.array(
    [
        [1, 1, 0, 2, 2],
        [1, 1, 0, 2, 2],
        [0, 0, 0, 0, 0],
        [3, 3, 0, 0, 0],
    ]
)
FOUND = np.array(
    [
        [1, 1, 0, 2, 2],
        [1, 0, 0, 3, 3],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 4, 4],
    ]
)


def test_objects_are_matched_one_to_one() -> None:
    # IoU of cell 1 is 3/4. Both halves of cell 2 have IoU 1/2; one of them counts.
    matching = match_objects(count_overlaps(FOUND, TRUTH), 0.5)
    assert (matching.n_true_positive, matching.n_false_positive, matching.n_false_negative) == (2, 2, 1)
    assert matching.sum_iou == 0.75 + 0.5
    assert matching.average_precision == 2 / 5
    assert matching.f1 == 4 / 7
    assert matching.segmentation_quality == 0.625
    assert matching.panoptic_quality == pytest.approx(0.625 * 4 / 7)


def test_average_precision_falls_with_the_threshold() -> None:
    # above 0.5 cell 1 alone counts, above 0.75 none
    assert average_precisions(count_overlaps(FOUND, TRUTH), (0.5, 0.55, 0.75, 0.8)) == (2 / 5, 1 / 6, 1 / 6, 0)


def test_mean_dice_per_truth_takes_the_object_that_covers_most() -> None:
    # cell 1: 2*3/(4+3), cell 2: 2*2/(4+2), cell 3: nothing
    assert mean_dice_per_truth(count_overlaps(FOUND, TRUTH)) == pytest.approx((6 / 7 + 2 / 3 + 0) / 3)


def test_mean_best_dice_differs_where_the_covering_object_is_large() -> None:
    truth = np.array([[1, 1, 1, 0, 0, 0]])
    found = np.array([[5, 5, 7, 5, 5, 5]])
    table = count_overlaps(found, truth)
    # object 5 covers most of the cell (Dice 4/8), object 7 fits as well (2/4)
    assert mean_dice_per_truth(table) == 0.5
    # the background's best partner is 5: 2*3/(3+5)
    assert mean_best_dice(table) == pytest.approx((0.75 + 0.5) / 2)
    found = np.array([[5, 5, 7, 7, 0, 0]])
    # cell: 5 gives 2*2/(3+2); background (3 px): 0 gives 2*2/(3+2)
    assert mean_best_dice(count_overlaps(found, truth)) == pytest.approx(0.8)


def test_mean_best_iou_is_the_best_of_each_region_and_the_background() -> None:
    truth = np.array([[1, 1, 1, 0, 0, 0]])
    found = np.array([[5, 5, 7, 5, 5, 5]])
    # cell: object 5 shares 2 of 6 px, object 7 is 1 of its 3; background: 5 shares 3 of 5
    assert mean_best_iou(count_overlaps(found, truth)) == pytest.approx((3 / 5 + 1 / 3) / 2)


def test_the_thesis_scores_filled_pieces_of_64_pixels_or_more() -> None:
    found = np.zeros((20, 40), int)
    found[2:12, 2:12] = 1
    found[5:7, 5:7] = 0  # a hole
    found[2:12, 12:20] = 2  # touches the first: one piece
    found[12:19, 20:29] = 3  # 63 px, but it shares a corner with the second
    found[2:9, 31:40] = 4  # 63 px, alone
    pieces = components_of_mask(found)
    expected = (found > 0) & (found < 4)
    expected[5:7, 5:7] = True
    np.testing.assert_array_equal(pieces, expected)
    truth = np.zeros_like(found)
    truth[2:12, 2:12], truth[2:12, 12:20], truth[2:9, 31:40] = 1, 2, 3
    # The piece has 100 + 80 + 63 px; the third cell is lost.
    score = mean_dice_per_truth(count_overlaps(pieces, truth))
    assert score == pytest.approx((200 / 343 + 160 / 323 + 0) / 3)
    assert evaluate(found, truth).mean_dice_of_components == score
    assert components_of_mask(np.zeros((4, 4, 4), bool)).shape == (4, 4, 4)


def test_object_dice_weighs_by_area_and_counts_false_objects() -> None:
    # truth: 4/10 * 6/7 + 4/10 * 2/3 + 2/10 * 0;  found: 3/9 * 6/7 + 2/9 * 2/3 + 2/9 * 2/3 + 2/9 * 0
    expected = 0.5 * ((0.4 * 6 / 7 + 0.4 * 2 / 3) + (3 / 9 * 6 / 7 + 4 / 9 * 2 / 3))
    assert object_dice(count_overlaps(FOUND, TRUTH)) == pytest.approx(expected)


def test_two_cells_merged_into_one_object_score_half() -> None:
    truth, merged = np.array([[1, 1, 2, 2]]), np.array([[1, 1, 1, 1]])
    table = count_overlaps(merged, truth)
    assert match_objects(table).average_precision == 1 / 2
    assert mean_dice_per_truth(table) == pytest.approx(2 / 3)


def test_nothing_to_find_and_nothing_found_is_right() -> None:
    empty, one = np.zeros((2, 2), int), np.ones((2, 2), int)
    for score in (mean_dice_per_truth, object_dice, lambda t: match_objects(t).panoptic_quality):
        assert score(count_overlaps(empty, empty)) == 1
        assert score(count_overlaps(one, empty)) == score(count_overlaps(empty, one)) == 0


def test_a_threshold_that_would_allow_two_partners_is_refused() -> None:
    with pytest.raises(InputError, match=r"expected 0\.5 to 1"):
        match_objects(count_overlaps(FOUND, TRUTH), 0.3)


@given(LABELS)
def test_a_perfect_prediction_scores_one(labels: np.ndarray) -> None:
    table = count_overlaps(labels, labels)
    assert average_precisions(table) == (1.0,) * 10
    assert match_objects(table).panoptic_quality == 1
    assert mean_dice_per_truth(table) == mean_best_dice(table) == 1
    assert object_dice(table) == pytest.approx(1)


@given(LABELS, LABELS)
@settings(max_examples=60)
def test_matching_and_object_dice_are_symmetric(a: np.ndarray, b: np.ndarray) -> None:
    one, two = count_overlaps(a, b), count_overlaps(b, a)
    assert average_precisions(one) == average_precisions(two)
    assert match_objects(one).panoptic_quality == pytest.approx(match_objects(two).panoptic_quality)
    assert object_dice(one) == pytest.approx(object_dice(two))


@given(LABELS, LABELS, st.permutations([1, 2, 3, 4]))
@settings(max_examples=60)
def test_numbers_of_objects_do_not_matter(a: np.ndarray, b: np.ndarray, order: list[int]) -> None:
    other = np.array([0, *(100 * k for k in order)])[b]
    one, two = count_overlaps(a, b), count_overlaps(a, other)
    assert average_precisions(one) == average_precisions(two)
    assert mean_best_dice(one) == pytest.approx(mean_best_dice(two))
    assert mean_dice_per_truth(one) == pytest.approx(mean_dice_per_truth(two))
    assert object_dice(one) == pytest.approx(object_dice(two))
