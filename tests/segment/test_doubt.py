"""Whether a model is as sure of an image as of those that it learnt from."""

import numpy as np
import pytest

from cellscribble.segment.doubt import FEWEST_PX, Doubt, doubt, unlike, usual_doubt, usual_words


def seen(*foreground: tuple[float, int]) -> np.ndarray:
    """Probability (2, 1, n) of an image: so many pixels of each probability of foreground."""
    line = np.concatenate([np.full((1, n), p, np.float32) for p, n in foreground], axis=1)
    return np.stack([1 - line, line])


def test_doubt_is_unsure_pixels_for_each_sure_one_and_leaves_out_background() -> None:
    assert doubt(seen((0.01, 5000), (0.5, 100), (0.99, 400))) == 0.25
    assert doubt(seen((0.01, 5000), (0.5, FEWEST_PX - 1))) is None
    assert doubt(seen((0.5, FEWEST_PX))) == FEWEST_PX


def test_an_image_seen_piece_by_piece_is_the_whole() -> None:
    whole, pieces = seen((0.01, 500), (0.4, 60), (0.99, 300)), Doubt()
    for low in range(0, whole.shape[-1], 170):
        pieces.add(whole[..., low : low + 170])
    assert pieces.value == doubt(whole)


def test_foreground_of_several_classes_counts_together() -> None:
    two = seen((0.01, 500), (0.5, 60), (0.99, 300))
    three = np.stack([two[0], two[1] / 2, two[1] / 2])
    assert doubt(three) == doubt(two)


def test_what_is_usual_takes_three_images_and_no_odd_one() -> None:
    assert usual_doubt([0.2, None, 0.3]) is None
    low, high = usual_doubt([0.2] * 50 + [9.0]) or (0, 0)
    assert (low, high) == (0.2, 0.2)
    assert usual_words((low, high)) == "17%"
    assert usual_words((0.004, 999.0)) == "0.4% to 100%"


@pytest.mark.parametrize(("found", "odd"), [(0.1, False), (0.3, False), (0.36, False), (0.5, True), (0.01, True)])
def test_images_of_another_kind_are_told(found: float, odd: bool) -> None:
    said = unlike(found, (0.1, 0.3))
    assert bool(said) == odd
    assert not odd or "9.1% to 23%" in said


def test_nothing_is_said_where_nothing_is_known() -> None:
    assert unlike(9.0, None) == unlike(None, (0.1, 0.3)) == ""
