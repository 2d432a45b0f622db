"""One image to an OME-Zarr label store: what it needs around the blocks."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zarr

from cellscribble._version import __version__
from cellscribble.bundle import Model
from cellscribble.core.blocks import BlockGrid
from cellscribble.core.volume import ImageVolume
from cellscribble.engine.into_image import SOURCE
from cellscribble.engine.large import LargeRun, Outcome, Task, facts_of
from cellscribble.engine.options import PredictOptions
from cellscribble.engine.outputs import Job
from cellscribble.engine.progress import BlockProgress, Say
from cellscribble.engine.tiff_result import save_as_tiffs
from cellscribble.engine.unfinished import check_targets, open_unfinished
from cellscribble.engine.write import overlay
from cellscribble.infer.predict import CLASSES, segmenter_of
from cellscribble.infer.runner import CPU, Runner, usable_cores
from cellscribble.io.atomic import save_json, writing
from cellscribble.io.ome_zarr_read import metadata_sha256
from cellscribble.io.pictures import save_png
from cellscribble.segment.parameters import InstanceParameters

GPU_BLOCKS = 2
"""One in the device, the next on its way."""


def segment_to_zarr(
    job: Job,
    image: ImageVolume,
    fit_notes: Sequence[str],
    model: Model,
    runner: Runner,
    options: PredictOptions,
    record: dict[str, Any],
    say: Say,
) -> dict[str, Any]:
    """Segment an image that fits the model as it is, and write what `job` names.

    A run that was interrupted is gone on with, if model, settings and image are the same.

    Parameters
    ----------
    fit_notes : what `check_fit` had to say of it
    record : how the result is made; what is found is added to it
    say : told about the progress

    Returns
    -------
    What was found, plain values: "n_objects", "notes" and more.

    Raises
    ------
    OutputError
        If the result exists, cannot be written, or another run is at it.
    CellScribbleError
        As `predict`.
    """
    start = time.perf_counter()
    name, parameters = segmenter_of(model, as_classes=options.as_classes, threshold=options.threshold)
    task = Task(
        image,
        None if name == CLASSES else InstanceParameters.from_dict(parameters),
        probability=options.probability,
        uncertainty=options.uncertainty,
        skip_empty=options.skip_empty,
        skip_damaged=options.on_error == "skip",
        version=written_version(job, options),
        source=SOURCE if job.into else "",
    )
    segmenter = {"name": name, "parameters": parameters}
    key = _key(job, image, model, runner.provider, segmenter, options)

    def facts() -> dict[str, Any]:
        # Kept from the first start on, so that a resumed run gives the same file.
        return {**facts_of(task, model.metadata, options.block_px), "record": record}

    check_targets(job.unfinished, key, job.targets, options.overwrite)
    with writing(job.unfinished), open_unfinished(job.unfinished, key, facts) as unfinished:
        # While we waited for the folder another run may have finished.
        check_targets(job.unfinished, key, job.targets, options.overwrite)
        notes = [*fit_notes, *((unfinished.note,) if unfinished.note else ())]
        if not unfinished.publishing:
            network, n_networks = _network(model, runner, image, unfinished.facts["block_px"])
            progress = BlockProgress(say, image.n_pixels)
            outcome = LargeRun(task, unfinished, network, progress, n_networks).segment()
            notes += _notes(outcome, runner)
            found = {"segmenter": segmenter, "provider": runner.provider}
            whole = unfinished.facts["record"] | found | _plain(outcome, unfinished.facts["block_px"])
            labels: Any = zarr.open_group(str(unfinished.path("labels.zarr")), mode="r+")
            if not job.to_zarr:
                if "object_classes" in labels:
                    whole["object_classes"] = labels["object_classes"][...].tolist()
                save_as_tiffs(job, unfinished, image)
            labels.attrs.update({"cellscribble": whole})
            if job.overlay is not None:
                save_png(unfinished.path("overlay.png"), overlay(image, labels["0"]), overwrite=True)
            timed = {"notes": notes, "seconds": round(time.perf_counter() - start, 3)}
            save_json(unfinished.path("record.json"), whole | timed, overwrite=True)
        if job.into is None:
            unfinished.publish(job.targets, options.overwrite)
        else:
            job.into.unlist()
            unfinished.publish(job.targets, options.overwrite, job.into.enlist)
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
        "uncertainty": options.uncertainty,
        "skip_empty": options.skip_empty,
        "on_error": options.on_error,
        "ome_zarr": written_version(job, options),
        "labels": job.labels.name,
    }


def written_version(job: Job, options: PredictOptions) -> str:
    """The version of OME-Zarr that a job writes: what is put into an image is of the image's own."""
    return options.ome_zarr if job.into is None else job.into.version


def _plain(outcome: Outcome, block_px: list[int]) -> dict[str, Any]:
    return {
        "n_objects": outcome.n_objects,
        "n_objects_by_class": outcome.n_by_class and list(outcome.n_by_class),
        "blocks": {"size_px": block_px, "n": outcome.n_blocks, "empty": outcome.n_empty},
        "damaged": [{"box_px": box, "why": why} for box, why in outcome.damaged],
    }


def fingerprint(path: Path | str) -> dict[str, Any]:
    """What tells that a file or store is no longer the one it was, without reading all of it.

    Of a store only the metadata are looked at: chunks that change under a run are not noticed.
    """
    if isinstance(path, Path) and path.is_file():
        status = path.stat()
        return {"bytes": status.st_size, "modified_ns": status.st_mtime_ns}
    return {"metadata_sha256": metadata_sha256(path)}


def _network(model: Model, runner: Runner, image: ImageVolume, block_px: Sequence[int]) -> tuple[Runner, int]:
    """The network, and how many blocks may be in it at once."""
    if runner.provider != CPU:
        return runner, GPU_BLOCKS
    # One core a block keeps the cores busier than all cores on one block, as long as there are blocks enough:
    # nobody waits for anyone.
    n_cores = usable_cores()
    n_blocks = len(BlockGrid(image.spatial_shape, tuple(block_px)))
    return Runner(model, "cpu", threads=max(1, n_cores // n_blocks)), n_cores


def _notes(outcome: Outcome, runner: Runner) -> list[str]:
    notes = [runner.note] if runner.note else []
    if outcome.n_wide:
        notes.append(
            f"{outcome.n_wide} objects are wider than the model's cells: where two such touch they may be one"
        )
    if outcome.damaged:
        notes.append(f"{len(outcome.damaged)} blocks could not be read and are background; the .json lists them")
    return notes
