"""The files of one prediction."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.volume import ImageVolume
from cellscribble.engine.outputs import Job
from cellscribble.infer.predict import Prediction
from cellscribble.io.atomic import remove, save_json
from cellscribble.io.ome_zarr import write_ome_zarr
from cellscribble.io.pictures import overlay_labels, save_png, to_rgb
from cellscribble.io.tiff import save_image, save_labels

MAX_OVERLAY_PX = 4096
"""Longer side of an overlay at most; viewers choke on larger PNGs."""


def write_results(
    job: Job, image: ImageVolume, prediction: Prediction, record: dict[str, Any], *, overwrite: bool
) -> None:
    """Write what `job` names; labels last, and nothing is left if one of the files fails.

    Parameters
    ----------
    record : how the result was made; a JSON file, and in a Zarr the attribute "cellscribble" too

    Raises
    ------
    OutputError
        If a file exists (without `overwrite`) or cannot be written.
    """
    written: list[Path] = []
    try:
        if job.probability is not None:
            _write_probability(job.probability, prediction, image, to_zarr=job.to_zarr, overwrite=overwrite)
            written.append(job.probability)
        if job.overlay is not None:
            save_png(job.overlay, overlay(image, prediction.labels), overwrite)
            written.append(job.overlay)
        save_json(job.provenance, record, overwrite)
        written.append(job.provenance)
        if job.to_zarr:
            write_ome_zarr(
                job.labels,
                prediction.labels,
                image.axes[1:],
                image.pixel_size_um,
                attributes={"cellscribble": record},
                placement=image.placement,
                overwrite=overwrite,
            )
        else:
            save_labels(job.labels, prediction.labels, image.pixel_size_um, overwrite)
    except BaseException:
        # A result without its labels would look like one that was made.
        for path in written:
            remove(path)
        raise


def overlay(image: ImageVolume, labels: Any) -> npt.NDArray[np.uint8]:
    """Outlines on the image, (Y, X, 3), of a stack on its middle plane; a huge image is thinned out.

    labels : (*spatial) integers; anything that slices
    """
    step = math.ceil(max(labels.shape[-2:]) / MAX_OVERLAY_PX)
    middle = tuple(n // 2 for n in labels.shape[:-2])
    thinned = np.asarray(labels[(*middle, slice(None, None, step), slice(None, None, step))])
    return overlay_labels(to_rgb(image, step=step), thinned)


def _write_probability(
    path: Path, prediction: Prediction, image: ImageVolume, *, to_zarr: bool, overwrite: bool
) -> None:
    size, names = prediction.pixel_size_um, prediction.classes
    if to_zarr:
        write_ome_zarr(
            path,
            prediction.probability,
            image.axes,
            size,
            kind="image",
            channel_names=names,
            placement=image.placement,
            overwrite=overwrite,
        )
    else:
        save_image(path, np.asarray(prediction.probability), image.axes, size, names, overwrite)
