"""What a run will take, as plain values for people and programs; nothing is written."""

from __future__ import annotations

import math
import shutil
from typing import Any

from cellscribble.bundle import ModelMetadata
from cellscribble.core.volume import ImageVolume
from cellscribble.engine.costs import Work
from cellscribble.engine.memory import available_bytes, format_bytes
from cellscribble.engine.outputs import Job, existing_folder
from cellscribble.engine.plan import Plan

NODE_BYTES = 1
"""Of the tables of open objects, a pixel; far less where cells are larger than a few pixels."""


def forecast_blocks(job: Job, plan: Plan, work: Work, max_memory: int | None) -> dict[str, Any]:
    """Of an image that is segmented block by block.

    Returns
    -------
    "block_px", "n_blocks", "halo_px", "at_once", "threads", "memory_bytes", "most_memory_bytes",
    "disk_bytes" (at most, the labels among it), "free_disk_bytes", "seconds", "writes", "warnings".
    """
    counts = [-(-n // b) for n, b in zip(work.shape, plan.block_px, strict=True)]
    labels = labels_bytes(work)
    # A pyramid is a third more at most. `seen` has a byte a pixel, the numbers of objects four.
    kept = work.n_pixels * (1 if work.cut_halo_px is None else 1 + 4 + NODE_BYTES)
    disk = kept + labels + work.n_stored * work.n_pixels * 4 // 3
    free = _free_bytes(job)
    warnings = []
    if free < labels:
        warnings.append(
            f"{format_bytes(free)} are free in {job.labels.parent}, and the labels take up to {format_bytes(labels)} "
            "there (packed mostly far less); if the disk becomes full the run stops, and goes on when there is room"
        )
    if max_memory is None and (room := available_bytes()) is not None and plan.usual_bytes > room:
        warnings.append(f"memory of about {format_bytes(plan.usual_bytes)} is needed, {format_bytes(room)} are free")
    return {
        "how": "blocks",
        "block_px": list(plan.block_px),
        "n_blocks": math.prod(counts),
        "halo_px": list(work.halo_px),
        "at_once": plan.n_networks,
        "threads": plan.threads,
        "memory_bytes": plan.usual_bytes,
        "most_memory_bytes": plan.most_bytes,
        "disk_bytes": disk,
        "free_disk_bytes": free,
        "seconds": round(plan.seconds, 3),
        "writes": [str(path) for path in (*job.files, job.unfinished)],
        "warnings": warnings,
    }


def forecast_memory(
    job: Job, image: ImageVolume, meta: ModelMetadata, plan: Plan, max_memory: int | None
) -> dict[str, Any]:
    """Of an image that is segmented in memory; fields as `forecast_blocks`."""
    n_probability = 0 if job.probability is None else len(meta.classes)
    disk, free = image.n_pixels * 4 * (1 + n_probability), _free_bytes(job)
    warnings = []
    if free < disk:
        warnings.append(f"{format_bytes(free)} are free in {job.labels.parent}, up to {format_bytes(disk)} are needed")
    room = available_bytes()
    if max_memory is None and room is not None and plan.usual_bytes > room:
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
    return work.n_pixels * (2 if work.cut_halo_px is None else 4) * 4 // 3


def _free_bytes(job: Job) -> int:
    return shutil.disk_usage(existing_folder(job.labels.parent)).free
