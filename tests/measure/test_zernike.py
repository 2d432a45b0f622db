import math

import numpy as np
import pytest

from cellscribble.measure import zernike
from cellscribble.measure.hull import hull_corners
from cellscribble.measure.zernike import INDICES, zernike_features


def features(mask: np.ndarray, start: tuple[int, int] = (0, 0)) -> dict[tuple[int, int], float]:
    values = zernike_features(np.argwhere(mask) + start, hull_corners(mask) + start)
    return dict(zip(INDICES, values.tolist(), strict=True))


def test_a_line_worked_by_hand():
    """Five pixels at -1, -1/2, 0, 1/2, 1 of the circle's radius 2, whose area is 4 pi."""
    found = features(np.ones((1, 5), bool))
    assert len(found) == 30
    assert found[0, 0] == pytest.approx(5 / (4 * math.pi))
    # r^2 twice over: 1 + 1/4 + 0 + 1/4 + 1; the polynomial of (2, 0) is 2 r^2 - 1.
    assert found[2, 0] == pytest.approx((2 * 2.5 - 5) / (4 * math.pi))
    assert found[2, 2] == pytest.approx(2.5 / (4 * math.pi))
    # Opposite pixels cancel in patterns that turn an odd number of times.
    assert max(value for (_, m), value in found.items() if m % 2) == pytest.approx(0, abs=1e-12)
    # 6 r^4 - 6 r^2 + 1 is 1 at 0 and 1, and -1/8 at 1/2.
    assert found[4, 0] == pytest.approx((3 - 2 / 8) / (4 * math.pi))


def test_turning_and_mirroring_change_nothing(rng):
    mask = np.zeros((24, 24), bool)
    mask[5:19, 4:9] = mask[12:19, 4:20] = True
    mask[rng.random(mask.shape) < 0.2] = False
    expected = features(mask)
    for other in (np.rot90(mask), mask[::-1], mask.T):
        assert features(other) == pytest.approx(expected, abs=1e-9)


def test_large_objects_are_summed_in_parts(rng, monkeypatch):
    mask = rng.random((20, 30)) < 0.7
    expected = features(mask)
    monkeypatch.setattr(zernike, "PIXELS_AT_ONCE", 7)
    assert features(mask) == pytest.approx(expected, abs=1e-12)


def test_one_pixel_has_no_circle():
    assert all(math.isnan(value) for value in features(np.ones((1, 1), bool)).values())
