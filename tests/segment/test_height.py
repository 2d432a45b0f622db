import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from cellscribble.segment.height import LEVELS_A_PX, height_map, reach_px, squared_distance, top_level

FLAT = (1.0, 1.0)


def test_height_is_the_distance_to_the_background() -> None:
    mask = np.zeros((5, 7), bool)
    mask[1:4, 1:6] = True
    height = height_map(mask, 0, 64.0, FLAT)
    assert (height[2] / LEVELS_A_PX).tolist() == [0, 1, 2, 2, 2, 1, 0]


def test_thick_sections_count_with_their_thickness() -> None:
    mask = np.zeros((3, 9, 9), bool)
    mask[1] = True
    # the next section is 5 px away, the mask has no border in its own section
    assert height_map(mask, 0, 64.0, (5.0, 1.0, 1.0))[1, 4, 4] == 5 * LEVELS_A_PX


def test_an_image_without_background_has_one_height() -> None:
    assert np.unique(height_map(np.ones((4, 6), bool), 1, 3.0, FLAT)).tolist() == [top_level(3.0)]
    assert not height_map(np.zeros((4, 6), bool), 1, 3.0, FLAT).any()


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(9, 40), (30, 31), (6, 9, 12)]),
    st.sampled_from([2.0, 5.5, 20.0, 200.0]),
    st.sampled_from([1.0, 2.0, 3.3]),
)
def test_squared_distances_are_those_of_scipy_up_to_the_cap(
    seed: int, shape: tuple[int, ...], cap: float, thick: float
) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) > rng.choice([0.003, 0.03, 0.3])
    mask.ravel()[rng.integers(mask.size)] = False
    spacing = (thick, *(1.0,) * (len(shape) - 1))
    expected = np.minimum(ndimage.distance_transform_edt(mask, sampling=spacing) ** 2, cap**2)
    np.testing.assert_allclose(squared_distance(mask, cap, spacing), expected, rtol=1e-6)


def test_smoothing_is_a_gaussian_that_reflects_at_the_border(rng: np.random.Generator) -> None:
    mask = rng.random((40, 50)) > 0.05
    distance = ndimage.distance_transform_edt(mask)
    expected = ndimage.gaussian_filter(distance, 1.5, truncate=3.0) * LEVELS_A_PX
    np.testing.assert_allclose(height_map(mask, 1.5, 64.0, FLAT)[mask], expected[mask], atol=0.51)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.5, 1.0)])
def test_a_height_depends_on_its_reach_alone(spacing: tuple[float, float], rng: np.random.Generator) -> None:
    mask = rng.random((60, 70)) > 0.02
    a, b = reach_px(1.3, 6.0, spacing)
    window = height_map(mask[5:50, 9:66], 1.3, 6.0, spacing)
    np.testing.assert_array_equal(
        window[a:-a, b:-b], height_map(mask, 1.3, 6.0, spacing)[5 + a : 50 - a, 9 + b : 66 - b]
    )


@given(st.integers(0, 2**32 - 1), st.sampled_from([(40, 30), (9, 14, 12)]), st.sampled_from([3.0, 6.5]))
def test_the_part_asked_for_is_that_of_the_whole(seed: int, shape: tuple[int, ...], cap: float) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) > rng.choice([0.01, 0.1])
    spacing = (rng.choice([1.0, 2.5]), *(1.0,) * (len(shape) - 1))
    edges = [np.sort(rng.choice(n + 1, 2, replace=False)) for n in shape]
    kept = tuple(slice(int(a), int(b)) for a, b in edges)
    np.testing.assert_array_equal(height_map(mask, 1.3, cap, spacing, kept), height_map(mask, 1.3, cap, spacing)[kept])
