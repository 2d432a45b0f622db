import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellscribble.config import AugmentConfig
from cellscribble.core.intensity import Intensity
from cellscribble.core.volume import ImageVolume
from cellscribble.data.augment import (
    IntensityChange,
    Placement,
    apply_intensity_change,
    apply_placement,
    draw_intensity_change,
    draw_placement,
)
from cellscribble.data.patches import cut_patch
from cellscribble.data.samples import Sample

QUARTERS = AugmentConfig(scale=1, rotate=False)
ANY = AugmentConfig(scale=1.5, rotate=True)


def whole_placement(ndim: int, n: int, seed: int, config: AugmentConfig) -> Placement:
    centre = np.full(ndim, (n - 1) / 2)
    return draw_placement(centre, (n,) * ndim, config, np.random.default_rng(seed))


def test_the_identity_copies_exactly(rng):
    data = rng.integers(0, 60000, (9, 12)).astype(np.uint16)
    placement = Placement(np.eye(2), np.array([2.0, 3.0]), (4, 5))
    for order in (0, 1):
        out = apply_placement(data, placement, order=order, outside=None)
        np.testing.assert_array_equal(out, data[2:6, 3:8])


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), ndim=st.sampled_from([2, 3]), n=st.integers(3, 8))
def test_quarter_turns_and_flips_only_permute_pixels(seed, ndim, n):
    data = np.random.default_rng(seed).permutation(n**ndim).reshape((n,) * ndim).astype(np.int16)
    placement = whole_placement(ndim, n, seed, QUARTERS)
    nearest = apply_placement(data, placement, order=0, outside=-1)
    linear = apply_placement(data, placement, order=1, outside=None)
    np.testing.assert_array_equal(nearest, linear)
    turns = [np.rot90(data, k, (-2, -1)) for k in range(4)]
    flips = [np.flip(t, axes) for t in turns for axes in ([], [-1])]
    flips += [np.flip(f, 0) for f in flips] if ndim == 3 else []
    assert any((nearest == f).all() for f in flips)


def test_all_eight_orientations_are_drawn():
    data = np.arange(9.0).reshape(3, 3)
    drawn = {
        apply_placement(data, whole_placement(2, 3, seed, QUARTERS), order=0, outside=-1).tobytes()
        for seed in range(100)
    }
    assert len(drawn) == 8


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), ndim=st.sampled_from([2, 3]))
def test_image_strokes_mask_and_memory_move_together(seed, ndim):
    # Wide flat fields, so that linear and nearest sampling agree away from their borders.
    rng = np.random.default_rng(seed)
    shape = (40, 48) if ndim == 2 else (10, 24, 28)
    field = (8, 8) if ndim == 2 else (2, 8, 8)
    coarse = rng.integers(0, 2, [-(-n // f) for n, f in zip(shape, field, strict=True)])
    labels = np.kron(coarse, np.ones(field))[tuple(slice(0, n) for n in shape)]
    sample = Sample(
        image=ImageVolume(labels[None].astype(np.uint8), "CYX" if ndim == 2 else "CZYX"),
        intensity=Intensity((0.0,), (1.0,)),
        scribbles=labels.astype(np.int16),
        held_out=np.full(shape, -1, np.int16),
        mask=labels.astype(np.int16),
        memory={"stack": np.stack([labels, 1 - labels]).astype(np.float32)},
    )
    centre = rng.random(ndim) * shape
    layout = {"stack": (2, 0.5), "not yet made": (1, 0.5)}
    patch = cut_patch(sample, draw_placement(centre, (16,) * ndim, ANY, rng), layout)
    image = patch.image[0]
    np.testing.assert_array_equal(patch.memory["not yet made"], np.full((1, *image.shape), 0.5))
    np.testing.assert_array_equal(patch.memory["stack"][0], image)
    np.testing.assert_allclose(patch.memory["stack"][1], 1 - image, atol=1e-5)
    np.testing.assert_array_equal(patch.mask, patch.scribbles)
    inside = patch.scribbles >= 0
    # Where linear sampling sees one value only, nearest sampling sees the same.
    flat = inside & ((image < 1e-6) | (image > 1 - 1e-6))
    np.testing.assert_array_equal(patch.scribbles[flat], np.round(image[flat]))


def test_beyond_the_border_strokes_are_unlabelled_and_the_image_is_mirrored():
    data = np.array([[1, 2, 3]], np.int16).repeat(3, axis=0)
    placement = Placement(np.eye(2), np.array([0.0, -2.0]), (3, 5))
    np.testing.assert_array_equal(apply_placement(data, placement, order=0, outside=-1)[0], [-1, -1, 1, 2, 3])
    np.testing.assert_array_equal(apply_placement(data, placement, order=1, outside=None)[0], [3, 2, 1, 2, 3])


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), ndim=st.sampled_from([2, 3]))
def test_the_centre_comes_to_the_middle_and_sections_are_not_mixed(seed, ndim):
    rng = np.random.default_rng(seed)
    centre = rng.random(ndim) * 50
    placement = draw_placement(centre, (9,) * ndim, ANY, rng)
    np.testing.assert_allclose(placement.matrix @ np.full(ndim, 4) + placement.offset, centre, atol=1e-9)
    if ndim == 3:
        assert placement.matrix[0, 1:].tolist() == placement.matrix[1:, 0].tolist() == [0, 0]
        assert abs(placement.matrix[0, 0]) == 1
    zoom = np.sqrt(abs(np.linalg.det(placement.matrix[-2:, -2:])))
    assert 1 / 1.5 - 1e-6 <= zoom <= 1.5 + 1e-6


def test_contrast_turns_about_mid_grey_channel_by_channel():
    image = np.array([[[0.0, 0.5, 1.0]]] * 2, np.float32)
    change = IntensityChange(contrast=np.float32([2.0, 1.0]), brightness=np.float32([0.1, -0.2]))
    out = apply_intensity_change(image, change)
    np.testing.assert_allclose(out, [[[-0.4, 0.6, 1.6]], [[-0.2, 0.3, 0.8]]], atol=1e-6)
    assert out.dtype == np.float32


def test_no_augmentation_is_none(rng):
    config = AugmentConfig(scale=1, rotate=False, brightness=0, contrast=1, channel_brightness=0, channel_contrast=1)
    image = rng.random((2, 4, 4)).astype(np.float32)
    change = draw_intensity_change(config, 2, rng)
    np.testing.assert_allclose(apply_intensity_change(image, change), image, atol=1e-7)


def test_stains_change_by_themselves_and_a_single_channel_only_as_a_whole():
    config = AugmentConfig(brightness=0, contrast=1, channel_brightness=0.2, channel_contrast=2)
    stains = draw_intensity_change(config, 3, np.random.default_rng(0))
    assert len(set(stains.contrast.tolist())) == len(set(stains.brightness.tolist())) == 3
    assert (np.abs(stains.brightness) <= 0.2).all()
    assert (np.abs(np.log2(stains.contrast)) <= 1).all()
    grey = draw_intensity_change(config, 1, np.random.default_rng(0))
    assert (grey.contrast == 1).all()
    assert (grey.brightness == 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_same_generator_gives_the_same_patch(seed, disks_2d):
    draws = [
        draw_placement(np.array([30.0, 30.0]), (16, 16), ANY, np.random.default_rng(seed)).matrix for _ in range(2)
    ]
    np.testing.assert_array_equal(*draws)
