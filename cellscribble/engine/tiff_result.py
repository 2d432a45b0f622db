"""Results of a run by blocks as TIFFs, made of its stores when these are complete."""

from __future__ import annotations

from typing import Any

import zarr

from cellscribble.core.volume import ImageVolume
from cellscribble.engine.outputs import Job
from cellscribble.engine.stores import n_levels
from cellscribble.engine.unfinished import Unfinished
from cellscribble.io.ome_zarr_read import channel_names
from cellscribble.io.tiff_pyramid import save_tiff_pyramid


def save_as_tiffs(job: Job, unfinished: Unfinished, image: ImageVolume) -> None:
    """Write what `job` wants as TIFF pyramids, from the stores in the folder; what is there already is kept.

    Raises
    ------
    OutputError
        If one cannot be written.
    """
    for inner, _ in job.targets:
        path = unfinished.path(inner)
        if path.suffix != ".tif" or path.exists():
            continue
        group: Any = zarr.open_group(str(path.with_suffix(".zarr")), mode="r")
        levels = [group[str(level)] for level in range(n_levels(group))]
        axes = image.axes if levels[0].ndim == len(image.axes) else image.axes[1:]
        save_tiff_pyramid(path, levels, axes, image.pixel_size_um, channel_names(group))
