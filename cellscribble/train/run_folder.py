"""What a run folder holds, so that a model can be exported from it at any time.

config.json     the resolved settings
inputs.json     sha256 of every image and of its strokes
model.json      all that goes into the model file besides the weights
tiles.npz       a few real tiles, normalised, on which an export is checked
averages.npz    the method's averages of its predictions, if it makes any (`io.averages`)
last.pt best.pt history.csv calibration.json
understood.png understood.json curves.png seen.png
model.onnx and, for processors, model_int8.onnx
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from cellscribble.bundle import ModelMetadata
from cellscribble.core.errors import ModelError
from cellscribble.data.samples import Sample
from cellscribble.io.atomic import atomic_path, save_text

MODEL_JSON, TILES, CONFIG, INPUTS = "model.json", "tiles.npz", "config.json", "inputs.json"
TILE_PX = {2: (512, 512), 3: (32, 96, 96)}
N_TILES = 3


def save_facts(run: Path, metadata: ModelMetadata) -> None:
    save_text(run / MODEL_JSON, metadata.to_json(), overwrite=True)


def load_facts(run: Path) -> ModelMetadata:
    """Read model.json.

    Raises
    ------
    ModelError
        If the folder is no finished run.
    """
    path = run / MODEL_JSON
    if not path.is_file():
        raise ModelError(
            f"{run} is not a finished run: it has no {MODEL_JSON}; give the folder that 'cellscribble train' wrote, "
            "or finish the run with --resume"
        )
    try:
        return ModelMetadata.from_json(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ModelError(f"{path} cannot be read: {error}; train again") from error


def save_tiles(run: Path, samples: Sequence[Sample]) -> None:
    """Store the corners of the first images, (C, *spatial) float32 each."""
    tiles: dict[str, Any] = {}
    for index, sample in enumerate(samples[:N_TILES]):
        window = tuple(slice(0, n) for n in TILE_PX[sample.image.ndim])
        tiles[str(index)] = sample.intensity.apply(sample.image.data[(slice(None), *window)])
    with atomic_path(run / TILES, overwrite=True) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **tiles)


def load_tiles(run: Path) -> list[npt.NDArray[np.float32]]:
    """The tiles, in order."""
    try:
        with np.load(run / TILES, allow_pickle=False) as stored:
            return [stored[key] for key in sorted(stored.files)]
    except (OSError, ValueError, BadZipFile) as error:
        raise ModelError(f"{run / TILES} cannot be read ({error}); train again") from error
