"""job.json: what a run was started with and what it decided at the start, so that it can be gone on with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cellscribble.core.errors import OutputError
from cellscribble.io.atomic import save_json

JOB = "job.json"
PROGRAM, SCHEMA = "cellscribble", 1

_SHOWN_CHANGES = 6
_SHOWN_LETTERS = 40


def read_job(folder: Path) -> dict[str, Any] | None:
    """What the file in `folder` holds, or None if there is none.

    Raises
    ------
    OutputError
        If it is not one of ours, or `folder` is a file.
    """
    try:
        job = json.loads((folder / JOB).read_text(encoding="utf-8"))
        if job["program"] != PROGRAM or not {"schema", "key", "facts"} <= set(job):
            raise ValueError
    except FileNotFoundError:
        return None
    except (NotADirectoryError, ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"{folder} is not a folder of an unfinished run (its {JOB} cannot be used), so it is left alone; "
            "move it away, or choose another output"
        ) from error
    return dict(job)


def write_job(folder: Path, key: dict[str, Any] | None, facts: dict[str, Any] | None) -> dict[str, Any]:
    """Write the file and return what it holds; without a key no run is gone on with.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    job = {"program": PROGRAM, "schema": SCHEMA, "key": key, "facts": facts}
    save_json(folder / JOB, job, overwrite=True)
    return job


def is_same(job: Mapping[str, Any], key: Mapping[str, Any]) -> bool:
    """True if the run of this job may be gone on with under this key."""
    return bool(job["schema"] == SCHEMA and job["key"] == key)


def what_differs(job: Mapping[str, Any], key: Mapping[str, Any]) -> str:
    """What the job of a folder was begun with that is not in a new key, in words; "" if it was being emptied."""
    if job["schema"] != SCHEMA:
        return "by another version of CellScribble"
    if not isinstance(job["key"], dict):
        return ""
    old, new = _flat(job["key"]), _flat(key)
    changes = [
        f"{name} {_shown(old, name)} -> {_shown(new, name)}"
        for name in sorted(old.keys() | new.keys())
        if name not in old or name not in new or old[name] != new[name]
    ]
    more = f" and {len(changes) - _SHOWN_CHANGES} more" if len(changes) > _SHOWN_CHANGES else ""
    return f"with other settings: {', '.join(changes[:_SHOWN_CHANGES])}{more}"


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def _shown(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return "(nothing)"
    text = json.dumps(values[name], ensure_ascii=False)
    return text if len(text) <= _SHOWN_LETTERS else text[: _SHOWN_LETTERS - 3] + "..."


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as JSON gives them back, so that what is read again compares equal."""
    return dict(json.loads(json.dumps(values, allow_nan=False)))
