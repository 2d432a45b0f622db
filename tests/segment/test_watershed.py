import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cellscribble.segment import watershed as steps


def test_holes_up_to_the_given_size_are_filled() -> None:
    mask = np.ones((7, 7), bool)
    mask[2, 2] = mask[4, 3:5] = False
    assert steps.fill_small_holes(mask, 1).sum() == 49 - 2
    assert steps.fill_small_holes(mask, 2).all()
    assert steps.fill_small_holes(mask, 0).sum() == 49 - 3


def test_a_gap_at_the_image_border_is_no_hole() -> None:
    mask = np.ones((5, 5), bool)
    mask[0, 2] = False
    assert not steps.fill_small_holes(mask, 10)[0, 2]


def test_height_is_the_distance_to_the_background() -> None:
    mask = np.zeros((5, 7), bool)
    mask[1:4, 1:6] = True
    height = steps.height_map(mask, 0, (1.0, 1.0))
    assert height[2].tolist() == [0, 1, 2, 2, 2, 1, 0]


def test_thick_sections_count_with_their_thickness() -> None:
    mask = np.zeros((3, 9, 9), bool)
    mask[1] = True
    # the next section is 5 px away, the mask has no border in its own section
    assert steps.height_map(mask, 0, (5.0, 1.0, 1.0))[1, 4, 4] == 5


def test_an_image_without_background_has_one_height() -> None:
    assert np.unique(steps.height_map(np.ones((4, 6), bool), 1, (1.0, 1.0))).tolist() == [6]


def test_of_two_close_summits_the_higher_stays() -> None:
    height = np.array([[1, 3, 1, 2, 1, 1.2, 1.5, 3, 1]], np.float32)
    one_part = np.ones_like(height, int)
    seeds = steps.find_seeds(height, one_part, 3.0, (1.0, 1.0))
    assert np.flatnonzero(seeds).tolist() == [1, 7]
    assert steps.find_seeds(height, one_part, 2.0, (1.0, 1.0)).max() == 3
    assert np.flatnonzero(steps.find_seeds(height, one_part, 7.0, (1.0, 1.0))).tolist() == [1]


def test_a_small_cell_beside_a_large_one_keeps_its_seed() -> None:
    height = np.array([[1, 5, 1, 0, 1, 0]], np.float32)
    parts = np.array([[1, 1, 1, 0, 2, 0]])
    assert np.flatnonzero(steps.find_seeds(height, parts, 100.0, (1.0, 1.0))).tolist() == [1, 4]


def test_a_summit_is_dropped_only_for_one_that_stands() -> None:
    # 4 yields to 5 and 5 to 6; then nothing that stands is near 4
    height = np.array([[4, 0.5, 5, 0.5, 6, 0.5]], np.float32)
    seeds = steps.find_seeds(height, np.ones_like(height, int), 2.5, (1.0, 1.0))
    assert np.flatnonzero(seeds).tolist() == [0, 4]


def test_a_wide_neck_joins_and_a_narrow_one_does_not() -> None:
    height = np.array([[4, 3, 3, 5, 2, 2, 4]], np.float32)
    basins = np.array([[1, 1, 2, 2, 2, 3, 3]], np.int32)
    # necks 3 of 4 (0.75) and 2 of 4 (0.5)
    assert steps.join_wide_necks(basins, height, 0.8).tolist() == basins.tolist()
    assert steps.join_wide_necks(basins, height, 0.7).tolist() == [[1, 1, 1, 1, 1, 3, 3]]
    assert steps.join_wide_necks(basins, height, 0.4).max() == 1
    assert steps.join_wide_necks(basins, height, 1.0).tolist() == basins.tolist()


def test_objects_are_numbered_by_their_first_pixel() -> None:
    labels = np.array([[0, 7, 7, 2], [3, 3, 3, 2]], np.int32)
    kept, n = steps.keep_large(labels, 2)
    assert (kept.tolist(), n) == ([[0, 1, 1, 2], [3, 3, 3, 2]], 3)
    kept, n = steps.keep_large(labels, 3)
    assert (kept.tolist(), n) == ([[0, 0, 0, 0], [1, 1, 1, 0]], 1)


@given(arrays(np.int32, (4, 5), elements=st.integers(0, 5)), st.permutations([1, 2, 3, 4, 5]))
@settings(max_examples=50)
def test_numbering_depends_on_position_alone(labels: np.ndarray, order: list[int]) -> None:
    other = np.array([0, *order], np.int32)[labels]
    np.testing.assert_array_equal(steps.keep_large(labels, 1)[0], steps.keep_large(other, 1)[0])


@pytest.mark.parametrize("n", [0, 3])
def test_first_pixel_of_an_absent_label_is_past_the_end(n: int) -> None:
    assert steps.first_pixels(np.zeros((2, 2), np.int32), n).tolist() == [4] * n
