"""One image of a batch: it is read, segmented, and its results are written."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from cellscribble import provenance
from cellscribble.bundle import Model
from cellscribble.core.blocks import BlockGrid
from cellscribble.core.volume import ImageVolume
from cellscribble.engine.costs import Work
from cellscribble.engine.done import image_state
from cellscribble.engine.forecast import forecast_blocks, forecast_memory
from cellscribble.engine.glance import low_level, open_below
from cellscribble.engine.level import Level, choose_level
from cellscribble.engine.options import PredictOptions
from cellscribble.engine.outputs import Job
from cellscribble.engine.plan import Plan
from cellscribble.engine.planner import Planner
from cellscribble.engine.side_by_side import ROOM_PX, Report, Room
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


@dataclass(frozen=True, eq=False)
class Segmenting:
    """How all images of a batch are segmented; thread-safe without a planner.

    runner, narrow : the model on all cores, and on the share of them that each of `n_at_once` images has
    n_at_once : images that are small enough to be in the network at once
    planner : of the large images, or where memory is limited or planned; else None
    cluster : the workers, if any
    """

    model: Model
    options: PredictOptions
    runner: Runner
    narrow: Runner
    n_at_once: int
    planner: Planner | None
    cluster: DaskExecutor | None
    room: Room = field(default_factory=Room)

    def __call__(self, job: Job, index: int, report: Report) -> tuple[ImageVolume, int]:
        """Segment one image; the image, and the level of its pyramid that was taken."""
        level = choose_level(job.image, self.model.metadata, self.options)
        options = replace(self.options, level=level.index)

        def read() -> ImageVolume:
            return open_image(
                job.image,
                axes=options.axes,
                timepoint=options.timepoint,
                level=level.index,
                lazy=job.by_blocks and options.lazy,
            )

        with self.room.image(read, lambda image: image.n_pixels) as image:
            self._segment(job, index, image, level, options, report)
        return image, level.index

    def _segment(
        self, job: Job, index: int, image: ImageVolume, level: Level, options: PredictOptions, report: Report
    ) -> None:
        start, model, planner = time.perf_counter(), self.model, self.planner
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
            low = None
            if options.dry_run and options.skip_empty:
                counts = BlockGrid(work.shape, plan.block_px).counts
                low = open_below(job.image, low_level([one.shape for one in image.levels], counts), options)
            rule = model.metadata.intensity
            forecast = forecast_blocks(job, plan, work, options, goes_on=goes_on, low=low, rule=rule)
            report("plan", index=index, image=job.image, **forecast)

        fit = check_fit(image, model.metadata, levels_um=level.pixel_sizes_um, **options.fitting)
        if job.by_blocks:
            assert planner is not None
            cluster = self.cluster
            segmented = segment_to_zarr(job, image, fit, model, planner, options, record, progress, planned, cluster)
            if segmented is None:
                return
            found = segmented
            if options.shard is not None:
                report("shard", index=index, image=job.image, unfinished=job.unfinished, shard=options.shard, **found)
                return
        else:
            if planner is not None:
                plan = self._plan_in_memory(job, image, fit, options)
                if options.dry_run:
                    forecast = forecast_memory(job, image, fit.metadata, plan, options)
                    report("plan", index=index, image=job.image, **forecast)
                    return
                options = replace(options, block_px=plan.block_px)
            found = self._in_memory(job, image, options, record, progress)
            if options.workers is not None or options.scheduler is not None:
                found["notes"] = [*found["notes"], NOT_HANDED_OUT]
        report_done(report, index, job, found, start)

    def _plan_in_memory(self, job: Job, image: ImageVolume, fit: Fit, options: PredictOptions) -> Plan:
        assert self.planner is not None
        seen_as = replace(self.model, metadata=fit.metadata)
        task = task_of(job.image, image, seen_as, options, written_version(job, options), shape=fit.shape)
        return self.planner.plan_whole(image, self.planner.work(task, fit.metadata), options.block_px)

    def _in_memory(
        self, job: Job, image: ImageVolume, options: PredictOptions, record: dict[str, Any], progress: Progress
    ) -> dict[str, Any]:
        start = time.perf_counter()
        # Side by side on a core each, images take less time than one after the other on all cores.
        fill_all_cores = image.n_pixels * self.n_at_once <= ROOM_PX
        prediction = predict(
            image,
            self.model,
            as_classes=options.as_classes,
            threshold=options.threshold,
            block_px=options.block_px,
            runner=self.narrow if fill_all_cores else self.runner,
            progress=progress,
            **options.fitting,
        )
        found = {
            "segmenter": {"name": prediction.segmenter, "parameters": prediction.segmenter_parameters},
            "provider": prediction.provider,
            **_counts(prediction),
            "notes": list(prediction.notes),
            "unlike": prediction.unlike,
            "seconds": round(time.perf_counter() - start, 3),
        }
        version, overwrite = written_version(job, options), options.overwrite or job.begun
        write_results(job, image, prediction, record | found, version, overwrite=overwrite)
        return found


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
        unlike=found.get("unlike", False),
        seconds=round(time.perf_counter() - start, 3),
    )


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
