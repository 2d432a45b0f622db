import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cellscribble.config import AugmentConfig
from cellscribble.core.intensity import Intensity, IntensityRule
from cellscribble.core.volume import ImageVolume
from cellscribble.data.batch import collate
from cellscribble.data.patches import Patch, PatchSource, transplant
from cellscribble.data.samples import Sample, make_sample
from tests.conftest import make_disks

PLAIN = AugmentConfig(scale=1, rotate=False, brightness=0, contrast=1, channel_brightness=0, channel_contrast=1)


def numbered(shape: tuple[int, ...], strokes: list[tuple[int, ...]], value: int = 0) -> Sample:
    """An image of one value, with single-pixel strokes of class 1."""
    scribbles = np.full(shape, -1, np.int16)
    for pixel in strokes:
        scribbles[pixel] = 1
    image = ImageVolume(np.full((1, *shape), value, np.uint8), "CYX" if len(shape) == 2 else "CZYX")
    return Sample(image, Intensity((0.0,), (10.0,)), scribbles, np.full(shape, -1, np.int16))


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), y=st.integers(0, 39), x=st.integers(0, 49), ndim=st.sampled_from([2, 3]))
def test_a_patch_on_strokes_shows_its_stroke(seed, y, x, ndim):
    shape, pixel = ((40, 50), (y, x)) if ndim == 2 else ((12, 40, 50), (y % 12, y, x))
    patch_px = (16,) * 2 if ndim == 2 else (8, 16, 16)
    source = PatchSource([numbered(shape, [pixel])], 2, patch_px, 0.0, PLAIN)
    assert (source.draw(np.random.default_rng(seed)).scribbles == 1).sum() == 1


def test_rotated_and_zoomed_patches_show_a_stroke_nearly_always(rng, disks_2d):
    sample = make_sample(disks_2d.image, disks_2d.scribbles, IntensityRule())
    source = PatchSource([sample], 2, (32, 32), 0.0, AugmentConfig())
    assert np.mean([(source.draw(rng).scribbles >= 0).any() for _ in range(100)]) > 0.95


def test_classes_get_equal_turns_however_long_their_strokes_are(rng):
    scribbles = np.full((64, 64), -1, np.int16)
    scribbles[4:20, 4:60] = 0
    scribbles[60, 60] = 1
    sample = numbered((64, 64), [])
    source = PatchSource([Sample(sample.image, sample.intensity, scribbles, sample.held_out)], 2, (8, 8), 0.0, PLAIN)
    share = np.mean([(source.draw(rng).scribbles == 1).any() for _ in range(300)])
    assert share == pytest.approx(0.5, abs=0.1)


def test_images_without_strokes_serve_for_patches_anywhere_only(rng):
    bare, stroked = numbered((32, 32), [], value=7), numbered((32, 32), [(5, 5)], value=3)
    values = {}
    for share in (0.0, 0.5):
        source = PatchSource([bare, stroked], 2, (8, 8), share, PLAIN)
        values[share] = {round(10 * float(source.draw(rng).image[0, 0, 0])) for _ in range(60)}
    assert values == {0.0: {3}, 0.5: {3, 7}}


