"""Many images, one model: read, predict, write, and go on when one image fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from cellscribble import provenance
from cellscribble.bundle import Model
from cellscribble.core.errors import BatchError, CellScribbleError, InputError
from cellscribble.core.volume import ImageVolume
from cellscribble.engine.cellprofiler import CellProfilerFolder
from cellscribble.engine.cluster import check_distributed, local_workers, workers_of
from cellscribble.engine.costs import Work
from cellscribble.engine.done import image_state, is_ours
from cellscribble.engine.forecast import forecast_blocks, forecast_memory
from cellscribble.engine.level import choose_level
from cellscribble.engine.options import PredictOptions
from cellscribble.engine.outputs import Job, plan_jobs
from cellscribble.engine.plan import Plan
from cellscribble.engine.planner import Planner
from cellscribble.engine.task import task_of
from cellscribble.engine.workers import DaskExecutor
from cellscribble.engine.write import write_results
from cellscribble.engine.zarr_job import segment_to_zarr, written_version
from cellscribble.infer.blockwise import Progress
from cellscribble.infer.fit import Fit, check_fit
from cellscribble.infer.predict import Prediction, predict
from cellscribble.infer.runner import Runner
from cellscribble.io.images import open_image

SCHEMA = 1
"""Of the JSON file beside each result."""


NOT_HANDED_OUT = "workers get blocks of OME-Zarr and of images above 64 Mpixel; smaller files are segmented here"


class Report(Protocol):
    """Hears events: "start", "workers", "image", "plan", "progress", "done", "shard", "failed", "cellprofiler"."""

    def __call__(self, event: str, /, **fields: Any) -> None: ...


def predict_files(
    inputs: Sequence[str | Path],
    model: Model,
    out: str | Path | None,
    options: PredictOptions,
    report: Report,
    open_runner: Callable[[Model, str], Runner] = Runner,
) -> list[Job]:
    """Segment all images that `inputs` mean and write the results.

    Labels are written last: where they are, all that belongs to them is there. `open_runner` is given the model and
    the name of the device.

    Of several images those that the same command has done before it was stopped are left as they are.

    Returns
    -------
    The jobs, all done; with `options.shard` those in which it has a part. With `dry_run` they are planned only.

    Raises
    ------
    BatchError
        If some of several images failed; the others are done.
    CellScribbleError
        If nothing can be started (see `plan_jobs`, `Runner`), or the only image failed.
    """
    # A folder for CellProfiler is made of all images at once.
    ours = None if options.cellprofiler else partial(is_ours, model=model, options=options)
    jobs = jobs_for(inputs, out, options, ours)
    export = _cellprofiler(out, jobs, model, options) if options.cellprofiler else None
    runner = open_runner(model, options.device)
    n_done = sum(job.done for job in jobs)
    report("start", model=model.path, sha256=model.sha256, provider=runner.provider, n_images=len(jobs), n_done=n_done)
    failures: dict[str, str] = {}
    with _cluster(jobs, options) as cluster:
        if cluster is not None:
            report("workers", n=len(cluster.threads), n_threads=sum(cluster.threads.values()))
        planner = _planner(jobs, model, runner, options, cluster)
        for index, job in enumerate(jobs):
            if job.done:
                continue
            try:
                image, level = _run(job, index, model, runner, planner, options, report, cluster)
                if export is not None and not options.dry_run:
                    export.add(job, image, level)
            except (CellScribbleError, OSError, MemoryError) as error:
                known = _explain(error, job)
                if len(jobs) == 1:
                    raise known from error.__cause__ if known is error else error
                failures[str(job.image)] = str(known)
                report("failed", index=index, image=job.image, message=str(known))
    if export is not None and not options.dry_run:
        export.finish()
        report("cellprofiler", folder=export.path, command=export.command)
    if failures:
        raise BatchError(failures, len(jobs) - len(failures))
    return jobs


def jobs_for(
    inputs: Sequence[str | Path],
    out: str | Path | None,
    options: PredictOptions,
    ours: Callable[[Job], bool] | None = None,
) -> list[Job]:
    """The jobs that these options make of `inputs`; `ours` as in `plan_jobs`, and raises as that."""
    return plan_jobs(
        inputs,
        out,
        probability=options.probability,
        uncertainty=options.uncertainty,
        overlay=options.overlay,
        overwrite=options.overwrite,
        shard=options.shard,
        form=options.format,
        into=options.into_image,
        dry_run=options.dry_run,
        **({} if ours is None else {"is_ours": ours}),
    )


def report_done(report: Report, index: int, job: Job, found: dict[str, Any], start: float) -> None:
    """Tell that an image is done; `start` is when its turn came, by time.perf_counter()."""
    report(
        "done",
        index=index,
        image=job.image,
        labels=job.labels,
        probability=job.probability,
        uncertainty=job.uncertainty,
        overlay=job.overlay,
        n_objects=found["n_objects"],
        notes=found["notes"],
        seconds=round(time.perf_counter() - start, 3),
    )


def _cellprofiler(
    out: str | Path | None, jobs: Sequence[Job], model: Model, options: PredictOptions
) -> CellProfilerFolder:
    if options.as_classes:
        raise InputError("--cellprofiler is about single objects, --classes about none; leave one out")
    as_stored = options.axes is None and options.timepoint is None
    return CellProfilerFolder(out, jobs, model.metadata.channels, as_stored=as_stored, overwrite=options.overwrite)


def _cluster(jobs: Sequence[Job], options: PredictOptions) -> AbstractContextManager[DaskExecutor | None]:
    """The workers that are asked for, where there is something to hand out."""
    if options.dry_run and (options.workers is not None or options.scheduler is not None):
        check_distributed()
    elif any(job.by_blocks for job in jobs):
        if options.workers is not None:
            return local_workers(options.workers)
        if options.scheduler is not None:
            return workers_of(options.scheduler)
    return nullcontext()


def _planner(
    jobs: Sequence[Job], model: Model, runner: Runner, options: PredictOptions, cluster: DaskExecutor | None
) -> Planner | None:
    """What plans the runs; None where all images are small and nothing is asked."""
    asked = options.dry_run or options.max_memory is not None or options.rescale
    if not asked and not any(job.by_blocks for job in jobs):
        return None
    elsewhere = cluster is not None and options.scheduler is not None
    return Planner(model, runner, options, max(cluster.threads.values(), default=0) if cluster and elsewhere else 0)


def _run(
    job: Job,
    index: int,
    model: Model,
    runner: Runner,
    planner: Planner | None,
    options: PredictOptions,
    report: Report,
    cluster: DaskExecutor | None,
) -> tuple[ImageVolume, int]:
    """Segment one image; the image, and the level of its pyramid that was taken."""
    start = time.perf_counter()
    level = choose_level(job.image, model.metadata, options)
    options = replace(options, level=level.index)
    image = open_image(
        job.image,
        axes=options.axes,
        timepoint=options.timepoint,
        level=level.index,
        lazy=job.by_blocks and options.lazy,
    )
    understood = describe_image(image)
    report("image", index=index, image=job.image, **understood, level=level.index, why_level=level.words)
    record = {
        "schema": SCHEMA,
        "command": provenance.command(),
        "created": provenance.now(),
        "versions": provenance.versions(),
        "model": {"path": str(model.path.resolve()), "sha256": model.sha256, "name": model.metadata.name},
        "settings": asdict(options),
        "image": image_state(job.image) | understood,
        "classes": list(model.metadata.classes),
    }

    def progress(done: float, total: float, words: str = "") -> None:
        report("progress", index=index, name=job.name, done=done, total=total, words=words)

    def planned(plan: Plan, work: Work, goes_on: bool) -> None:
        report("plan", index=index, image=job.image, **forecast_blocks(job, plan, work, options, goes_on=goes_on))

    fit = check_fit(
        image,
        model.metadata,
        rescale=options.rescale,
        ignore_pixel_size=options.ignore_pixel_size,
        planes=options.planes,
        levels_um=level.pixel_sizes_um,
    )
    if job.by_blocks:
        assert planner is not None
        segmented = segment_to_zarr(job, image, fit, model, planner, options, record, progress, planned, cluster)
        if segmented is None:
            return image, level.index
        found = segmented
        if options.shard is not None:
            report("shard", index=index, image=job.image, unfinished=job.unfinished, shard=options.shard, **found)
            return image, level.index
    else:
        if planner is not None:
            plan = _plan_in_memory(job, image, fit, model, planner, options)
            if options.dry_run:
                forecast = forecast_memory(job, image, fit.metadata, plan, options)
                report("plan", index=index, image=job.image, **forecast)
                return image, level.index
            options = replace(options, block_px=plan.block_px)
        found = _in_memory(job, image, model, runner, options, record, progress)
        if options.workers is not None or options.scheduler is not None:
            found["notes"] = [*found["notes"], NOT_HANDED_OUT]
    report_done(report, index, job, found, start)
    return image, level.index


def _plan_in_memory(
    job: Job, image: ImageVolume, fit: Fit, model: Model, planner: Planner, options: PredictOptions
) -> Plan:
    seen_as = replace(model, metadata=fit.metadata)
    task = task_of(image, seen_as, options, written_version(job, options), shape=fit.shape)
    return planner.plan_whole(image, planner.work(task, fit.metadata), options.block_px)


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
        planes=options.planes,
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
    overwrite = options.overwrite or job.begun
    write_results(job, image, prediction, record | found, written_version(job, options), overwrite=overwrite)
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
