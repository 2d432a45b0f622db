"""Many images, one model: read, predict, write, and go on when one image fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from functools import partial
from pathlib import Path

from cellscribble.bundle import Model
from cellscribble.core.errors import BatchError, CellScribbleError, InputError
from cellscribble.engine.cellprofiler import CellProfilerFolder
from cellscribble.engine.cluster import check_distributed, local_workers, workers_of
from cellscribble.engine.done import is_ours
from cellscribble.engine.one_image import Segmenting
from cellscribble.engine.options import PredictOptions
from cellscribble.engine.outputs import Job, plan_jobs
from cellscribble.engine.planner import Planner
from cellscribble.engine.side_by_side import MOST_AT_ONCE, Report, in_turn
from cellscribble.engine.workers import DaskExecutor
from cellscribble.infer.runner import Runner, usable_cores


def predict_files(
    inputs: Sequence[str | Path],
    model: Model,
    out: str | Path | None,
    options: PredictOptions,
    report: Report,
    open_runner: Callable[[Model, str], Runner] = Runner,
) -> list[Job]:
    """Segment all images that `inputs` mean and write the results.

    Labels are written last: where they are, all that belongs to them is there. Small images are segmented several at
    once, and told of in their order. Of several images those that the same command has done before it was stopped are
    left as they are.

    Parameters
    ----------
    report : hears the events "start", "workers", "image", "plan", "progress", "done", "shard", "failed",
        "cellprofiler"; from several threads, but one at a time
    open_runner : given the model and the name of the device

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
    with ExitStack() as stack:
        cluster = stack.enter_context(_cluster(jobs, options))
        if cluster is not None:
            report("workers", n=len(cluster.threads), n_threads=sum(cluster.threads.values()))
        planner = _planner(jobs, model, runner, options, cluster)
        # A plan counts on all memory and all cores.
        n_at_once = 1 if planner is not None or len(jobs) - n_done == 1 else min(usable_cores(), MOST_AT_ONCE)
        narrow = runner.with_threads(usable_cores() // n_at_once)
        segment = Segmenting(model, options, runner, narrow, n_at_once, planner, cluster)
        # One more is read and written while these are in the network.
        n_begun = 1 if n_at_once == 1 else n_at_once + 1
        left = [(job, index) for index, job in enumerate(jobs) if not job.done]
        results = in_turn([partial(segment, *which) for which in left], report, n_begun)
        for (job, index), result in zip(left, stack.enter_context(closing(results)), strict=True):
            try:
                image, level = result()
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
        is_ours=ours,
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


def _explain(error: Exception, job: Job) -> CellScribbleError:
    if isinstance(error, CellScribbleError):
        return error
    if isinstance(error, MemoryError):
        return InputError(f"memory does not suffice for {job.image}; use a smaller --block, or a coarser --level")
    return InputError(f"{job.image} cannot be used ({error}); check the file, its permissions and the disk")
