"""Which files beside an image were made by the command that is typed again, before it was stopped."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from cellscribble._version import __version__
from cellscribble.bundle import Model
from cellscribble.engine.job import plain
from cellscribble.engine.options import PredictOptions
from cellscribble.engine.outputs import Job
from cellscribble.engine.zarr_job import fingerprint
from cellscribble.io.remote import is_url

NO_MATTER = ("overwrite", "workers", "scheduler", "shard", "max_memory", "dry_run")
"""Options that do not change what comes out."""

STATE_LETTERS = 12


def image_state(image: Path | str) -> dict[str, str]:
    """What a result says of the file that it was made of."""
    state = hashlib.sha256(json.dumps(fingerprint(image)).encode()).hexdigest()
    return {"path": image if is_url(image) else str(Path(image).resolve()), "state": state[:STATE_LETTERS]}


def is_ours(job: Job, model: Model, options: PredictOptions) -> bool:
    """Whether the record of a result names this version, model, image as it is now, and the same settings."""
    try:
        record = json.loads(job.provenance.read_text(encoding="utf-8"))
        made = (record["versions"]["cellscribble"], record["model"]["sha256"])
        settings, image = dict(record["settings"]), record["image"]
        told = plain(asdict(options))
        if options.level is None:  # it was chosen then, and would be again
            told["level"] = settings["level"]
        same = all(settings[name] == value for name, value in told.items() if name not in NO_MATTER)
        seen = {name: image[name] for name in ("path", "state")}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(made == (__version__, model.sha256) and same and seen == image_state(job.image))
