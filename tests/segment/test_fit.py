import json

import numpy as np
import pytest

from cellscribble.core.errors import InputError
from cellscribble.segment.evidence import drawn_holes, find_strokes, judge
from cellscribble.segment.fit import NECK_RATIO, default_parameters, fit_instance_parameters
from cellscribble.segment.instances import segment_mask

FLAT = (1.0, 1.0)


def _discs(shape: tuple[int, int], centres: list[tuple[float, float]], radius: float) -> np.ndarray:
    y, x = np.indices(shape)
    return np.any([(y - a) ** 2 + (x - b) ** 2 <= radius**2 for a, b in centres], axis=0)


def _probability(mask: np.ndarray) -> np.ndarray:
    return np.stack([~mask, mask]).astype(np.float32)


def _pairs_image(gap: float, *, one_stroke: bool) -> tuple[np.ndarray, np.ndarray]:
    """12 pairs of overlapping discs, radius 8, `gap` apart; one stroke over both, or one on each."""
    mask = np.zeros((120, 160), bool)
    scribbles = np.full(mask.shape, -1, np.int16)
    for y in (20, 60, 100):
        for x in (15, 55, 95, 135):
            mask |= _discs(mask.shape, [(y, x), (y, x + gap)], 8)
            scribbles[y, x - 4 : x + 4] = 1
            scribbles[y, int(x + gap) - 3 : int(x + gap) + 5] = 1
            if one_stroke:
                scribbles[y, x - 4 : int(x + gap) + 5] = 1
    return mask, scribbles


def test_strokes_of_one_part_are_at_risk_if_they_are_near() -> None:
    mask = np.zeros((9, 60), bool)
    mask[2:7, 2:40] = True
    mask[2:7, 44:58] = True
    scribbles = np.full(mask.shape, -1, np.int16)
    for x in (4, 10, 30, 50):
        scribbles[4, x : x + 3] = 1
    scribbles[0, :] = 0
    scribbles[8, 5:9] = 1
    strokes = find_strokes(scribbles, mask, FLAT)
    # the stroke on the background is left out; only the first two are within 3 radii of 3 px
    assert strokes.n == 4
    assert strokes.depth.tolist() == [3, 3, 3, 3]
    assert strokes.pairs.tolist() == [[0, 1]]


def test_splits_and_mergers_are_seen() -> None:
    mask = np.zeros((5, 40), bool)
    mask[1:4] = True
    scribbles = np.full(mask.shape, -1, np.int16)
    scribbles[2, 2:12] = 1
    scribbles[2, 15:18] = 1
    scribbles[2, 19:22] = 1
    strokes = find_strokes(scribbles, mask, FLAT)
    labels = np.where(mask, 1, 0)
    labels[:, 10:] *= 2
    split, merged, objects = judge(strokes, labels)
    # 2 of the first stroke's 10 px lie in the second object; strokes 2 and 3 share it
    assert split.tolist() == [True, False, False]
    assert objects.tolist() == [1, 2, 2]
    assert dict(zip(map(tuple, strokes.pairs.tolist()), merged.tolist(), strict=True)) == {
        (0, 1): False,
        (1, 2): True,
    }
    labels[:, 10] = 1
    assert not judge(strokes, labels)[0].any()  # 1 of 10 px only grazes


def test_strokes_in_different_sections_may_be_on_one_cell() -> None:
    mask = np.ones((5, 9, 9), bool)
    mask[:, 0] = False
    scribbles = np.full(mask.shape, -1, np.int16)
    scribbles[1, 4, 3:6] = scribbles[3, 4, 3:6] = 1
    assert find_strokes(scribbles, mask, (1.0, 1.0, 1.0)).pairs.tolist() == []
    scribbles[3, 7, 3:6] = 1
    assert len(find_strokes(scribbles, mask, (1.0, 1.0, 1.0)).pairs) == 1


def test_waisted_cells_drawn_with_one_stroke_stay_whole() -> None:
    mask, scribbles = _pairs_image(12, one_stroke=True)
    other, others = _pairs_image(15, one_stroke=False)
    parameters, report = fit_instance_parameters([_probability(mask), _probability(other)], [scribbles, others])
    assert report["choice"] == "fitted"
    assert report["n_pairs"] == report["default_n_split"] == 12
    assert report["n_split"] == report["n_merged"] == 0
    assert segment_mask(mask, parameters).max() == 12
    assert segment_mask(other, parameters).max() == 24


def test_overlapping_cells_drawn_with_two_strokes_are_cut() -> None:
    mask, scribbles = _pairs_image(8, one_stroke=False)
    parameters, report = fit_instance_parameters([_probability(mask)], [scribbles])
    assert report["n_pairs"] == report["default_n_merged"] == 12
    assert report["n_merged"] == 0
    assert parameters.neck_ratio > NECK_RATIO
    assert segment_mask(mask, parameters).max() == 24
    json.dumps(report)


def test_one_split_stroke_among_many_does_not_move_the_default() -> None:
    mask, scribbles = _pairs_image(15, one_stroke=False)
    scribbles[20, 15:30] = 1  # a slip of the pen over two cells
    parameters, report = fit_instance_parameters([_probability(mask)], [scribbles])
    assert report["default_n_split"] == 1
    assert report["choice"] == "default"
    assert parameters.neck_ratio == NECK_RATIO


