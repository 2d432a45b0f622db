import math

import numpy as np
import pytest
from skimage.morphology import convex_hull_image

from cellscribble.measure.hull import enclosing_circle, feret_diameters, hull_corners, hull_pixels


def picture(text: str) -> np.ndarray:
    return np.array([[c == "#" for c in line] for line in text.split()])


@pytest.mark.parametrize(
    ("text", "corners"),
    [
        ("#", [(0, 0)]),
        ("###", [(0, 0), (0, 2)]),
        ("# # #", [(0, 0), (2, 0)]),
        ("#.. .#. ..#", [(0, 0), (2, 2)]),
        ("## ##", [(0, 0), (0, 1), (1, 1), (1, 0)]),
        (".#. ### .#.", [(1, 0), (0, 1), (1, 2), (2, 1)]),
        # Two pieces with nothing between them, and a corner that the others hide.
        ("#...# ..... ..#..", [(0, 0), (0, 4), (2, 2)]),
    ],
)
def test_corners_go_round_and_none_lies_on_a_line(text, corners):
    assert [tuple(corner) for corner in hull_corners(picture(text))] == corners


def test_corners_hold_all_pixels(rng):
    for _ in range(50):
        mask = rng.random((9, 7)) < 0.2
        mask[3, 3] = True
        corners, pixels = hull_corners(mask), np.argwhere(mask)
        assert mask[tuple(corners.T)].all()
        for (y0, x0), (y1, x1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            assert all((x1 - x0) * (y - y0) >= (x - x0) * (y1 - y0) for y, x in pixels)
        centre, radius = enclosing_circle(corners)
        apart = np.sqrt(((pixels - centre) ** 2).sum(axis=1))
        assert apart.max() == pytest.approx(radius)
        # A smaller one would leave a pixel outside wherever its centre were.
        nearby = centre + rng.normal(0, 0.3, (40, 1, 2))
        assert (np.sqrt(((pixels - nearby) ** 2).sum(axis=-1)).max(axis=1) >= radius - 1e-9).all()


def test_the_hull_has_the_pixels_that_scikit_image_counts(rng):
    for shape in ((1, 1), (1, 9), (9, 1), (2, 2), (9, 7), (31, 40)):
        for share in (0.03, 0.2, 0.8):
            for _ in range(20):
                mask = rng.random(shape) < share
                mask.flat[rng.integers(mask.size)] = True
                assert hull_pixels(hull_corners(mask)) == convex_hull_image(mask).sum(), mask


@pytest.mark.parametrize(
    ("corners", "centre", "radius"),
    [
        ([(4, 5)], (4, 5), 0),
        ([(0, 0), (0, 6)], (0, 3), 3),
        # The angle at (3, 3) is right, at (1, 3) obtuse, at (9, 3) acute.
        ([(0, 0), (0, 6), (3, 3)], (0, 3), 3),
        ([(0, 0), (0, 6), (1, 3)], (0, 3), 3),
        ([(0, 0), (0, 6), (9, 3)], (4, 3), 5),
    ],
)
def test_the_smallest_circle_worked_by_hand(corners, centre, radius):
    found = enclosing_circle(np.array(corners))
    assert tuple(found[0]) == pytest.approx(centre)
    assert found[1] == pytest.approx(radius)


def test_width_of_a_line_is_nothing():
    assert feret_diameters(np.array([[0, 0], [3, 4]])) == (0, 5)
    assert feret_diameters(np.array([[7, 7]])) == (0, 0)
    assert feret_diameters(np.array([[0, 0], [0, 4], [3, 4], [3, 0]])) == (3, math.hypot(3, 4))
