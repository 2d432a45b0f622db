"""One image to an OME-Zarr label store: what it needs around the blocks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from cellscribble._version import __version__
from cellscribble.bundle import Model
from cellscribble.core.blocks import Slices
from cellscribble.core.errors import OutputError
from cellscribble.core.volume import ImageVolume
from cellscribble.engine.costs import Work
from cellscribble.engine.empty import Network
from cellscribble.engine.into_image import SOURCE
from cellscribble.engine.job import is_same, plain, read_job
from cellscribble.engine.large import Crew, LargeRun, Outcome
from cellscribble.engine.options import PredictOptions
from cellscribble.engine.outputs import Job
from cellscribble.engine.pipeline import Pipeline
from cellscribble.engine.plan import Plan
from cellscribble.engine.planner import Planner
from cellscribble.engine.progress import BlockProgress, Say
from cellscribble.engine.remote import Recipe, work_on
from cellscribble.engine.stages import Steps
from cellscribble.engine.steps import at_most
from cellscribble.engine.task import Task, facts_of, task_of
from cellscribble.engine.tiff_result import save_as_tiffs
from cellscribble.engine.unfinished import Unfinished, check_targets, open_unfinished
from cellscribble.engine.workers import DaskExecutor
from cellscribble.engine.write import overlay
from cellscribble.infer.fit import Fit
from cellscribble.infer.predict import segmenter_of
from cellscribble.infer.runner import CPU, usable_cores
from cellscribble.io.atomic import save_json, writing
from cellscribble.io.images import is_file_url
from cellscribble.io.ome_zarr_read import chunks_sha256, metadata_sha256
from cellscribble.io.pictures import save_png
from cellscribble.io.remote import is_url
from cellscribble.io.remote_file import remote_state
from cellscribble.segment.doubt import unlike


def segment_to_zarr(
    job: Job,
    image: ImageVolume,
    fit: Fit,
    model: Model,
    planner: Planner | None,
    options: PredictOptions,
    record: dict[str, Any],
    say: Say,
    planned: Callable[[Plan, Work, bool], None] = lambda plan, work, goes_on: None,
    cluster: DaskExecutor | None = None,
) -> dict[str, Any] | None:
    """Segment an image, and write what `job` names.

    A run that was interrupted is gone on with, if model, settings and image are the same. With
    `options.shard` only that part is done, and nothing is put to its place.

    Parameters
    ----------
    fit : how it is put to the model
    planner : of the network; None to finish a run of which all blocks have been seen, by shards
    record : how the result is made; what is found is added to it
    say : told about the progress
    planned : told how it will be done, before anything is written, and whether a run that was interrupted goes on
    cluster : the workers, if not threads of this process

    Returns
    -------
    What was found, plain values: "n_objects", "notes" and more; None if it was only to be planned.

    Raises
    ------
    OutputError
        If the result exists, cannot be written, or another run is at it.
    InputError
        If the limit of memory cannot be kept. Without a planner, if a block was not seen yet: the message
        names the shards.
    CellScribbleError
        As `predict`.
    """
    start = time.perf_counter()
    model = replace(model, metadata=fit.metadata)
    name, parameters = segmenter_of(model, as_classes=options.as_classes, threshold=options.threshold)
    version, source = written_version(job, options), SOURCE if job.into else ""
    task = task_of(job.image, image, model, options, version, source, fit.shape)
    segmenter = {"name": name, "parameters": parameters}
    provider = _provider_before(job) if planner is None else planner.runner.provider
    key = _key(job, task, model, provider, segmenter, options)

    check_targets(job.unfinished, key, job.targets, options.overwrite)
    plan: Plan | None = None
    if planner is not None:
        work = planner.work(task, model.metadata)
        begun_px = _block_of(job, key)
        plan = planner.plan(image, work, begun_px or options.block_px, exact=options.dry_run)
        planned(plan, work, begun_px is not None)
        if options.dry_run:
            return None

    def facts() -> dict[str, Any]:
        if plan is None:
            raise OutputError(f"{job.unfinished} is gone: nothing is left to stitch")
        # Kept from the first start on, so that a resumed run gives the same file.
        return {**facts_of(task, model.metadata, plan.block_px), "record": record}

    # A shard may not empty what others have done, nor may who comes to finish it.
    may_empty = planner is not None and options.shard is None
    shard = options.shard or (1, 1)
    with writing(job.unfinished), open_unfinished(job.unfinished, key, facts, shard, may_empty) as unfinished:
        # While we waited for the folder another run may have finished.
        check_targets(job.unfinished, key, job.targets, options.overwrite)
        notes = [*fit.notes, *((unfinished.note,) if unfinished.note else ())]
        if not unfinished.publishing:
            with _large_run(task, unfinished, job, model, planner, plan, options, cluster, say) as run:
                if planner is None:
                    run.check_all_seen()
                if options.shard is not None:
                    run.segment_part(options.shard)
                    return {"n_objects": None, "notes": notes}
                outcome = run.segment()
            said = unlike(outcome.doubt, model.metadata.usual_doubt)
            notes += _notes(outcome, "" if planner is None else planner.runner.note, said)
            found = {"segmenter": segmenter, "provider": provider}
            whole = unfinished.facts["record"] | found | _plain(outcome, unfinished.facts["block_px"])
            labels: Any = zarr.open_group(str(unfinished.path("labels.zarr")), mode="r+")
            if not job.to_zarr:
                if "object_classes" in labels:
                    whole["object_classes"] = labels["object_classes"][...].tolist()
                save_as_tiffs(job, unfinished, image)
            labels.attrs.update({"cellscribble": whole})
            if job.overlay is not None:
                picture = overlay(image, labels["0"], max_memory=options.max_memory, skip_damaged=task.skip_damaged)
                save_png(unfinished.path("overlay.png"), picture, overwrite=True)
            timed = {"notes": notes, "unlike": bool(said), "seconds": round(time.perf_counter() - start, 3)}
            save_json(unfinished.path("record.json"), whole | timed, overwrite=True)
        if options.shard is not None:  # somebody else is moving the result out, or was
            return {"n_objects": None, "notes": notes}
        if job.into is None:
            unfinished.publish(job.targets, options.overwrite)
        else:
            job.into.unlist()
            unfinished.publish(job.targets, options.overwrite, job.into.enlist)
    written: dict[str, Any] = json.loads(job.provenance.read_text(encoding="utf-8"))
    return written


def _provider_before(job: Job) -> str:
    """What ran the network of the run that is to be finished."""
    found = read_job(job.unfinished) or {}
    return str((found.get("key") or {}).get("provider"))


def _key(
    job: Job, task: Task, model: Model, provider: str, segmenter: dict[str, Any], options: PredictOptions
) -> dict[str, Any]:
    """What must be the same for a run to be gone on with."""
    data = task.image.data
    return {
        "cellscribble": __version__,
        "model": model.sha256,
        "image": {**fingerprint(job.image), "shape": list(data.shape), "dtype": str(data.dtype)},
        "seen_shape": task.shape and list(task.shape),
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

    Of a store on a disk the metadata and some chunks all over it are looked at, of one behind a URL the metadata.
    """
    if isinstance(path, Path) and path.is_file():
        status = path.stat()
        return {"bytes": status.st_size, "modified_ns": status.st_mtime_ns}
    if is_file_url(path):
        return {"remote_sha256": remote_state(path)}
    found = {"metadata_sha256": metadata_sha256(path)}
    return found if is_url(path) else found | {"chunks_sha256": chunks_sha256(Path(path))}


