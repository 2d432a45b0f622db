"""A folder that CellProfiler measures as it stands: label files, images, a LoadData table and a pipeline."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.errors import InputError
from cellscribble.core.labels import label_dtype
from cellscribble.core.volume import ImageVolume
from cellscribble.engine.outputs import DEFAULT_OUT, Job
from cellscribble.engine.tiles import tiles
from cellscribble.io.atomic import check_writable, save_text
from cellscribble.io.cppipe import ENDING, cellprofiler_name, pipeline_2d, pipeline_3d
from cellscribble.io.images import is_plain_grey, max_sample_value, open_image
from cellscribble.io.tiff import save_image, save_labels
from cellscribble.measure.features import full_scale

FOLDER, TABLE, PIPELINE, TILE_TABLE = "cellprofiler", "load_data.csv", "measure.cppipe", "objects.csv"
OBJECTS = "Cells"
"""What the objects are called in CellProfiler."""

PLAIN_SUFFIXES = (".tif", ".tiff", ".png")
"""Of files that CellProfiler reads itself, where they hold one grey plane."""


class CellProfilerFolder:
    """Collects the results of a batch for CellProfiler, in a folder of their own.

    ::

        OUT/cellprofiler/NAME_cellscribble.tif   the objects: 0, 1 .. n without gaps
        OUT/cellprofiler/NAME_CHANNEL.tif        a channel; not of a 2D grey TIFF or PNG, which is read where it lies
        OUT/cellprofiler/load_data.csv           which belong together, for LoadData (2D)
        OUT/cellprofiler/measure.cppipe          a pipeline: load, measure size, shape and intensity, export
        OUT/cellprofiler/objects.csv             of images in tiles: which label each object of a tile has in the whole

    An image that is segmented block by block comes in tiles, NAME_r0_c0 and so on. Each object is whole and in one
    tile only, that of its centre: a tile is as large as its objects need, and those of other tiles are left out of it.

    Parameters
    ----------
    out : folder of the batch's results
    jobs : the batch
    channels : names of the model's channels
    as_stored : images were read as they lie in their files: no other time point or axes
    overwrite : files that exist are replaced

    Raises
    ------
    InputError
        If two images have one name.
    OutputError
        If the folder holds such files already (without `overwrite`).
    """

    def __init__(
        self,
        out: str | Path | None,
        jobs: Sequence[Job],
        channels: Sequence[str],
        *,
        as_stored: bool,
        overwrite: bool,
    ) -> None:
        self.path = Path(out or DEFAULT_OUT) / FOLDER
        self._as_stored = as_stored
        self._overwrite = overwrite
        self._names = _unique_names(channels)
        self._rows: list[dict[str, object]] = []
        self._in_tiles: list[dict[str, object]] = []
        self._spacing: tuple[float, ...] = ()
        self._ndim = 2
        names = [job.name for job in jobs]
        double = next((name for name in names if names.count(name) > 1), None)
        if double:
            raise InputError(f"several images are called {double}, and CellProfiler's folder is one; name them apart")
        tables = [self.path / name for name in (TABLE, PIPELINE, TILE_TABLE)]
        for file in (*tables, *(self._labels(name) for name in names)):
            check_writable(file, overwrite)

    def add(self, job: Job, image: ImageVolume, level: int) -> None:
        """Write what belongs to one image that is done, of this level of its pyramid.

        Raises
        ------
        InputError
            If it is a stack and the images before it are planes, or the other way round.
        """
        if self._rows and image.ndim != self._ndim:
            kind, others = ("a stack", "planes") if image.ndim == 3 else ("a plane", "stacks")
            raise InputError(
                f"{job.name} is {kind}, the images before it are {others}, and a pipeline of CellProfiler measures "
                f"one kind; its labels are in {job.labels}, and with an --out of its own it gets a pipeline"
            )
        self._ndim, self._spacing = image.ndim, image.pixel_size_um or (1.0,) * image.ndim
        labels, brightest = open_image(job.labels), max_sample_value(job.image)
        if job.by_blocks:
            place, start = "src"[-image.ndim :], "ZYX"[-image.ndim :]
            for tile in tiles(labels):
                name = "_".join([job.name, *(f"{a}{n}" for a, n in zip(place, tile.place, strict=True))])
                part = replace(image, data=image.data[(slice(None), *tile.window)])
                corner = {f"Metadata_Start_{a}": s.start for a, s in zip(start, tile.window, strict=True)}
                self._add(name, tile.labels, part, corner, None, brightest)
                self._in_tiles += [
                    {"Metadata_Name": name, "ObjectNumber": number, "Number_Label": label}
                    for number, label in enumerate(tile.ids.tolist(), start=1)
                ]
            return
        file = Path(job.image)
        plain = file.suffix.lower() in PLAIN_SUFFIXES and image.axes == "CYX" and image.n_channels == 1
        # CellProfiler takes grey and alpha for colours, and bits for values of 0 and 1 of 255.
        stays = file if plain and self._as_stored and level == 0 and is_plain_grey(file) else None
        self._add(job.name, np.asarray(labels.data[0]), image, {}, stays, brightest)

    def _add(
        self,
        name: str,
        labels: npt.NDArray[Any],
        image: ImageVolume,
        more: dict[str, int],
        stays: Path | None,
        brightest: int | None,
    ) -> None:
        """Write a label file and its channels.

        stays : the file of the only channel, if it is not copied
        brightest : as `full_scale`
        """
        size = image.pixel_size_um
        save_labels(self._labels(name), with_background(labels), size, self._overwrite)
        row: dict[str, object] = {"Metadata_Name": name, **more}
        for k, channel in enumerate(self._names):
            place, file = ".", f"{name}_{channel}.tif"
            if stays is not None:
                place, file = str(stays.resolve().parent), stays.name
            else:
                data = _as_files_hold(np.asarray(image.data[k : k + 1]), brightest)
                save_image(self.path / file, data, image.axes, size, overwrite=self._overwrite)
            row |= {f"Image_FileName_{channel}": file, f"Image_PathName_{channel}": place}
        row |= {f"Image_ObjectsFileName_{OBJECTS}": self._labels(name).name, f"Image_ObjectsPathName_{OBJECTS}": "."}
        self._rows.append(row)

    def finish(self) -> None:
        """Write the table and the pipeline of the images that were added."""
        if not self._rows:
            return
        if self._ndim == 3:
            text = pipeline_3d(self._names, OBJECTS, self._spacing)
        else:
            self._save(TABLE, self._rows)
            text = pipeline_2d(self.path, TABLE, self._names, OBJECTS)
        if self._in_tiles:
            self._save(TILE_TABLE, self._in_tiles)
        save_text(self.path / PIPELINE, text, self._overwrite)

    def _save(self, name: str, rows: list[dict[str, object]]) -> None:
        table = io.StringIO()
        writer = csv.DictWriter(table, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        save_text(self.path / name, table.getvalue(), self._overwrite)

    @property
    def command(self) -> str:
        """What runs the pipeline without windows."""
        folder = f" -i {self.path}" if self._ndim == 3 else ""
        return f"cellprofiler -c -r -p {self.path / PIPELINE}{folder} -o MEASUREMENTS"

    def _labels(self, name: str) -> Path:
        return self.path / f"{name}{ENDING}.tif"


def with_background(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Labels with a pixel of 0 at least; one is taken from the largest object where there is none.

    CellProfiler takes the smallest number of a label file for background.
    """
    if not labels.size or labels.min() == 0:
        return labels
    largest = int(np.bincount(labels.ravel()).argmax())
    out = labels.astype(label_dtype(int(labels.max())))
    out.flat[int((labels == largest).argmax())] = 0
    return out


def _as_files_hold(data: npt.NDArray[Any], brightest: int | None) -> npt.NDArray[Any]:
    """A channel in a type that TIFFs are written in, which CellProfiler reads as it would read the channel's own."""
    if brightest is None and (data.dtype in (np.uint8, np.uint16) or data.dtype.kind == "f"):
        return data
    return (data / full_scale(data.dtype, brightest)).astype(np.float32)


def _unique_names(channels: Sequence[str]) -> list[str]:
    names = [cellprofiler_name(channel) for channel in channels]
    return [name if names.count(name) == 1 else f"{name}_{k}" for k, name in enumerate(names, start=1)]
