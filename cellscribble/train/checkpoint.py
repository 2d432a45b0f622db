"""The state of a run on disk: tensors and JSON, nothing pickled.

`last.pt` continues the run, with the maps that the method keeps of each image; `best.pt` is what is
exported. Each is written beside its place and renamed, so a kill leaves the older one whole. The maps
are in the same file as the weights: two files could be of two different steps after a kill.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cellscribble.core.errors import ModelError
from cellscribble.data.samples import Sample
from cellscribble.io.atomic import atomic_path

LAST, BEST = "last.pt", "best.pt"
SCHEMA = 1


def save_state(path: Path, tensors: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Write state dicts and plain JSON facts as one file. Raises OutputError if the system refuses."""
    with atomic_path(path, overwrite=True) as temporary, temporary.open("wb") as file:
        try:
            torch.save({**tensors, "facts": json.dumps({**facts, "schema": SCHEMA})}, file)
        except RuntimeError as error:
            # Of a full disk torch says "unexpected pos"; what the system said stands behind that.
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None


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
        # Without torch's own words: they tell how to run code that is in the file.
        raise ModelError(f"{path} is damaged ({type(error).__name__}); start the run anew") from error
    if facts.get("schema") != SCHEMA:
        raise ModelError(f"{path} is of schema {facts.get('schema')}, this version reads {SCHEMA}; start the run anew")
    return tensors, facts


def memory_tensors(samples: Sequence[Sample]) -> dict[str, Tensor]:
    """Every sample's memory maps by "index/name"; they share the samples' storage."""
    maps = {f"{i}/{name}": values for i, sample in enumerate(samples) for name, values in sample.memory.items()}
    return {key: torch.from_numpy(values) for key, values in maps.items()}


def restore_memory(tensors: Mapping[str, Tensor], samples: Sequence[Sample]) -> None:
    """Put the maps of `memory_tensors` back, in place."""
    for key, values in tensors.items():
        index, name = key.split("/", 1)
        samples[int(index)].memory[name] = values.numpy()