@contextmanager
def _large_run(
    task: Task,
    unfinished: Unfinished,
    job: Job,
    model: Model,
    planner: Planner | None,
    plan: Plan | None,
    options: PredictOptions,
    cluster: DaskExecutor | None,
    say: Say,
) -> Iterator[LargeRun]:
    """The run, with those who work on it."""
    facts, meta = unfinished.facts, model.metadata
    progress = BlockProgress(say, task.image.n_pixels // (options.shard or (1, 1))[1])
    if planner is None or plan is None:
        network: Network = _not_here
        hands = usable_cores(), usable_cores() + 1, 0
    else:
        if facts["block_px"] != list(plan.block_px):  # another process was faster to begin
            plan = planner.plan(task.image, planner.work(task, meta), facts["block_px"])
        if cluster is not None:
            recipe = _recipe(unfinished, job, model, planner.runner.provider, plan, options)
            steps = Steps(task, facts, unfinished.folder, meta, _not_here)
            crew = Crew(cluster, cluster.places, lambda stage: partial(work_on, recipe, stage))
            yield LargeRun(steps, unfinished, progress, crew)
            return
        network = planner.network(plan).seen_as(meta)
        hands = plan.n_networks, plan.n_writers, plan.n_ahead
    steps = Steps(task, facts, unfinished.folder, meta, at_most(hands[0], network))
    with Pipeline(*hands) as executor:
        yield LargeRun(steps, unfinished, progress, Crew(executor, executor.at_once, steps.of))


def _block_of(job: Job, key: dict[str, Any]) -> list[int] | None:
    """The block size of the unfinished run that is gone on with, if there is one: it is kept."""
    begun = read_job(job.unfinished)
    return begun["facts"]["block_px"] if begun is not None and is_same(begun, plain(key)) else None


def _not_here(block: npt.NDArray[np.float32], keep: Slices | None = None) -> npt.NDArray[np.float32]:
    raise AssertionError("the network is asked in other processes only")


def _recipe(
    unfinished: Unfinished, job: Job, model: Model, provider: str, plan: Plan, options: PredictOptions
) -> Recipe:
    facts = unfinished.facts
    # Workers of a scheduler that need not save memory use all their cores, whatever these are.
    as_planned = provider != CPU or options.scheduler is None or options.max_memory is not None
    return Recipe(
        folder=str(unfinished.folder.absolute()),
        image=job.image if is_url(job.image) else str(Path(job.image).absolute()),
        state=json.dumps(fingerprint(job.image)),
        model=str(model.path.absolute()),
        sha256=model.sha256,
        version=__version__,
        device="cpu" if provider == CPU else "cuda",
        n_networks=plan.n_networks if as_planned else None,
        n_threads=plan.threads,
        options=options,
        block_px=tuple(facts["block_px"]),
        low=tuple(facts["low"]),
        high=tuple(facts["high"]),
        store_version=written_version(job, options),
        source=SOURCE if job.into else "",
    )


def _notes(outcome: Outcome, of_device: str, of_doubt: str) -> list[str]:
    notes = [of_device] if of_device else []
    if outcome.n_wide:
        notes.append(
            f"{outcome.n_wide} objects are wider than the model's cells: where two such touch they may be one"
        )
    if outcome.damaged:
        notes.append(
            f"{len(outcome.damaged)} blocks could not be read wholly: what is missing is background; "
            "the .json lists the places"
        )
    return [*notes, of_doubt] if of_doubt else notes
