import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellscribble.core.intensity import IntensityRule
from cellscribble.core.volume import ImageVolume
from cellscribble.data.holdout import GRID, MIN_STROKES_A_CLASS, hold_out_strokes
from cellscribble.data.samples import Sample, find_strokes, make_sample
from tests.conftest import make_disks


def dotted(shape: tuple[int, ...], seed: int, n_classes: int, spacing: int = 4) -> Sample:
    """Short strokes of random classes on a grid."""
    rng = np.random.default_rng(seed)
    scribbles = np.full(shape, -1, np.int16)
    plane = scribbles[(shape[0] // 2,) if len(shape) == 3 else ...]
    for y in range(1, shape[-2] - 1, spacing):
        for x in range(1, shape[-1] - 2, spacing):
            plane[y, x : x + 2] = rng.integers(-1, n_classes)
    image = ImageVolume(rng.random((1, *shape)), "CYX" if len(shape) == 2 else "CZYX")
    return make_sample(image, scribbles, IntensityRule())


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    share=st.floats(0, 0.99),
    n_classes=st.integers(2, 3),
    n_images=st.integers(1, 3),
    ndim=st.sampled_from([2, 3]),
)
def test_whole_strokes_move_and_none_is_lost(seed, share, n_classes, n_images, ndim):
    shape = (36, 44) if ndim == 2 else (5, 36, 44)
    samples = [dotted(shape, seed + i, n_classes) for i in range(n_images)]
    before = [s.scribbles.copy() for s in samples]
    total = np.bincount([k.label for b in before for k in find_strokes(b, n_classes)], minlength=n_classes)
    done = hold_out_strokes(samples, n_classes, share, np.random.default_rng(seed))
    assert done.n_total == tuple(total)
    held = np.zeros(n_classes, int)
    for sample, original in zip(samples, before, strict=True):
        both = np.where(sample.scribbles >= 0, sample.scribbles, sample.held_out)
        np.testing.assert_array_equal(both, original)
        assert not ((sample.scribbles >= 0) & (sample.held_out >= 0)).any()
        for stroke in find_strokes(original, n_classes):
            moved = sample.held_out.reshape(-1)[stroke.pixels] >= 0
            assert moved.all() or not moved.any()
            held[stroke.label] += moved.all()
    assert done.n_held == tuple(held)
    if share == 0 or total.min() < MIN_STROKES_A_CLASS:
        assert held.sum() == 0
        assert done.reason
    else:
        # Every class is scored, and every class is still learnt, from most of its strokes.
        assert held.min() >= 1
        assert (held <= total // 2).all()
        assert not done.reason


def test_a_quarter_of_the_strokes_is_held_back(rng):
    sample = dotted((100, 100), 1, 2)
    done = hold_out_strokes([sample], 2, 0.25, rng)
    for held, total in zip(done.n_held, done.n_total, strict=True):
        assert held == pytest.approx(0.25 * total, rel=0.2)


def test_strokes_are_held_back_in_spatial_blocks(rng):
    sample = dotted((100, 100), 2, 2, spacing=3)
    done = hold_out_strokes([sample], 2, 0.2, rng)
    for label in range(2):
        middles = [
            np.median(np.unravel_index(s.pixels, (100, 100)), axis=1)
            for s in find_strokes(sample.held_out, 2)
            if s.label == label
        ]
        cells = {tuple((m * GRID // 100).astype(int)) for m in middles}
        # Drawn one by one, this many strokes would lie in nearly all 16 cells.
        assert done.n_held[label] > 50
        assert len(cells) <= 5


def test_with_too_few_strokes_none_is_held_back_and_the_reason_is_said(rng):
    disks = make_disks()
    few = np.where(np.arange(64)[:, None] < 22, disks.scribbles, np.int16(-1))
    sample = make_sample(disks.image, few, IntensityRule())
    done = hold_out_strokes([sample], 2, 0.1, rng)
    assert (done.n_held, done.n_total) == ((0, 0), (3, 3))
    assert done.reason.startswith("a class has only 3 strokes; from 8 in every class on")
    np.testing.assert_array_equal(sample.scribbles, few)


def test_it_can_be_switched_off(rng, disks_2d):
    sample = make_sample(disks_2d.image, disks_2d.scribbles.copy(), IntensityRule())
    assert hold_out_strokes([sample], 2, 0, rng).reason == "hold-out was switched off"
    np.testing.assert_array_equal(sample.scribbles, disks_2d.scribbles)
