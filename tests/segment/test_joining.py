import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cellscribble.segment.ascent import follow, uphill
from cellscribble.segment.basins import find_basins
from cellscribble.segment.joining import JoinRule, can_join, join


def basins_of(height: np.ndarray):
    whole = tuple(slice(0, n) for n in height.shape)
    labels, basins = find_basins(np.pad(height.astype(np.int32), 1), whole, (0,) * height.ndim, height.shape)
    return labels.array(), basins


def objects_of(height: np.ndarray, neck_ratio: float, seed_distance_px: float = 0) -> list[int]:
    """The object of each basin of a line of heights, by its first basin."""
    rule = JoinRule(neck_ratio, seed_distance_px, (1.0, 1.0), height.shape)
    _, basins = basins_of(height)
    wide, near = can_join(basins.pairs, basins.neck, basins.summit, basins.height, rule)
    may = wide | near
    joined = join(basins.pairs[may], basins.neck[may], near[may], basins.summit, basins.height, rule)
    # An edge that cannot join never does: with all edges the answer is the same.
    everything = join(basins.pairs, basins.neck, near, basins.summit, basins.height, rule)
    assert np.unique(np.stack([joined, everything]), axis=1).shape[1] == len(np.unique(joined))
    return [joined.tolist().index(k) for k in joined.tolist()]


def test_each_pixel_belongs_to_the_summit_above_it() -> None:
    labels, basins = basins_of(np.array([[4, 3, 1, 5, 2, 2, 4, 0, 1]]))
    assert labels.tolist() == [[1, 1, 2, 2, 2, 3, 3, 0, 4]]
    assert basins.summit.tolist() == [0, 3, 6, 8]
    assert basins.height.tolist() == [4, 5, 4, 1]
    assert basins.size.tolist() == [2, 3, 2, 1]
    assert basins.pairs.tolist() == [[0, 1], [1, 2]]
    assert basins.neck.tolist() == [1, 2]


def test_parts_that_meet_in_a_corner_stay_apart() -> None:
    assert basins_of(np.array([[3, 1, 0], [1, 1, 0], [0, 0, 5]]))[0].tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 2]]
    # over a pixel beside it the corner may be passed
    assert basins_of(np.array([[1, 2, 0], [0, 3, 4]]))[0].tolist() == [[1, 1, 0], [0, 1, 1]]
    corner = np.zeros((2, 2, 2), int)
    corner[0, 0, 0], corner[1, 1, 1] = 1, 9
    assert basins_of(corner)[0].max() == 2
    corner[0, 1, 0] = corner[0, 1, 1] = 1
    assert basins_of(corner)[0].max() == 1


def test_ways_uphill_end_on_a_plateau_too() -> None:
    flat = np.pad(np.ones((5, 6), np.int32), 1).ravel()
    pixels = np.flatnonzero(flat)
    to = np.searchsorted(pixels, uphill(flat, (7, 8), pixels))
    assert np.unique(pixels[follow(to)]).tolist() == [9]


def test_a_wide_neck_joins_and_a_narrow_one_does_not() -> None:
    # necks 3 of 4 (0.75) and 2 of 4 (0.5)
    height = np.array([[4, 3, 5, 2, 4]])
    assert objects_of(height, 0.8) == [0, 1, 2]
    assert objects_of(height, 0.7) == [0, 0, 2]
    assert objects_of(height, 0.4) == [0, 0, 0]
    assert objects_of(height, 1.0) == [0, 1, 2]


def test_a_neck_is_measured_by_the_cluster_and_not_by_its_nearest_summit() -> None:
    # 6 joins 9 over 5; then 4 is wide for the summit 6 (0.67), not for the cluster of 9 and the cell of 8
    assert objects_of(np.array([[9, 5, 6, 4, 8]]), 0.6) == [0, 0, 2]


def test_summits_that_are_near_are_one_object() -> None:
    height = np.array([[4, 1, 5, 1, 1, 1, 6]])
    assert objects_of(height, 0.9, seed_distance_px=2.5) == [0, 0, 2]
    assert objects_of(height, 0.9, seed_distance_px=2.0) == [0, 1, 2]


def test_a_small_summit_between_two_cells_does_not_bridge_them() -> None:
    # 3 is near both; it joins the one with the higher neck, and the two cells are 4 px apart
    assert objects_of(np.array([[9, 2, 3, 1, 9]]), 0.9, seed_distance_px=3.0) == [0, 0, 2]


@given(st.integers(0, 2**32 - 1), st.floats(0.3, 1.0), st.floats(0, 6))
def test_edges_that_cannot_join_may_be_dropped(seed: int, neck_ratio: float, seed_distance_px: float) -> None:
    objects_of(np.random.default_rng(seed).integers(0, 9, (9, 12)), neck_ratio, seed_distance_px)
