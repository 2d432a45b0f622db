"""What a folder of comparisons is about: it goes on with the same only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cellscribble.config import TrainConfig
from cellscribble.core.errors import InputError, OutputError
from cellscribble.io.atomic import save_json
from cellscribble.provenance import command, now, versions
from cellscribble.train.inputs import TrainingSet

SETUP = "compare.json"


def check_setup(folder: Path, training_set: TrainingSet, config: TrainConfig) -> None:
    """Write what is compared into the folder, or see that it is the same as before.

    Raises
    ------
    InputError
        If it is not, or the file is damaged.
    OutputError
        If the folder holds something else: nothing of it is overwritten.
    """
    path = folder / SETUP
    settings = {
        key: value for key, value in config.to_json().items() if key not in ("method", "method_settings", "seed")
    }
    inputs = training_set.hashes
    before: dict[str, Any] = {"inputs": {}, "created": now()}
    if path.exists():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            before["created"] = str(before["created"])
            changed = _changes(before["settings"], before["inputs"], settings, inputs)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} cannot be read ({error}); choose another folder with -o") from error
        if changed:
            raise InputError(
                f"{folder} holds a comparison with other {changed}; type the same command to go on with "
                "it, or choose another folder with -o"
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} exists and holds no comparison; choose another folder with -o")
    # Masks may come and go with the methods that need them; those once learnt from stay the same.
    facts = {
        "settings": settings,
        "inputs": before["inputs"] | inputs,
        "command": command(),
        "created": before["created"],
        "versions": versions("torch"),
    }
    save_json(path, facts, overwrite=True)


def _changes(
    settings_before: Mapping[str, Any],
    before: Mapping[str, str],
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
) -> str:
    # Through JSON, as the other one came: a tuple is a list there.
    settings = json.loads(json.dumps(settings))
    other = [key for key in settings if settings_before.get(key) != settings[key]]
    names = {n for n in before.keys() | inputs.keys() if not n.endswith(" (labels)")} | (before.keys() & inputs.keys())
    other += [n for n in sorted(names) if before.get(n) != inputs.get(n)]
    if not other:
        return ""
    first = other[0]
    said = f" ({settings_before.get(first)!r} before, {settings[first]!r} now)" if first in settings else ""
    return ", ".join(other[:3]) + (" ..." if len(other) > 3 else "") + said
