"""How good is the model, where nobody has masks: the held-out strokes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.labels import UNLABELLED
from cellscribble.data.samples import Sample, Stroke, find_strokes, middle_pixel

N_BOOTSTRAP = 1000
MIN_STROKES_FOR_INTERVAL = 5
"""With fewer strokes of a class, drawing among them says nothing about strokes not drawn."""


@dataclass(frozen=True, slots=True)
class HoldoutScore:
    """Balanced accuracy on held-out strokes.

    score : mean over classes of the mean share of a stroke's pixels that are classified right
    low, high : 95 % interval, bootstrapped over strokes; None where a class has fewer than
        `MIN_STROKES_FOR_INTERVAL`
    standard_error : of the score, from the same draws
    n_strokes : strokes of each class
    """

    score: float
    low: float | None
    high: float | None
    standard_error: float
    n_strokes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a training image around held-out strokes, and the strokes inside it."""

    sample: Sample
    slices: tuple[slice, ...]
    strokes: tuple[Stroke, ...]


def scoring_windows(samples: Sequence[Sample], n_classes: int, patch_px: Sequence[int]) -> list[Window]:
    """Patches that hold all held-out strokes, each stroke in one of them.

    Predicting whole images for a few strokes would take a large part of a short run.
    """
    windows = []
    for sample in samples:
        if not (sample.held_out != UNLABELLED).any():
            continue
        shape = sample.held_out.shape
        left = find_strokes(sample.held_out, n_classes)
        while left:
            centre = middle_pixel(left[0], shape)
            start = np.clip(centre - np.array(patch_px) // 2, 0, np.maximum(0, np.array(shape) - patch_px))
            slices = tuple(slice(int(a), int(min(a + p, n))) for a, p, n in zip(start, patch_px, shape, strict=True))
            inside, left = _split(left, slices, shape)
            windows.append(Window(sample, slices, tuple(inside)))
    return windows


def _split(
    strokes: list[Stroke], slices: tuple[slice, ...], shape: tuple[int, ...]
) -> tuple[list[Stroke], list[Stroke]]:
    """Strokes with a pixel in the window (cut to it, in its own indices), and the others."""
    inside, outside = [], []
    window_shape = tuple(s.stop - s.start for s in slices)
    for stroke in strokes:
        at = np.array(np.unravel_index(stroke.pixels, shape)) - np.array([[s.start] for s in slices])
        ok = ((at >= 0) & (at < np.array(window_shape)[:, None])).all(axis=0)
        if ok.any():
            pixels = np.ravel_multi_index(tuple(at[:, ok]), window_shape)
            inside.append(Stroke(stroke.label, np.asarray(pixels)))
        else:
            outside.append(stroke)
    return inside, outside


def score_strokes(
    windows: Sequence[Window],
    predict: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]],
    n_classes: int,
    rng: np.random.Generator,
) -> HoldoutScore:
    """Score a network on the held-out strokes.

    predict : normalised (C, *window) -> probabilities (K, *window)
    """
    shares: list[list[float]] = [[] for _ in range(n_classes)]
    for window in windows:
        image: npt.NDArray[Any] = window.sample.image.data[(slice(None), *window.slices)]
        classes = predict(window.sample.intensity.apply(image)).argmax(axis=0).ravel()
        for stroke in window.strokes:
            shares[stroke.label].append(share_right(classes[stroke.pixels], stroke))
    return score_shares(shares, rng)


def share_right(classes: npt.NDArray[np.integer[Any]], stroke: Stroke) -> float:
    """The share of a stroke's pixels that are of its class in `classes` (n,), what each of them was found to be."""
    return float((classes == stroke.label).mean())


def score_shares(shares: Sequence[Sequence[float]], rng: np.random.Generator) -> HoldoutScore:
    """The score of strokes, at least one, from `share_right` of each stroke of each class."""
    per_class = [np.array(s) for s in shares if s]
    score = float(np.mean([values.mean() for values in per_class]))
    error = float(np.mean([_bootstrap(values, rng) for values in per_class], axis=0).std())
    low = high = None
    if min(len(values) for values in per_class) >= MIN_STROKES_FOR_INTERVAL:
        # One stroke more that is all right and one that is all wrong, as Agresti & Coull add them to
        # a count: else ten right strokes of ten would promise that all others are right too.
        wider = np.mean([_bootstrap(np.append(values, [0.0, 1.0]), rng) for values in per_class], axis=0)
        low, high = (float(p) for p in np.percentile(wider, [2.5, 97.5]))
        low, high = min(low, score), max(high, score)
    return HoldoutScore(score, low, high, error, tuple(len(s) for s in shares))


def _bootstrap(values: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    means: npt.NDArray[np.float64] = values[rng.integers(len(values), size=(N_BOOTSTRAP, len(values)))].mean(axis=1)
    return means
