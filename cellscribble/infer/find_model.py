"""Which model is meant: a path, a run folder, the name of a shipped model, or the newest run."""

from __future__ import annotations

import os
from pathlib import Path

from cellscribble.bundle import FLOAT32, MODEL_FILE, Model, int8_path, open_model
from cellscribble.core.errors import ModelError
from cellscribble.infer.runner import wants_cuda

CONFIG_FILE = "config.json"
SEARCH_DEPTH = 5
"""Folders below the current one that are searched for runs."""


def find_model(choice: str | Path | None = None, folder: str | Path = ".") -> Path:
    """Path of the model file that `choice` means.

    Parameters
    ----------
    choice : a model file, a folder that holds model.onnx, or the name of a shipped model; None for
        the newest run below `folder`

    Raises
    ------
    ModelError
        If there is none; the message lists the shipped models.
    """
    if choice is None:
        runs = find_runs(Path(folder))
        if runs:
            return runs[0] / MODEL_FILE
        raise ModelError(
            f"no model: there is no run of 'cellscribble train' below {Path(folder).resolve()}. {_offer()}"
        )
    path = Path(choice)
    if path.is_file():
        return path
    if path.is_dir():
        if (path / MODEL_FILE).is_file():
            return path / MODEL_FILE
        runs = find_runs(path)
        if runs:
            return runs[0] / MODEL_FILE
        raise ModelError(f"the folder {path} holds no {MODEL_FILE}; has training ended there? {_offer()}")
    shipped = shipped_models()
    if str(choice) in shipped:
        return shipped[str(choice)]
    raise ModelError(f"there is no model file, run folder or shipped model {str(choice)!r}. {_offer()}")


def open_for(device: str, path: Path) -> Model:
    """The model `path` as it is fastest on a device: on a processor its int8 form, where there is one.

    Raises
    ------
    ModelError
        As `open_model`, of the one or the other.
    """
    model = open_model(path)
    return (None if wants_cuda(device) else int8_of(model)) or model


def int8_of(model: Model) -> Model | None:
    """The int8 form that lies beside a float model.

    One that was made of another file (the model was trained or exported anew) is not taken. Raises as `open_model`.
    """
    beside = int8_path(model.path)
    if model.metadata.precision != FLOAT32 or not beside.is_file():
        return None
    int8 = open_model(beside)
    return int8 if int8.metadata.made_of == model.sha256 else None


def find_runs(folder: Path) -> list[Path]:
    """Run folders (they hold model.onnx and config.json) at or below `folder`, newest model first."""
    found = []
    base = len(folder.resolve().parts)
    for place, folders, files in os.walk(folder.resolve()):
        here = Path(place)
        if MODEL_FILE in files and CONFIG_FILE in files:
            found.append(here)
        deep = len(here.parts) - base >= SEARCH_DEPTH
        # A Zarr store holds up to millions of folders and never a run.
        folders[:] = (
            [] if deep else [name for name in folders if not name.startswith(".") and not name.endswith(".zarr")]
        )
    return sorted(found, key=lambda run: (run / MODEL_FILE).stat().st_mtime, reverse=True)


def shipped_models() -> dict[str, Path]:
    """Name -> model file of the models that come with CellScribble."""
    package = Path(__file__).parents[1]
    places = [package / "models"]
    if (package.parent / "setup.py").is_file():
        # Run from a source checkout.
        places.append(package.parent / "models")
    return {
        file.parent.name: file for place in places for file in sorted(place.glob(f"*/{MODEL_FILE}")) if file.is_file()
    }


def _offer() -> str:
    names = ", ".join(shipped_models())
    train = "cellscribble train IMAGES SCRIBBLES"
    if names:
        return f"Models shipped with CellScribble: {names}. Take one with -m NAME, or train your own: {train}"
    return f"Train one ({train}), or name a model file with -m"
