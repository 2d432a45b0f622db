"""One image to an OME-Zarr label store: what it needs around the blocks."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import zarr

from cellscribble._version import __version__
from cellscribble.bundle import Model
from cellscribble.core.volume import ImageVolume
from cellscribble.engine.costs import Work, work_of
from cellscribble.engine.job import is_same, plain, read_job
from cellscribble.engine.large import LargeRun, Outcome, Task, facts_of
from cellscribble.engine.options import PredictOptions
from cellscribble.engine.outputs import Job
from cellscribble.engine.plan import Plan
from cellscribble.engine.planner import Planner
from cellscribble.engine.progress import BlockProgress, Say
from cellscribble.engine.unfinished import check_targets, open_unfinished
from cellscribble.engine.write import overlay
from cellscribble.infer.predict import CLASSES, segmenter_of
from cellscribble.infer.runner import Runner
from cellscribble.io.atomic import is_zarr, save_json
from cellscribble.io.pictures import save_png
from cellscribble.segment.parameters import InstanceParameters


def segment_to_zarr(
    job: Job,
    image: ImageVolume,
    fit_notes: Sequence[str],
    model: Model,
    runner: Runner,
    options: PredictOptions,
    record: dict[str, Any],
    say: Say,
    planner: Planner,
    planned: Callable[[Plan, Work], None],
) -> dict[str, Any] | None:
    """Segment an image that fits the model as it is, and write what `job` names.

    A run that was interrupted is gone on with, if model, settings and image are the same.

    Parameters
    ----------
    fit_notes : what `check_fit` had to say of it
    record : how the result is made; what is found is added to it
    say : told about the progress
    planned : told how it will be done, before anything is written

    Returns
    -------
    What was found, plain values: "n_objects", "notes" and more; None if it was only to be planned.

    Raises
    ------
    OutputError
        If the result exists, cannot be written, or another run is at it.
    InputError
        If the limit of memory cannot be kept.
    CellScribbleError
        As `predict`.
    """
    start = time.perf_counter()
    name, parameters = segmenter_of(model, as_classes=options.as_classes, threshold=options.threshold)
    task = Task(
        image,
        None if name == CLASSES else InstanceParameters.from_dict(parameters),
        probability=options.probability,
        skip_empty=options.skip_empty,
        skip_damaged=options.on_error == "skip",
        version=options.ome_zarr,
    )
    segmenter = {"name": name, "parameters": parameters}
    key = _key(job, image, model, runner.provider, segmenter, options)

    check_targets(job.unfinished, key, job.targets, options.overwrite)
    work = work_of(image, model.metadata, task.settings, probability=options.probability)
    plan = planner.plan(image, work, _block_of(job, key) or options.block_px, exact=options.dry_run)
    planned(plan, work)
    if options.dry_run:
        return None

    def facts() -> dict[str, Any]:
        # Kept from the first start on, so that a resumed run gives the same file.
        return {**facts_of(task, model.metadata, plan.block_px), "record": record}

    with open_unfinished(job.unfinished, key, facts) as unfinished:
        # While we waited for the folder another run may have finished.
        check_targets(job.unfinished, key, job.targets, options.overwrite)
        notes = [*fit_notes, *((unfinished.note,) if unfinished.note else ())]
        if not unfinished.publishing:
            if unfinished.facts["block_px"] != list(plan.block_px):  # another process was faster to begin
                plan = planner.plan(image, work, unfinished.facts["block_px"])
            progress = BlockProgress(say, image.n_pixels)
            outcome = LargeRun(task, unfinished, planner.network(plan), progress, plan.n_networks).segment()
            notes += _notes(outcome, runner)
            found = {"segmenter": segmenter, "provider": runner.provider}
            whole = unfinished.facts["record"] | found | _plain(outcome, unfinished.facts["block_px"])
            labels = zarr.open_group(str(unfinished.path("labels.zarr")), mode="r+")
            labels.attrs.update({"cellscribble": whole})
            if job.overlay is not None:
                save_png(unfinished.path("overlay.png"), overlay(image, labels["0"]), overwrite=True)
            timed = {"notes": notes, "seconds": round(time.perf_counter() - start, 3)}
            save_json(unfinished.path("record.json"), whole | timed, overwrite=True)
        unfinished.publish(job.targets, options.overwrite)
    written: dict[str, Any] = json.loads(job.provenance.read_text(encoding="utf-8"))
    return written


def _key(
    job: Job, image: ImageVolume, model: Model, provider: str, segmenter: dict[str, Any], options: PredictOptions
) -> dict[str, Any]:
    """What must be the same for a run to be gone on with."""
    return {
        "cellscribble": __version__,
        "model": model.sha256,
        "image": {**fingerprint(job.image), "shape": list(image.data.shape), "dtype": str(image.data.dtype)},
        "segmenter": segmenter,
        "provider": provider,
        "axes": options.axes,
        "timepoint": options.timepoint,
        "level": options.level,
        "block": options.block_px and list(options.block_px),
        "probability": options.probability,
        "skip_empty": options.skip_empty,
        "on_error": options.on_error,
        "ome_zarr": options.ome_zarr,
    }


def _plain(outcome: Outcome, block_px: list[int]) -> dict[str, Any]:
    return {
        "n_objects": outcome.n_objects,
        "n_objects_by_class": outcome.n_by_class and list(outcome.n_by_class),
        "blocks": {"size_px": block_px, "n": outcome.n_blocks, "empty": outcome.n_empty},
        "damaged": [{"box_px": box, "why": why} for box, why in outcome.damaged],
    }


def fingerprint(path: Path) -> dict[str, Any]:
    """What tells that a file or store is no longer the one it was, without reading all of it.

    Of a store only the metadata are looked at: chunks that change under a run are not noticed.
    """
    if not is_zarr(path):
        status = path.stat()
        return {"bytes": status.st_size, "modified_ns": status.st_mtime_ns}
    names = ("zarr.json", ".zattrs", ".zgroup", ".zarray")
    found = sorted(p for name in names for p in (*path.glob(name), *path.glob(f"*/{name}")))
    digest = hashlib.sha256()
    for one in found:
        digest.update(one.read_bytes())
    return {"metadata_sha256": digest.hexdigest()}


def _block_of(job: Job, key: dict[str, Any]) -> list[int] | None:
    """The block size of the unfinished run that is gone on with, if there is one: it is kept."""
    begun = read_job(job.unfinished)
    return begun["facts"]["block_px"] if begun is not None and is_same(begun, plain(key)) else None


def _notes(outcome: Outcome, runner: Runner) -> list[str]:
    notes = [runner.note] if runner.note else []
    if outcome.n_wide:
        notes.append(
            f"{outcome.n_wide} objects are wider than the model's cells: where two such touch they may be one"
        )
    if outcome.damaged:
        notes.append(f"{len(outcome.damaged)} blocks could not be read and are background; the .json lists them")
    return notes