def test_without_neighbours_that_are_both_drawn_most_strokes_must_speak() -> None:
    mask, scribbles = _pairs_image(12, one_stroke=True)
    assert fit_instance_parameters([_probability(mask)], [scribbles])[1]["choice"] == "fitted"
    round_cells, strokes = _pairs_image(15, one_stroke=False)
    strokes[:, ::40] = -1
    for x in (15, 55, 95, 135):
        strokes[:, x + 8 : x + 25] = -1  # only the left cell of each pair is drawn
    round_cells_split = strokes.copy()
    round_cells_split[20, 15:30] = 1
    _, report = fit_instance_parameters([_probability(round_cells)], [round_cells_split])
    assert report["choice"] == "default"
    assert "0 pairs" in report["reason"]


def test_lengths_follow_the_size_of_the_cells() -> None:
    small, large = (
        fit_instance_parameters(
            [_probability(np.kron(mask, np.ones((k, k), bool)))], [np.kron(scribbles, np.ones((k, k), np.int16))]
        )[0]
        for mask, scribbles in [_pairs_image(14, one_stroke=False)]
        for k in (1, 2)
    )
    assert large.seed_distance_px == pytest.approx(2 * small.seed_distance_px, rel=0.1)
    assert large.smallest_object_px == pytest.approx(4 * small.smallest_object_px, rel=0.2)


def _neurites(n_across: int) -> tuple[np.ndarray, np.ndarray]:
    """Small cells in rows, and large ones with a mitochondrion of 113 px each, `n_across` of the strokes over it."""
    centres = [(y, x) for y in (30, 90) for x in (30, 90, 150, 210)]
    mask = _discs((180, 240), centres, 24) & ~_discs((180, 240), [(y, x + 8) for y, x in centres], 6)
    mask |= _discs((180, 240), [(y, x) for y in (130, 150, 170) for x in range(10, 240, 20)], 6)
    scribbles = np.full(mask.shape, -1, np.int16)
    for y in (130, 150, 170):
        for x in range(10, 240, 20):
            scribbles[y, x - 3 : x + 4] = 1
    for k, (y, x) in enumerate(centres):
        scribbles[y, x - 15 : x + (18 if k < n_across else -3)] = 1
    return mask, scribbles


def test_strokes_over_holes_say_that_they_belong_to_the_cells() -> None:
    mask, scribbles = _neurites(8)
    parameters, report = fit_instance_parameters([_probability(mask)], [scribbles])
    assert report["drawn_hole_px"] == parameters.largest_hole_px == 113
    labels = segment_mask(mask, parameters)
    assert labels.max() == 8 + 36
    assert labels[30, 38] == labels[30, 20] > 0


@pytest.mark.parametrize("background", [False, True])
def test_holes_stay_open_where_strokes_are_few_or_say_background(background: bool) -> None:
    """A gap that cells close all round is no part of them."""
    mask, scribbles = _neurites(8 if background else 3)
    if background:
        scribbles[_discs(mask.shape, [(y, x + 8) for y in (30, 90) for x in (30, 90, 150, 210)], 6)] = 0
    parameters, report = fit_instance_parameters([_probability(mask)], [scribbles])
    assert report["drawn_hole_px"] == 0
    assert parameters.largest_hole_px < 50
    assert segment_mask(mask, parameters)[30, 38] == 0


def test_a_hole_is_what_the_foreground_encloses_and_says_what_most_of_its_strokes_say() -> None:
    mask = np.ones((12, 30), bool)
    mask[3:6, 3:6] = mask[3:6, 10:13] = mask[3:6, 17:19] = mask[3:6, 22:24] = mask[9:, 3:6] = False
    scribbles = np.full(mask.shape, -1, np.int16)
    scribbles[4, 2:6] = 2
    scribbles[3, 3] = 0
    scribbles[4, 11] = 0
    scribbles[3:5, 17] = 0, 1  # as many of the one as of the other
    scribbles[10, 3:6] = 1  # open at the border
    assert drawn_holes(scribbles, mask).tolist() == [[9, 1], [9, -1]]
    assert drawn_holes(scribbles, ~np.zeros_like(mask)).shape == (0, 2)


def test_without_strokes_on_the_foreground_there_is_nothing_to_fit() -> None:
    empty = np.zeros((8, 8), bool)
    nothing = np.full((8, 8), -1, np.int16)
    parameters, report = fit_instance_parameters([_probability(empty)], [nothing])
    assert report["n_strokes"] == 0
    assert parameters.neck_ratio > 0
    assert fit_instance_parameters([], [])[1]["choice"] == "default"


def test_default_grows_with_the_radius() -> None:
    assert default_parameters(10).seed_distance_px == pytest.approx(6.5)
    assert default_parameters(1).smallest_object_px == 1
    assert [default_parameters(r).largest_radius_px for r in (1, 10, 1000)] == [16, 40, 256]


def test_images_and_strokes_must_belong_together() -> None:
    with pytest.raises(InputError, match="1 probabilities but 0 scribble images"):
        fit_instance_parameters([np.zeros((2, 4, 4))], [])
    with pytest.raises(InputError, match=r"probability is \(2, 4, 4\) but its scribbles are \(4, 5\)"):
        fit_instance_parameters([np.zeros((2, 4, 4))], [np.full((4, 5), -1)])
