"""Many images, one model: read, predict, write, and go on when one image fails."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

from cellscribble import provenance
from cellscribble.bundle import Model
from cellscribble.core.errors import BatchError, CellScribbleError, InputError
from cellscribble.core.volume import ImageVolume
from cellscribble.engine.costs import Work, work_of
from cellscribble.engine.forecast import forecast_blocks, forecast_memory
from cellscribble.engine.level import choose_level
from cellscribble.engine.options import PredictOptions
from cellscribble.engine.outputs import Job, plan_jobs
from cellscribble.engine.plan import Plan
from cellscribble.engine.planner import Planner
from cellscribble.engine.write import write_results
from cellscribble.engine.zarr_job import segment_to_zarr
from cellscribble.infer.blockwise import Progress
from cellscribble.infer.fit import Fit, check_fit
from cellscribble.infer.predict import CLASSES, Prediction, predict, segmenter_of
from cellscribble.infer.runner import Runner
from cellscribble.io.images import open_image
from cellscribble.segment.parameters import InstanceParameters

SCHEMA = 1
"""Of the JSON file beside each result."""


class Report(Protocol):
    """Hears what happens: events "start", "image", "plan", "progress", "done", "failed" with their fields."""

    def __call__(self, event: str, /, **fields: Any) -> None: ...


def predict_files(
    inputs: Sequence[str | Path],
    model: Model,
    out: str | Path | None,
    options: PredictOptions,
    report: Report,
) -> list[Job]:
    """Segment all images that `inputs` mean and write the results.

    Labels are written last: where they are, all that belongs to them is there.

    Returns
    -------
    The jobs, all done; or planned only, with `dry_run`.

    Raises
    ------
    BatchError
        If some of several images failed; the others are done.
    CellScribbleError
        If nothing can be started (see `plan_jobs`, `Runner`), or the only image failed.
    """
    jobs = plan_jobs(
        inputs,
        out,
        probability=options.probability,
        overlay=options.overlay,
        overwrite=options.overwrite,
        dry_run=options.dry_run,
    )
    runner = Runner(model, options.device)
    to_plan = options.dry_run or options.max_memory is not None or options.rescale or any(job.to_zarr for job in jobs)
    planner = Planner(model, runner, options.max_memory) if to_plan else None
    report("start", model=model.path, sha256=model.sha256, provider=runner.provider, n_images=len(jobs))
    failures: dict[str, str] = {}
    for index, job in enumerate(jobs):
        try:
            _run(job, index, model, runner, planner, options, report)
        except (CellScribbleError, OSError, MemoryError) as error:
            known = _explain(error, job)
            if len(jobs) == 1:
                raise known from error.__cause__ if known is error else error
            failures[str(job.image)] = str(known)
            report("failed", index=index, image=job.image, message=str(known))
    if failures:
        raise BatchError(failures, len(jobs) - len(failures))
    return jobs


def _run(
    job: Job,
    index: int,
    model: Model,
    runner: Runner,
    planner: Planner | None,
    options: PredictOptions,
    report: Report,
) -> None:
    start = time.perf_counter()
    level = choose_level(job.image, model.metadata, options)
    options = replace(options, level=level.index)
    image = open_image(job.image, axes=options.axes, timepoint=options.timepoint, level=level.index)
    understood = describe_image(image)
    report("image", index=index, image=job.image, **understood, level=level.index, why_level=level.words)
    record = {
        "schema": SCHEMA,
        "command": provenance.command(),
        "created": provenance.now(),
        "versions": provenance.versions(),
        "model": {"path": str(model.path.resolve()), "sha256": model.sha256, "name": model.metadata.name},
        "settings": asdict(options),
        "image": {"path": str(job.image.resolve()), **understood},
        "classes": list(model.metadata.classes),
    }

    def progress(done: float, total: float, words: str = "") -> None:
        report("progress", index=index, name=job.name, done=done, total=total, words=words)

    def planned(plan: Plan, work: Work) -> None:
        report("plan", index=index, image=job.image, **forecast_blocks(job, plan, work, options.max_memory))

    fit = check_fit(
        image,
        model.metadata,
        rescale=options.rescale,
        ignore_pixel_size=options.ignore_pixel_size,
        levels_um=level.pixel_sizes_um,
    )
    if job.to_zarr and fit.shape is None:
        assert planner is not None
        found = segment_to_zarr(job, image, fit.notes, model, runner, options, record, progress, planner, planned)
    else:
        if planner is not None:
            plan = _plan_in_memory(image, fit, model, planner, options)
            if options.dry_run:
                forecast = forecast_memory(job, image, model.metadata, plan, options.max_memory)
                report("plan", index=index, image=job.image, **forecast)
                return
            options = replace(options, block_px=plan.block_px)
        found = _in_memory(job, image, model, runner, options, record, progress)
    if found is None:
        return
    report(
        "done",
        index=index,
        image=job.image,
        labels=job.labels,
        probability=job.probability,
        overlay=job.overlay,
        n_objects=found["n_objects"],
        notes=found["notes"],
        seconds=round(time.perf_counter() - start, 3),
    )


def _plan_in_memory(image: ImageVolume, fit: Fit, model: Model, planner: Planner, options: PredictOptions) -> Plan:
    name, parameters = segmenter_of(model, as_classes=options.as_classes, threshold=options.threshold)
    settings = None if name == CLASSES else InstanceParameters.from_dict(parameters)
    seen = work_of(image, model.metadata, settings, probability=options.probability, shape=fit.shape)
    return planner.plan_whole(image, seen, options.block_px)


def _in_memory(
    job: Job,
    image: ImageVolume,
    model: Model,
    runner: Runner,
    options: PredictOptions,
    record: dict[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    start = time.perf_counter()
    prediction = predict(
        image,
        model,
        as_classes=options.as_classes,
        threshold=options.threshold,
        block_px=options.block_px,
        rescale=options.rescale,
        ignore_pixel_size=options.ignore_pixel_size,
        runner=runner,
        progress=progress,
    )
    found = {
        "segmenter": {"name": prediction.segmenter, "parameters": prediction.segmenter_parameters},
        "provider": prediction.provider,
        **_counts(prediction),
        "notes": list(prediction.notes),
        "seconds": round(time.perf_counter() - start, 3),
    }
    write_results(job, image, prediction, record | found, overwrite=options.overwrite)
    return found


def _explain(error: Exception, job: Job) -> CellScribbleError:
    if isinstance(error, CellScribbleError):
        return error
    if isinstance(error, MemoryError):
        return InputError(f"memory does not suffice for {job.image}; use a smaller --block, or a coarser --level")
    return InputError(f"{job.image} cannot be used ({error}); check the file, its permissions and the disk")


def describe_image(image: ImageVolume) -> dict[str, Any]:
    """What was understood of an image, as plain values."""
    return {
        "shape": list(image.data.shape),
        "axes": image.axes,
        "dtype": str(image.data.dtype),
        "is_rgb": image.is_rgb,
        "channels": list(image.channel_names),
        "pixel_size_um": None if image.pixel_size_um is None else list(image.pixel_size_um),
        "origin": image.origin,
    }


def _counts(prediction: Prediction) -> dict[str, Any]:
    if prediction.as_classes:
        return {"n_objects": None}
    if prediction.object_classes is None:
        return {"n_objects": prediction.n_objects}
    # Entry i belongs to label i + 1.
    return {"n_objects": prediction.n_objects, "object_classes": prediction.object_classes.tolist()}
