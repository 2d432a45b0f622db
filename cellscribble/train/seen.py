"""What the model sees on a few training images: a picture to look at before one trusts it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.labels import UNLABELLED
from cellscribble.data.samples import Sample
from cellscribble.io.pictures import (
    contact_sheet,
    densest_window,
    heat,
    overlay_labels,
    overlay_scribbles,
    save_png,
    to_rgb,
)
from cellscribble.methods.base import Method
from cellscribble.segment.edge_level import shift_to_edge
from cellscribble.train.calibrate import all_strokes
from cellscribble.train.predictor import Predictor

N_SHOWN = 4
WINDOW_PX = 384
"""Shown of an image, pixel by pixel: of a large one the outlines would not be seen."""
SURE = 0.8
"""Of a prediction that is shown as labels: tau of Scribble2Label."""
Color = tuple[int, int, int]
View = tuple[Sample, tuple[slice, ...]]


def save_seen(
    path: Path,
    samples: Sequence[Sample],
    predictor: Predictor,
    method: Method,
    level: float,
    colors: Sequence[Color],
) -> None:
    """Parts of a few training images, after figure 5 of the thesis: with strokes, the probability, the labels it
    learnt from or would learn from (grey where it is unsure), and outlined what it takes for cells."""
    pictures = []
    for sample, window in choose_views(samples):
        z = window[0].start if len(window) == 3 else None
        probability = _plane(shift_to_edge(predictor.window(sample, window), level), window)
        rgb = np.ascontiguousarray(to_rgb(sample.image, z=z)[window[-2:]])
        learnt = method.learnt_labels(sample)
        if learnt is None:
            labels = np.where(probability.max(axis=0) > SURE, probability.argmax(axis=0), UNLABELLED)
        else:
            labels = _plane(learnt[window], window)
        pictures += [
            (_title(sample, window), overlay_scribbles(rgb, _plane(all_strokes(sample)[window], window), colors)),
            ("probability", heat(1 - probability[0])),
            ("labels (grey: unsure)", _paint(labels, colors)),
            ("taken for cells", overlay_labels(rgb, probability.argmax(axis=0))),
        ]
    save_png(path, contact_sheet(pictures, columns=4, tile_px=WINDOW_PX), overwrite=True)


def choose_views(samples: Sequence[Sample]) -> list[View]:
    """`N_SHOWN` parts of images, a plane of a volume each, where most is drawn.

    From the image with most strokes to the one with fewest in equal steps: the best alone would flatter. Of
    fewer images several parts, as long as something is drawn there.
    """
    by_strokes = sorted(samples, key=lambda s: -int((all_strokes(s) != UNLABELLED).sum()))
    steps = np.linspace(0, len(samples) - 1, min(N_SHOWN, len(samples))).round().astype(int)
    left = {k: all_strokes(by_strokes[k]) != UNLABELLED for k in steps}
    views: list[tuple[int, tuple[slice, ...]]] = []
    while left and len(views) < N_SHOWN:
        views += [(k, _densest(drawn)) for k, drawn in left.items()]
        left = {k: drawn for k, drawn in left.items() if drawn.any()}
    return [(by_strokes[k], window) for k, window in sorted(views[:N_SHOWN], key=lambda view: view[0])]


def _densest(drawn: npt.NDArray[np.bool_]) -> tuple[slice, ...]:
    """The window in which most is drawn. There, and on the planes beside it, nothing counts as drawn any more."""
    if drawn.ndim == 2:
        window = densest_window(drawn, WINDOW_PX)
        drawn[window] = False
        return window
    z = int(drawn.sum(axis=(1, 2)).argmax()) if drawn.any() else len(drawn) // 2
    window = densest_window(drawn[z], WINDOW_PX)
    beside = max(1, len(drawn) // (2 * N_SHOWN))
    drawn[max(0, z - beside) : z + beside + 1] = False
    return slice(z, z + 1), *window


def _plane(values: npt.NDArray[Any], window: tuple[slice, ...]) -> npt.NDArray[Any]:
    """Of a part of a volume its one plane, of an image all."""
    return values[..., 0, :, :] if len(window) == 3 else values


def _title(sample: Sample, window: tuple[slice, ...]) -> str:
    parts = [sample.name]
    if len(window) == 3:
        parts.append(f"plane {window[0].start + 1}")
    if any(s.stop - s.start < n for s, n in zip(window[-2:], sample.scribbles.shape[-2:], strict=True)):
        parts.append(f"from y {window[-2].start}, x {window[-1].start}")
    return ", ".join(parts)


def _paint(labels: npt.NDArray[np.integer[Any]], colors: Sequence[Color]) -> npt.NDArray[np.uint8]:
    table = np.array([(0, 0, 0), *colors[1:], (128, 128, 128)], np.uint8)
    return np.asarray(table[labels])  # -1 is the last one, grey
