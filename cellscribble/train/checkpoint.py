"""The state of a run on disk: tensors and JSON, nothing pickled.

`last.pt` continues the run, `best.pt` is what is exported. The maps a method keeps of each image go
into `memory.npz`. Each is written beside its place and renamed, so a kill leaves the older one whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cellscribble.core.errors import ModelError
from cellscribble.data.samples import Sample
from cellscribble.io.atomic import atomic_path

LAST, BEST, MEMORY = "last.pt", "best.pt", "memory.npz"
SCHEMA = 1


def save_state(path: Path, tensors: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Write state dicts and plain JSON facts as one file."""
    with atomic_path(path, overwrite=True) as temporary:
        torch.save({**tensors, "facts": json.dumps({**facts, "schema": SCHEMA})}, temporary)


def load_state(path: Path, device: torch.device) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read what `save_state` wrote: tensors and facts.

    Raises
    ------
    ModelError
        If the file is missing, damaged or of another schema.
    """
    if not path.exists():
        raise ModelError(f"{path} does not exist; the run in {path.parent} holds nothing to continue")
    try:
        tensors = torch.load(path, map_location=device, weights_only=True)
        facts = json.loads(tensors.pop("facts"))
    except Exception as error:
        raise ModelError(f"{path} is damaged ({type(error).__name__}: {error}); start the run anew") from error
    if facts.get("schema") != SCHEMA:
        raise ModelError(f"{path} is of schema {facts.get('schema')}, this version reads {SCHEMA}; start the run anew")
    return tensors, facts


def save_memory(folder: Path, samples: Sequence[Sample]) -> None:
    """Write every sample's memory maps."""
    arrays = {f"{i}/{name}": values for i, s in enumerate(samples) for name, values in s.memory.items()}
    if not arrays:
        return
    with atomic_path(folder / MEMORY, overwrite=True) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def load_memory(folder: Path, samples: Sequence[Sample]) -> None:
    """Put the maps back, in place."""
    path = folder / MEMORY
    if not path.exists():
        return
    with np.load(path, allow_pickle=False) as stored:
        for key in stored.files:
            index, name = key.split("/", 1)
            samples[int(index)].memory[name] = stored[key]
