import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellscribble.core.intensity import Intensity, IntensityRule
from cellscribble.core.volume import ImageVolume
from cellscribble.data.samples import Sample, find_strokes, make_sample
from cellscribble.train.score import score_strokes, scoring_windows


def held(strokes: np.ndarray, values: np.ndarray | None = None) -> Sample:
    shape = strokes.shape
    data = np.zeros((1, *shape), np.float32) if values is None else values[None].astype(np.float32)
    image = ImageVolume(data, "CYX" if len(shape) == 2 else "CZYX")
    return Sample(image, Intensity((0.0,), (1.0,)), np.full(shape, -1, np.int16), strokes)


def says(classes_of):
    """A predictor that puts all probability on the class that the image's value names."""
    return lambda image: np.eye(3, dtype=np.float32)[classes_of(image[0])].transpose(-1, *range(image.ndim - 1))


def seen_in(windows, sample: Sample) -> np.ndarray:
    out = np.full(sample.held_out.shape, -1, np.int16)
    for window in windows:
        part = out[window.slices]
        assert part.shape == tuple(s.stop - s.start for s in window.slices)
        for stroke in window.strokes:
            flat = part.copy().reshape(-1)
            flat[stroke.pixels] = stroke.label
            part[...] = flat.reshape(part.shape)
    return out


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), patch=st.integers(3, 40), ndim=st.sampled_from([2, 3]), share=st.floats(0.01, 0.5))
def test_each_held_out_stroke_is_in_one_window(seed, patch, ndim, share):
    rng = np.random.default_rng(seed)
    shape = (23, 31) if ndim == 2 else (5, 14, 17)
    # Blobs of any form, larger than the window or not.
    strokes = np.where(rng.random(shape) < share, rng.integers(0, 2, shape), -1).astype(np.int16)
    sample = held(strokes)
    windows = scoring_windows([sample], 2, (patch,) * ndim)
    assert sum(len(w.strokes) for w in windows) == len(find_strokes(strokes, 2))
    seen = seen_in(windows, sample)
    np.testing.assert_array_equal(seen[seen >= 0], strokes[seen >= 0])
    for window in windows:
        assert all(len(s.pixels) for s in window.strokes)
        assert all(0 <= s.start < s.stop <= n for s, n in zip(window.slices, shape, strict=True))


def test_a_bent_stroke_is_scored_where_it_is_drawn():
    # A frame of 41 px: its middle lies 20 px away from all its pixels, the window is 16 px.
    strokes = np.full((64, 64), -1, np.int16)
    strokes[10:51, 10:51] = 1
    strokes[11:50, 11:50] = -1
    windows = scoring_windows([held(strokes)], 2, (16, 16))
    assert sum(len(s.pixels) for w in windows for s in w.strokes) >= 16


def test_images_without_held_out_strokes_need_no_window(disks_2d):
    assert scoring_windows([make_sample(disks_2d.image, disks_2d.scribbles, IntensityRule())], 2, (32, 32)) == []


def test_score_by_hand(rng):
    # Class 0: strokes right on 4/4 and 2/4 of their pixels; class 1: on 3/4. Mean of .75 and .75.
    strokes = np.full((7, 4), -1, np.int16)
    strokes[0], strokes[2], strokes[4] = 0, 0, 1
    truth = np.zeros((7, 4), int)
    truth[2, :2] = 1
    truth[4] = [1, 1, 1, 0]
    score = score_strokes(
        scoring_windows([held(strokes, truth)], 2, (7, 4)), says(lambda x: np.round(x).astype(int)), 2, rng
    )
    assert score.score == pytest.approx(0.75)
    assert score.n_strokes == (2, 1)
    # Of two strokes and one nothing can be said about others.
    assert (score.low, score.high) == (None, None)
    # Bootstrapped means of class 0 are .5, .75 (twice as often) or 1, class 1 always .75.
    assert score.standard_error == pytest.approx(0.125 / 2**0.5, rel=0.1)


def strokes_right(n_right: list[int], rng: np.random.Generator):
    """The score of ten held-out strokes a class, of which so many are right and the others wrong."""
    strokes = np.full((40, 4), -1, np.int16)
    strokes[:20:2], strokes[20::2] = 0, 1
    truth = np.repeat(np.clip(strokes[:, :1], 0, None), 4, axis=1)
    for label, n in enumerate(n_right):
        truth[20 * label + 2 * n : 20 * (label + 1)] = 1 - label
    windows = scoring_windows([held(strokes, truth)], 2, (40, 4))
    return score_strokes(windows, says(lambda x: np.round(x).astype(int)), 2, rng)


def test_ten_right_strokes_of_ten_do_not_promise_that_all_are_right(rng):
    # The exact 95 % bound for 10 of 10 is .74 (Clopper & Pearson); two classes in one mean are surer.
    score = strokes_right([10, 10], rng)
    assert (score.score, score.high) == (1, 1)
    assert 0.74 < score.low < 0.95
    worse = strokes_right([10, 5], rng)
    assert worse.score == 0.75
    assert worse.low < 0.65 < 0.85 < worse.high


def test_classes_count_alike(rng):
    strokes = np.full((40, 9), -1, np.int16)
    strokes[::2] = 0
    strokes[39] = 1
    sample = held(strokes, (strokes == 1).astype(float))
    windows = scoring_windows([sample], 2, (16, 16))
    assert score_strokes(windows, says(lambda x: np.round(x).astype(int)), 2, rng).score == 1
    # Twenty strokes of background do not drown the one of the class.
    nothing = score_strokes(windows, says(lambda x: np.zeros(x.shape, int)), 2, rng)
    assert nothing.score == 0.5