@pytest.mark.parametrize("shape", [(10, 50), (10, 10), (3, 12, 12)])
def test_an_image_smaller_than_the_patch_is_mirrored_around_and_unlabelled_there(shape, rng):
    pixel = tuple(n // 2 for n in shape)
    sample = numbered(shape, [pixel], value=9)
    patch = PatchSource([sample], 2, (16,) * len(shape), 0.0, PLAIN).draw(rng)
    assert patch.scribbles.shape == (16,) * len(shape)
    np.testing.assert_allclose(patch.image, 0.9, atol=1e-6)
    assert (patch.scribbles == 1).sum() == 1


def test_patches_stay_inside_an_image_that_is_large_enough(rng):
    scribbles = np.zeros((40, 40), np.int16)
    sample = numbered((40, 40), [])
    sample = Sample(sample.image, sample.intensity, scribbles, sample.held_out)
    source = PatchSource([sample], 2, (16, 16), 0.5, PLAIN)
    assert all((source.draw(rng).scribbles == 0).all() for _ in range(50))


def test_without_augmentation_a_patch_is_a_part_of_the_image(rng):
    disks = make_disks()
    sample = make_sample(disks.image, disks.scribbles, IntensityRule())
    patch = PatchSource([sample], 2, (16, 16), 0.0, PLAIN).draw(rng)
    windows = np.lib.stride_tricks.sliding_window_view(sample.normalised()[0], (16, 16))
    orientations = [np.rot90(f, k) for f in (patch.image[0], patch.image[0].T) for k in range(4)]
    assert any(np.isclose(windows, o, atol=1e-5).all(axis=(2, 3)).any() for o in orientations)


def test_a_batch_stacks_patches_and_their_memory(rng, balls_3d):
    sample = make_sample(balls_3d.image, balls_3d.scribbles, IntensityRule())
    sample.memory["ema"] = np.zeros((2, *sample.scribbles.shape), np.float32)
    source = PatchSource([sample], 2, (8, 16, 16), 0.3, AugmentConfig())
    source.look_at(range(len(source.samples)), {"ema": (2, 1 / 3)})
    batch = collate([source.draw(rng) for _ in range(3)], torch.device("cpu"))
    assert batch.image.shape == (3, 1, 8, 16, 16)
    assert batch.image.dtype == torch.float32
    assert batch.scribbles.shape == (3, 8, 16, 16)
    assert batch.scribbles.dtype == torch.int64
    assert batch.memory["ema"].shape == (3, 2, 8, 16, 16)
    assert batch.mask is None


def test_a_source_told_to_look_at_some_images_draws_from_no_other(rng):
    samples = [numbered((20, 20), [(5, 5)], value=value) for value in (2, 4, 9)]
    source = PatchSource(samples, 2, (8, 8), 0.5, PLAIN)
    source.look_at([0, 2], {})
    seen = {round(float(source.draw(rng).image.mean()), 1) for _ in range(60)}
    assert seen == {0.2, 0.9}


def labelled_patch(seed: int, shape: tuple[int, ...], n_strokes: int = 5) -> Patch:
    """Image, strokes, mask and memory all hold the same numbers."""
    rng = np.random.default_rng(seed)
    values = np.full(shape, -1, np.int16)
    values.reshape(-1)[rng.choice(values.size, n_strokes, replace=False)] = rng.integers(0, 100, n_strokes)
    same = values.astype(np.float32)[None]
    return Patch(same, values, values.copy(), {"ema": same.copy()})


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), ndim=st.sampled_from([2, 3]), n=st.integers(1, 4))
def test_transplanted_pieces_take_strokes_mask_and_memory_along(seed, ndim, n):
    shape = (20, 24) if ndim == 2 else (6, 14, 16)
    patches = [labelled_patch(seed + i, shape) for i in range(n)]
    before = [p.scribbles.copy() for p in patches]
    for patch in transplant(patches, 3, (2, 10), np.random.default_rng(seed)):
        np.testing.assert_array_equal(patch.image[0], patch.scribbles)
        np.testing.assert_array_equal(patch.mask, patch.scribbles)
        np.testing.assert_array_equal(patch.memory["ema"][0], patch.scribbles)
        assert np.isin(patch.scribbles, [*np.concatenate(before).ravel(), -1]).all()
    # Donors themselves stay as they were drawn.
    for patch, values in zip(patches, before, strict=True):
        np.testing.assert_array_equal(patch.scribbles, values)


def test_nothing_is_transplanted_from_a_batch_without_strokes(rng):
    patches = [labelled_patch(i, (8, 8), 0) for i in range(3)]
    for patch, out in zip(patches, transplant(patches, 4, (2, 4), rng), strict=True):
        np.testing.assert_array_equal(out.image, patch.image)


def test_a_piece_holds_the_stroke_that_it_was_cut_around(rng):
    bare, stroked = labelled_patch(0, (16, 16), 0), labelled_patch(1, (16, 16), 1)
    out = transplant([bare, stroked], 1, (3, 6), rng)[0]
    assert (out.scribbles >= 0).sum() == 1
