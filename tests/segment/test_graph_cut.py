import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellscribble.core.errors import InputError
from cellscribble.core.volume import relative_spacing
from cellscribble.segment.graph_cut import (
    GraphCut,
    links,
    overlap_px,
    put_on_sides,
    typical_difference,
)


def two_classes(p: np.ndarray) -> np.ndarray:
    return np.stack([1 - p, p]).astype(np.float32)


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), shape=st.sampled_from([(3, 3), (2, 5), (2, 2, 3)]), strength=st.floats(0.1, 0.99))
def test_no_other_segmentation_has_less_of_the_papers_energy(seed, shape, strength):
    rng = np.random.default_rng(seed)
    p, image = rng.random(shape), rng.random((1, *shape)).astype(np.float32)
    cut = GraphCut(strength, sigma=0.4, delta=0.2)
    spacing = (3.0, 1.0, 1.0)[-len(shape) :] if len(shape) == 3 else (1.0, 1.0)
    gamma = strength / (sum(2 / s for s in spacing) * 1.2)

    def energy(inside):
        total = np.abs(inside - p).sum()
        for axis, apart in enumerate(spacing):
            differ = np.abs(np.diff(inside.astype(float), axis=axis))
            square = np.diff(image[0].astype(float), axis=axis) ** 2
            total += (gamma / apart * differ * (np.exp(-square / 0.4**2) + 0.2)).sum()
        return total

    found = put_on_sides(two_classes(p), image, cut, spacing)[1] > 0.5
    every = (np.array([c >> i & 1 for i in range(p.size)], bool).reshape(shape) for c in range(2**p.size))
    # Probability and links are rounded to 1/1024.
    assert energy(found) <= min(energy(one) for one in every) + p.size * 4 / 1024


def test_a_lone_doubtful_pixel_joins_its_neighbours_and_a_certain_one_does_not():
    p = np.full((9, 9), 0.02)
    p[4, 4] = 0.7
    image = np.zeros((1, 9, 9), np.float32)
    assert not (put_on_sides(two_classes(p), image, GraphCut(), (1, 1))[1] > 0).any()
    p[4, 4] = 1.0
    assert np.argwhere(put_on_sides(two_classes(p), image, GraphCut(), (1, 1))[1] > 0).tolist() == [[4, 4]]


def test_a_doubtful_region_goes_up_to_the_edge_of_the_image():
    p = np.full((8, 12), 0.5)
    p[:, :3], p[:, 9:] = 0.9, 0.1
    image = np.zeros((1, 8, 12), np.float32)
    image[..., 7:] = 1
    inside = put_on_sides(two_classes(p), image, GraphCut(sigma=0.2), (1, 1))[1] > 0
    assert inside[:, :7].all()
    assert not inside[:, 7:].any()


def test_sections_that_lie_far_apart_say_little():
    p = np.full((3, 7, 7), 0.02)
    p[1] = 0.62
    image = np.zeros((1, 3, 7, 7), np.float32)
    assert not (put_on_sides(two_classes(p), image, GraphCut(), (1, 1, 1))[1] > 0).any()
    assert (put_on_sides(two_classes(p), image, GraphCut(), (10, 1, 1))[1] > 0).all(axis=(1, 2)).tolist() == [
        False,
        True,
        False,
    ]


def test_all_links_of_a_pixel_together_are_the_strength():
    image = np.full((2, 5, 5, 5), 0.3, np.float32)
    around = links(image, GraphCut(strength=0.8), (4, 1, 1))
    total = sum(w[2, 2, 2] for w in around) + around[0][1, 2, 2] + around[1][2, 1, 2] + around[2][2, 2, 1]
    assert total / 1024 == pytest.approx(0.8, abs=0.005)


def test_classes_keep_their_proportions_inside(rng):
    raw = rng.random((3, 6, 6)).astype(np.float32)
    p = raw / raw.sum(axis=0)
    p[:, 0, 0] = (1, 0, 0)
    out = put_on_sides(p, np.zeros((1, 6, 6), np.float32), GraphCut(), (1, 1))
    np.testing.assert_allclose(out.sum(axis=0), 1, atol=1e-6)
    inside = out[0] == 0
    assert inside.any()
    a, b = p[1:, inside]
    np.testing.assert_allclose(out[1][inside], a / (a + b), rtol=1e-5)
    assert set(np.unique(out[0])) <= {0, 1}


def test_spacing_and_overlap():
    assert relative_spacing(None, 3) == (1, 1, 1)
    assert relative_spacing((2.0, 0.5, 0.5), 3) == (4, 1, 1)
    assert overlap_px((4, 1, 1), (21, 61, 61)) == (4, 16, 16)
    assert overlap_px((1, 1, 1), (0, 9, 61)) == (0, 9, 16)


def test_sigma_follows_the_images_own_noise(rng):
    noise = rng.normal(0, 0.05, (1, 200, 200)).astype(np.float32)
    # Of two pixels: sqrt(2) * 0.05; sigma^2 is twice its square.
    assert typical_difference(noise) == pytest.approx(0.1, rel=0.05)
    assert typical_difference(np.zeros((1, 4, 4), np.float32)) > 0


@pytest.mark.parametrize(
    "change", [{"strength": 1.0}, {"strength": -0.1}, {"sigma": 0.0}, {"delta": 2}, {"sigma": "1"}]
)
def test_settings_out_of_range_are_refused(change):
    with pytest.raises(InputError, match=f"{next(iter(change))} of the graph cut is .*; expected a number from"):
        GraphCut(**change)


def test_settings_survive_a_dictionary_and_unknown_ones_are_named():
    cut = GraphCut(0.5, 0.2, 0.3)
    assert GraphCut.from_dict(cut.to_dict()) == cut
    assert dataclasses.asdict(cut) == cut.to_dict()
    with pytest.raises(InputError, match=r"unknown settings of the graph cut \['gamma'\]; expected strength"):
        GraphCut.from_dict({"gamma": 1})
