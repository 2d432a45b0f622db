"""What was understood of images and strokes, before anything is learnt: a table and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cellscribble.core.labels import UNLABELLED
from cellscribble.data.samples import find_strokes
from cellscribble.io.atomic import save_json
from cellscribble.io.pictures import contact_sheet, overlay_scribbles, save_png, stroked_slice, to_rgb
from cellscribble.train.inputs import Pair, TrainingSet

MAX_SHEET = 24


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


def describe(pair: Pair, names: Sequence[str]) -> dict[str, Any]:
    """One row of the table that `train` prints: plain values."""
    row: dict[str, Any] = {
        "name": pair.name,
        "shape": "x".join(str(n) for n in pair.image.data.shape),
        "axes": pair.image.axes,
        "pixel_size_um": pair.image.pixel_size_um,
        "read": pair.image.origin,
        "strokes_read": pair.scribbles.reading if pair.scribbles else "no strokes",
    }
    strokes = find_strokes(pair.scribbles.data, len(names)) if pair.scribbles else []
    row["strokes"] = {name: sum(s.label == k for s in strokes) for k, name in enumerate(names)}
    n_labelled = int((pair.scribbles.data != UNLABELLED).sum()) if pair.scribbles else 0
    row["labelled_share"] = n_labelled / pair.image.n_pixels
    return row
