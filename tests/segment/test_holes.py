import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from cellscribble.segment.holes import fill_small_holes, widest_px


def test_holes_up_to_the_given_size_are_filled() -> None:
    mask = np.ones((7, 7), bool)
    mask[2, 2] = mask[4, 3:5] = False
    assert fill_small_holes(mask, 1).sum() == 49 - 2
    assert fill_small_holes(mask, 2).all()
    assert fill_small_holes(mask, 0).sum() == 49 - 3


def test_a_gap_at_the_image_border_is_no_hole() -> None:
    mask = np.ones((5, 5), bool)
    mask[0, 2] = False
    assert not fill_small_holes(mask, 10)[0, 2]


def test_background_that_meets_in_a_corner_is_one() -> None:
    mask = np.ones((6, 6), bool)
    mask[2, 2] = mask[3, 3] = False
    assert not fill_small_holes(mask, 1)[2, 2]
    assert fill_small_holes(mask, 2).all()


def test_a_long_slit_between_cells_is_no_hole() -> None:
    mask = np.ones((5, 30), bool)
    mask[2, 4:20] = False
    # 16 px as a square are 4 px wide; twice that is the limit
    assert widest_px(16, 2) == 8
    assert not fill_small_holes(mask, 16)[2, 10]
    assert fill_small_holes(mask[:, :12], 16).sum() == 60 - 8
    mask[2, 12:] = True
    assert fill_small_holes(mask, 16).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.sampled_from([(14, 17), (5, 7, 9)]))
def test_it_is_what_labelling_the_background_gives(seed: int, largest: int, shape: tuple[int, ...]) -> None:
    mask = np.random.default_rng(seed).random(shape) < 0.8
    gaps, _ = ndimage.label(~mask, np.ones((3,) * mask.ndim))
    expected = mask.copy()
    for k, box in enumerate(ndimage.find_objects(gaps), start=1):
        inside = all(s.start > 0 and s.stop < n for s, n in zip(box, shape, strict=True))
        compact = all(s.stop - s.start <= widest_px(largest, mask.ndim) for s in box)
        if inside and compact and (gaps == k).sum() <= largest:
            expected[gaps == k] = True
    np.testing.assert_array_equal(fill_small_holes(mask, largest), expected)
