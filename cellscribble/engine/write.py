"""The files of one prediction."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.blocks import BlockGrid
from cellscribble.core.errors import FileFormatError
from cellscribble.core.reading import reading
from cellscribble.core.volume import AXES_2D, ImageVolume
from cellscribble.engine.into_image import SOURCE
from cellscribble.engine.outputs import Job
from cellscribble.infer.predict import Prediction
from cellscribble.infer.uncertainty import uncertainty
from cellscribble.io.atomic import explain_write_error, remove, save_json
from cellscribble.io.ome_zarr import write_ome_zarr
from cellscribble.io.pictures import overlay_labels, save_png, to_rgb
from cellscribble.io.tiff import save_image, save_labels

MAX_OVERLAY_PX = 4096
"""Longer side of an overlay at most; viewers choke on larger PNGs."""

OVERLAY_BYTES = 22
"""Of drawing one, a pixel of it."""

OVERLAY_PIECE_PX = 1024
"""Of the image, that are read for it at once."""


def write_results(
    job: Job, image: ImageVolume, prediction: Prediction, record: dict[str, Any], version: str, *, overwrite: bool
) -> None:
    """Write what `job` names; the record first, labels last. If one of the files fails all is as it was before.

    Parameters
    ----------
    record : how the result was made; a JSON file, and in a Zarr the attribute "cellscribble" too
    version : of OME-Zarr, where one is written

    Raises
    ------
    OutputError
        If a file exists (without `overwrite`) or cannot be written.
    """
    # Labels inside an image change places in one step.
    own = [path for path in job.files if job.into is None or path != job.labels]
    with _set_aside(own if overwrite else []):
        _write(job, prediction, image, record, version, overwrite)


@contextmanager
def _set_aside(files: Iterable[Path]) -> Iterator[None]:
    """Files that are replaced lie apart meanwhile: back in their places if that fails, and not taken for new ones."""
    old = [path for path in files if path.exists()]
    if not old:
        yield
        return
    moved: list[Path] = []
    try:
        apart = Path(tempfile.mkdtemp(prefix=".replaced-", dir=old[0].parent))
    except OSError as error:
        raise explain_write_error(error, old[0]) from error
    try:
        for path in old:
            try:
                os.replace(path, apart / path.name)
            except OSError as error:
                raise explain_write_error(error, path) from error
            moved.append(path)
        yield
    except BaseException:
        for path in moved:
            remove(path)
            os.replace(apart / path.name, path)
        raise
    finally:
        remove(apart)


def _write(
    job: Job, prediction: Prediction, image: ImageVolume, record: dict[str, Any], version: str, overwrite: bool
) -> None:
    written: list[Path] = []
    try:
        # Whoever finds it without labels knows whose the other files are.
        save_json(job.provenance, record, overwrite)
        written.append(job.provenance)
        if job.probability is not None:
            named = (prediction.probability, prediction.classes)
            _write_image(job.probability, *named, image, job, version, overwrite=overwrite)
            written.append(job.probability)
        if job.uncertainty is not None:
            unsure = uncertainty(prediction.probability)[None]
            _write_image(job.uncertainty, unsure, ("uncertainty",), image, job, version, overwrite=overwrite)
            written.append(job.uncertainty)
        if job.overlay is not None:
            save_png(job.overlay, overlay(image, prediction.labels), overwrite)
            written.append(job.overlay)
        if job.to_zarr:
            if job.into is not None:
                job.into.unlist()
            write_ome_zarr(
                job.labels,
                prediction.labels,
                image.axes[1:],
                image.pixel_size_um,
                levels=image.levels,
                version=version,
                source=SOURCE if job.into else "",
                attributes={"cellscribble": record},
                overwrite=overwrite,
            )
            if job.into is not None:
                job.into.enlist()
        else:
            save_labels(job.labels, prediction.labels, image.pixel_size_um, overwrite)
    except BaseException:
        # A result without its labels would look like one that was made.
        for path in written:
            remove(path)
        raise


def overlay(
    image: ImageVolume, labels: Any, *, max_memory: int | None = None, skip_damaged: bool = False
) -> npt.NDArray[np.uint8]:
    """Outlines on the image, (Y, X, 3), of a stack on its middle plane; a huge image is thinned out.

    labels : (*spatial) integers; anything that slices
    max_memory : bytes of the whole program; of these it takes an eighth
    skip_damaged : parts of the image that cannot be read are black

    Raises
    ------
    FileFormatError
        If the image turns out to be damaged.
    """
    room = math.inf if max_memory is None else math.sqrt(max_memory / 8 / OVERLAY_BYTES)
    step = math.ceil(max(labels.shape[-2:]) / min(MAX_OVERLAY_PX, room))
    middle = tuple(n // 2 for n in labels.shape[:-2])
    thinned = np.asarray(labels[(*middle, slice(None, None, step), slice(None, None, step))])
    plane = np.zeros((image.n_channels, *thinned.shape), image.data.dtype)
    # Piece by piece, so that no more than what is damaged is lost.
    grid = BlockGrid(thinned.shape, (max(1, OVERLAY_PIECE_PX // step),) * 2)
    for k in range(len(grid)):
        box = grid.box(k)
        source = (slice(s.start * step, s.stop * step, step) for s in box)
        try:
            with reading(image):
                plane[(slice(None), *box)] = image.data[(slice(None), *middle, *source)]
        except FileFormatError:
            if not skip_damaged:
                raise
    shown = replace(image, data=plane, axes=AXES_2D, pixel_size_um=None, levels=())
    return overlay_labels(to_rgb(shown), thinned)


def _write_image(
    path: Path,
    data: npt.NDArray[Any],
    names: Sequence[str],
    image: ImageVolume,
    job: Job,
    version: str,
    *,
    overwrite: bool,
) -> None:
    """Write (C, *spatial) data over an image, in the form of the job."""
    axes, size = image.axes, image.pixel_size_um
    if job.to_zarr:
        write_ome_zarr(
            path,
            data,
            axes,
            size,
            kind="image",
            channel_names=names,
            levels=image.levels,
            version=version,
            overwrite=overwrite,
        )
    else:
        save_image(path, data, axes, size, names, overwrite)
