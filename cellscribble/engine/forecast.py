"""What a run will take, as plain values for people and programs; nothing is written."""

from __future__ import annotations

import shutil
from typing import Any

from cellscribble.bundle import ModelMetadata
from cellscribble.core.blocks import BlockGrid
from cellscribble.core.errors import CellScribbleError
from cellscribble.core.intensity import IntensityRule, fit_intensity
from cellscribble.core.volume import ImageVolume
from cellscribble.engine.costs import Work
from cellscribble.engine.glance import looks_empty
from cellscribble.engine.journal import done_of
from cellscribble.engine.memory import available_bytes, format_bytes
from cellscribble.engine.options import PredictOptions
from cellscribble.engine.outputs import Job, existing_folder
from cellscribble.engine.plan import Plan
from cellscribble.engine.shards import part

NODE_BYTES = 1
"""Of the tables of open objects, a pixel; far less where cells are larger than a few pixels."""


def forecast_blocks(
    job: Job,
    plan: Plan,
    work: Work,
    options: PredictOptions,
    *,
    goes_on: bool,
    low: ImageVolume | None = None,
    rule: IntensityRule | None = None,
) -> dict[str, Any]:
    """Of an image that is segmented block by block; of the blocks and the time a shard's part.

    goes_on : a run that was interrupted is gone on with; "n_done" of its blocks the network has seen
    low, rule : a low level of the image's pyramid and how its brightness is measured, to tell the blocks that look
        empty

    Returns
    -------
    "block_px", "n_blocks", "n_done", "n_look_empty" (None where that is not known), "halo_px", "at_once", "threads",
    "workers" (0 for this process), "memory_bytes", "most_memory_bytes", "disk_bytes" (at most, the labels among it),
    "free_disk_bytes", "seconds", "writes", "warnings".
    """
    grid = BlockGrid(work.shape, plan.block_px)
    n_blocks = len(grid)
    shard = options.shard or (1, 1)
    own = part(n_blocks, shard)
    n_own = own.stop - own.start
    n_done = int(done_of(job.unfinished, {"see": n_blocks}).done["see"][own].sum()) if goes_on else 0
    warnings = []
    n_left, n_look_empty = float(n_own - n_done), None
    if low is not None and rule is not None and n_own:
        try:
            n_look_empty = int(looks_empty(low, fit_intensity(low, rule), grid, work.halo_px)[own].sum())
            n_left *= 1 - n_look_empty / n_own
        except CellScribbleError as error:
            warnings.append(f"which blocks look empty is not known: {error}")
    labels = labels_bytes(work)
    # A pyramid is a third more at most. `seen` has a byte a pixel, the numbers of objects four.
    kept = work.n_pixels * (1 if work.cut_halo_px is None else 1 + 4 + NODE_BYTES)
    # TIFFs are made of stores.
    if work.own_shape is not None and work.n_stored:
        kept += 4 * work.n_pixels * work.n_stored
    disk = kept + (labels + work.n_stored * work.n_labelled * 4 // 3) * (1 if job.to_zarr else 2)
    free = _free_bytes(job)
    if free < labels:
        warnings.append(
            f"{format_bytes(free)} are free in {job.labels.parent}, and the labels take up to {format_bytes(labels)} "
            "there (packed mostly far less); if the disk becomes full the run stops, and goes on when there is room"
        )
    room = available_bytes()
    if not _is_bounded(options) and room is not None and plan.usual_bytes > room:
        warnings.append(f"memory of about {format_bytes(plan.usual_bytes)} is needed, {format_bytes(room)} are free")
    return {
        "how": "blocks",
        "block_px": list(plan.block_px),
        "n_blocks": n_own,
        "n_done": n_done,
        "n_look_empty": n_look_empty,
        "halo_px": list(work.halo_px),
        "at_once": plan.n_networks,
        "threads": plan.threads,
        "workers": options.workers or 0,
        "memory_bytes": plan.usual_bytes,
        "most_memory_bytes": plan.most_bytes,
        "disk_bytes": disk,
        "free_disk_bytes": free,
        "seconds": round(plan.seconds * n_left / n_blocks, 3),
        "writes": [str(path) for path in (*(() if options.shard else job.files), job.unfinished)],
        "warnings": warnings,
    }


def forecast_memory(
    job: Job, image: ImageVolume, meta: ModelMetadata, plan: Plan, options: PredictOptions
) -> dict[str, Any]:
    """Of an image that is segmented in memory; fields as `forecast_blocks`."""
    n_probability = 0 if job.probability is None else len(meta.classes)
    disk = image.n_pixels * (4 * (1 + n_probability) + (job.uncertainty is not None))
    free = _free_bytes(job)
    warnings = []
    if free < disk:
        warnings.append(f"{format_bytes(free)} are free in {job.labels.parent}, up to {format_bytes(disk)} are needed")
    room = available_bytes()
    if options.max_memory is None and room is not None and plan.usual_bytes > room:
        warnings.append(f"memory of about {format_bytes(plan.usual_bytes)} is needed, {format_bytes(room)} are free")
    return {
        "how": "memory",
        "block_px": list(plan.block_px),
        "halo_px": list(meta.halo_px),
        "at_once": 1,
        "threads": plan.threads,
        "memory_bytes": plan.usual_bytes,
        "most_memory_bytes": plan.most_bytes,
        "disk_bytes": disk,
        "free_disk_bytes": free,
        "seconds": round(plan.seconds, 3),
        "writes": [str(path) for path in job.files],
        "warnings": warnings,
    }


def labels_bytes(work: Work) -> int:
    """Labels with their pyramid, unpacked: uint32, or uint16 where they are classes."""
    return work.n_labelled * (2 if work.cut_halo_px is None else 4) * 4 // 3


def _is_bounded(options: PredictOptions) -> bool:
    """Whether memory of this computer is kept to, or not what is asked for."""
    return options.max_memory is not None or options.scheduler is not None


def _free_bytes(job: Job) -> int:
    return shutil.disk_usage(existing_folder(job.labels.parent)).free
