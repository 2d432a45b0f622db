"""All methods side by side on a few images: one PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.compare.exam import Exam
from cellscribble.compare.scoring import Shown
from cellscribble.core.volume import ImageVolume
from cellscribble.io.label_images import read_labels
from cellscribble.io.pictures import (
    contact_sheet,
    densest_window,
    overlay_labels,
    overlay_scribbles,
    save_png,
    to_rgb,
)
from cellscribble.train.inputs import TrainingSet

CROP_PX, TILE_PX = 256, 384
"""More of a large image would make each cell a few pixels of the sheet."""


def save_sheet(
    path: Path,
    training_set: TrainingSet,
    exam: Exam,
    shown: Sequence[Shown],
    found: Mapping[str, Sequence[npt.NDArray[Any]]],
) -> None:
    """A row an image: with its strokes, as drawn by hand where there is a mask, and by each method.

    found : objects (*spatial) of the shown images, in their order, by title
    """
    known = {pair.name: pair for pair in training_set.pairs}
    truths = {one: exam.truths[one.name] for one in shown if exam.is_scored(one.name, one.unseen)}
    pictures = []
    for k, one in enumerate(shown):
        pair = None if one.unseen else known[one.name]
        image = exam.open(one.name) if pair is None else pair.image
        strokes = None if pair is None or pair.scribbles is None else pair.scribbles.data
        mask = read_labels(truths[one]) if one in truths else None
        z, window = _part(image, mask if strokes is None else strokes)
        rgb = to_rgb(image, z=z)[window]
        first = rgb if strokes is None else overlay_scribbles(rgb, _cut(strokes, z)[window], training_set.colors)
        pictures.append((f"{'unseen' if one.unseen else 'strokes'}: {one.name}", first))
        if mask is not None:
            pictures.append(("by hand", overlay_labels(rgb, _cut(mask, z)[window])))
        elif truths:
            pictures.append(("no mask", rgb))
        pictures += [(title, overlay_labels(rgb, _cut(labels[k], z)[window])) for title, labels in found.items()]
    save_png(path, contact_sheet(pictures, 1 + bool(truths) + len(found), TILE_PX), overwrite=True)


def _part(image: ImageVolume, drawn: npt.NDArray[Any] | None) -> tuple[int | None, tuple[slice, slice]]:
    """The slice and the window in which most is drawn; the middle where nothing is.

    drawn : (*spatial) strokes or a mask, cells above 0
    """
    cells = np.zeros(image.spatial_shape, bool) if drawn is None else drawn > 0
    z = None
    if image.ndim == 3:
        z = int(cells.sum(axis=(1, 2)).argmax()) if cells.any() else image.spatial_shape[0] // 2
    return z, densest_window(_cut(cells, z), CROP_PX)


def _cut(data: npt.NDArray[Any], z: int | None) -> npt.NDArray[Any]:
    return data if z is None else data[z]
