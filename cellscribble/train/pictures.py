"""Pictures in the run folder: what was understood, how training went, what the model sees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.labels import UNLABELLED
from cellscribble.data.samples import Sample
from cellscribble.io.atomic import atomic_path, save_json
from cellscribble.io.pictures import contact_sheet, heat, overlay_scribbles, save_png, stroked_slice, to_rgb
from cellscribble.methods.base import Method, Predict
from cellscribble.segment.edge_level import shift_to_edge
from cellscribble.train.calibrate import all_strokes
from cellscribble.train.history import History
from cellscribble.train.inputs import TrainingSet, describe

MAX_SHEET = 24
SURE = 0.8
"""Of a prediction that is shown as labels: tau of Scribble2Label."""
Rgb = npt.NDArray[np.uint8]
Color = tuple[int, int, int]


def save_understood(folder: Path, training_set: TrainingSet) -> Path:
    """Write how images and strokes were read: a table of all, and a contact sheet, whose path is returned."""
    rows = [describe(pair, training_set.classes) for pair in training_set.pairs]
    save_json(folder / "understood.json", rows, overwrite=True)
    pictures = []
    stroked = [p for p in training_set.pairs if p.scribbles]
    for pair in stroked[:MAX_SHEET]:
        assert pair.scribbles is not None
        strokes = pair.scribbles.data
        z = stroked_slice(strokes) if strokes.ndim == 3 else None
        rgb = to_rgb(pair.image, z=z)
        pictures.append((pair.name, overlay_scribbles(rgb, strokes if z is None else strokes[z], training_set.colors)))
    path = folder / "understood.png"
    save_png(path, contact_sheet(pictures, columns=4), overwrite=True)
    return path


def save_seen(
    path: Path,
    samples: Sequence[Sample],
    predict: Predict,
    method: Method,
    level: float,
    colors: Sequence[Color],
    n: int = 4,
) -> None:
    """What the model sees on a few training images, as figure 5 of the thesis: image with strokes,
    probability, and the labels it learnt from or would learn from (grey where it is unsure)."""
    shown = sorted(samples, key=lambda s: -int((all_strokes(s) != UNLABELLED).sum()))[:n]
    pictures = []
    for sample in shown:
        strokes = all_strokes(sample)
        z = stroked_slice(strokes) if strokes.ndim == 3 else None
        probability = shift_to_edge(predict(sample), level)
        rgb = to_rgb(sample.image, z=z)
        learnt = method.learnt_labels(sample)
        if learnt is None:
            learnt = np.where(probability.max(axis=0) > SURE, probability.argmax(axis=0), UNLABELLED)
        pictures += [
            (sample.name, overlay_scribbles(rgb, _cut(strokes, z), colors)),
            ("probability", heat(1 - _cut(probability, z)[0])),
            ("labels", _paint(_cut(learnt, z), colors)),
        ]
    save_png(path, contact_sheet(pictures, columns=3), overwrite=True)


def _cut(data: npt.NDArray[Any], z: int | None) -> npt.NDArray[Any]:
    return data if z is None else data[..., z, :, :]


def _paint(labels: npt.NDArray[np.integer], colors: Sequence[Color]) -> Rgb:
    table = np.array([(0, 0, 0), *colors[1:], (128, 128, 128)], np.uint8)
    return np.asarray(table[labels])  # -1 is the last one, grey


def save_curves(path: Path, history: History, warmup_epochs: int) -> None:
    """Loss terms, hold-out score and edge level over the epochs."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (loss, score) = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
    for column in history.columns():
        if column.startswith("loss_") and history.series(column)[0]:
            loss.plot(*history.series(column), label=column.removeprefix("loss_"))
    loss.set(xlabel="epoch", ylabel="weighted term", yscale="log", title="loss")
    epochs, values = history.series("holdout_score")
    if values:
        score.plot(epochs, values, color="C2", label="held-out strokes")
        low, high = history.series("holdout_low")[1], history.series("holdout_high")[1]
        if low:
            score.fill_between(epochs, low, high, color="C2", alpha=0.2, linewidth=0)
    epochs, values = history.series("edge_level")
    if values:
        score.plot(epochs, values, "--", color="C1", label="edge level")
    score.set(xlabel="epoch", ylim=(0, 1.02), title="held-out strokes (95 % interval), edge level")
    for axes in (loss, score):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
        if 0 < warmup_epochs < len(history.rows):
            axes.axvline(warmup_epochs - 0.5, color="0.7", linewidth=1)
    with atomic_path(path, overwrite=True) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    plt.close(figure)
