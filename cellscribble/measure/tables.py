"""Tables as CellProfiler exports them: a line an object, and a line an image."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import zarr

from cellscribble.core.blocks import BlockGrid, block_size
from cellscribble.core.errors import CellScribbleError, InputError, OutputError
from cellscribble.core.volume import ImageVolume
from cellscribble.io.atomic import atomic_path, check_writable, is_zarr
from cellscribble.io.cppipe import cellprofiler_name
from cellscribble.io.images import image_name, list_images, max_sample_value, natural_key, open_image
from cellscribble.measure.blockwise import BLOCK_PX, by_block, sum_objects
from cellscribble.measure.by_cp_measure import INTENSITY, SHAPE, check_groups, cp_measure_table, measures
from cellscribble.measure.features import Columns, feature_table, full_scale
from cellscribble.measure.sorted_records import SortedRecords, to_records
from cellscribble.measure.table_files import CSV, check_form, open_table
from cellscribble.measure.whole import whole_names, whole_object_table
from cellscribble.metrics.pairs import files_by_name

PREFIX = "MyExpt_"
"""CellProfiler's own, so that scripts find the files."""

NUMBER, CLASS = "Number_Object_Number", "CellScribble_Class"

RGB_CHANNELS = ("Red", "Green", "Blue")


class Report(Protocol):
    """Hears what happens: events "progress" and "done" with their fields."""

    def __call__(self, event: str, /, **fields: Any) -> None: ...


@dataclass(slots=True)
class Tables:
    """The files that were written, the lines of the table of images, and what failed, by image name, in words."""

    objects: Path
    images: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is measured and what it is called.

    objects : CellProfiler's name of the objects
    channels : names of the images' channels; by default those of the files
    level : pyramid level of labels, and of images as well unless a coarser one of theirs has the labels' shape
    block_px : size of a block, one number for all axes or one for each
    quick : leave out what needs an object whole (see `cellscribble.measure.whole`)
    also : of `cellscribble.measure.by_cp_measure.APPEARANCE`
    """

    objects: str = "Cells"
    channels: tuple[str, ...] = ()
    level: int = 0
    block_px: tuple[int, ...] | None = None
    quick: bool = False
    also: tuple[str, ...] = ()


def measure_files(
    labels: str | Path,
    images: str | Path | None,
    out: str | Path,
    wanted: Wanted,
    report: Report,
    *,
    form: str = CSV,
    overwrite: bool = False,
) -> Tables:
    """Measure all objects of label files and write ``MyExpt_OBJECTS.csv`` and ``MyExpt_Image.csv``.

    Parameters
    ----------
    labels, images : files or folders, paired by name: ``a_labels.tif`` with ``a.tif``; two files are a pair
    out : folder of the tables
    form : {"csv", "parquet"}; the suffix of the files

    Returns
    -------
    Tables; an image that fails is noted and the others go on. Nothing is written if all fail.

    Raises
    ------
    InputError
        If a path holds nothing, the objects' name is not one for CellProfiler, or `also` is wanted without images.
    OutputError
        If a table exists (without `overwrite`) or cannot be written.
    MissingExtraError
        If Parquet is wanted and pyarrow is not installed, or `also` and cp_measure is not.
    """
    check_form(form)
    check_groups(wanted.also)
    if wanted.also and images is None:
        raise InputError(f"--also {','.join(wanted.also)} measures the images in the objects; give IMAGES too")
    if cellprofiler_name(wanted.objects) != wanted.objects:
        raise InputError(
            f"objects cannot be called {wanted.objects!r} in CellProfiler; "
            f"letters, digits and _ are allowed, such as {cellprofiler_name(wanted.objects)}"
        )
    out = Path(out)
    tables = Tables(out / f"{PREFIX}{wanted.objects}.{form}", out / f"{PREFIX}Image.{form}")
    check_writable(tables.objects, overwrite)
    check_writable(tables.images, overwrite)
    pairs, tables.failures = _pairs(Path(labels), None if images is None else Path(images))
    names: list[str] = []
    with atomic_path(tables.objects, overwrite) as temporary:
        with open_table(temporary, form) as table:
            for index, (name, label_file, image_file) in enumerate(pairs):

                def progress(done: float, index: int = index, name: str = name) -> None:
                    report("progress", name=name, done=(index + done) / len(pairs))

                with closing(SortedRecords("Number_Label", out)) as records:
                    try:
                        objects, row = _measure(name, label_file, image_file, wanted, records, progress)
                        if names and objects.names != names:
                            raise InputError(f"{label_file} has other channels or classes than the images before it")
                    except OutputError:
                        raise
                    except (CellScribbleError, OSError) as error:
                        tables.failures[name] = str(error)
                        continue
                    names = objects.names
                    tables.rows.append({"ImageNumber": len(tables.rows) + 1, **row})
                    for columns in objects:
                        table.add({"ImageNumber": np.full(len(columns[NUMBER]), len(tables.rows)), **columns})
                report("done", image=name, labels=label_file, n_objects=row[f"Count_{wanted.objects}"])
        if not tables.rows:
            raise InputError("; ".join(f"{name}: {message}" for name, message in tables.failures.items()))
    keys = dict.fromkeys(key for row in tables.rows for key in row)
    with atomic_path(tables.images, overwrite) as temporary, open_table(temporary, form) as table:
        table.add({key: [row.get(key) for row in tables.rows] for key in keys})
    return tables


def _pairs(labels: Path, images: Path | None) -> tuple[list[tuple[str, Path, Path | None]], dict[str, str]]:
    found = files_by_name(labels)
    if images is None:
        return [(name, file, None) for name, files in sorted(found.items()) for file in files], {}
    given = list_images(images)
    if len(found) == 1 and given == [images] and len(next(iter(found.values()))) == 1:
        ((name, (file,)),) = found.items()
        return [(name, file, images)], {}
    by_name: dict[str, list[Path]] = {}
    for path in given:
        by_name.setdefault(image_name(path), []).append(path)
    pairs: list[tuple[str, Path, Path | None]] = []
    failures = {}
    for name in sorted(found, key=lambda name: natural_key(Path(name))):
        several = next((files for files in (found[name], by_name.get(name, [])) if len(files) > 1), None)
        if several:
            failures[name] = f"several files have this name: {', '.join(map(str, several))}; keep one"
        elif name not in by_name:
            failures[name] = f"no image {name} in {images}"
        else:
            pairs.append((name, found[name][0], by_name[name][0]))
    return pairs, failures


def _open_image_of(labels: ImageVolume, file: Path, level: int) -> ImageVolume:
    """The image at this level, or at the coarser one that has the labels' shape: they may have been made of that."""
    image = open_image(file, level=level)
    shapes = [one.shape for one in image.levels]
    further = shapes.index(labels.spatial_shape) if labels.spatial_shape in shapes else 0
    return open_image(file, level=level + further) if further else image


@dataclass(frozen=True, slots=True)
class _Objects:
    """The columns of the objects of one image, a part at a time, labels ascending.

    records : their measurements, a field a column
    classes : (n,) the class of objects 1 to n, where there are classes
    """

    records: SortedRecords
    classes: npt.NDArray[np.integer[Any]] | None

    @property
    def names(self) -> list[str]:
        more = [NUMBER] if self.classes is None else [NUMBER, CLASS]
        return ["ObjectNumber", *sorted([*(self.records.dtype.names or ()), *more])]

    def __iter__(self) -> Iterator[Columns]:
        n = 0
        for part in self.records:
            numbers = np.arange(n + 1, n + len(part) + 1)
            columns = {name: np.ascontiguousarray(part[name]) for name in part.dtype.names or ()}
            columns |= {"ObjectNumber": numbers, NUMBER: numbers}
            if self.classes is not None:
                columns[CLASS] = self.classes[part["Number_Label"] - 1]
            yield {name: columns[name] for name in self.names}
            n += len(part)

    def count_classes(self, n_classes: int) -> list[int]:
        """How many objects are of each class."""
        assert self.classes is not None
        counts = np.zeros(n_classes, int)
        for part in self.records:
            counts += np.bincount(self.classes[part["Number_Label"] - 1], minlength=n_classes)[:n_classes]
        return list(map(int, counts))


def _measure(
    name: str,
    label_file: Path,
    image_file: Path | None,
    wanted: Wanted,
    records: SortedRecords,
    progress: Callable[[float], None],
) -> tuple[_Objects, dict[str, Any]]:
    """The objects of one image, measured into `records`, and its line in the table of images."""
    labels = open_image(label_file, level=wanted.level)
    image = None if image_file is None else _open_image_of(labels, image_file, wanted.level)
    channels = () if image is None else channel_names(image, wanted.channels)
    full = 1.0 if image_file is None or image is None else full_scale(image.data.dtype, max_sample_value(image_file))
    shape = labels.spatial_shape
    grid = BlockGrid(shape, block_size(shape, wanted.block_px or BLOCK_PX[labels.ndim], (1,) * labels.ndim))
    folder = records.folder
    groups = wanted.also
    by_library = not wanted.quick and measures(labels)
    if by_library:
        groups = (SHAPE, *([] if image is None else [INTENSITY]), *groups)
    first = bool(groups)
    n_passes = first + (1 if wanted.quick or by_library else 2)

    def counted(done: int, total: int) -> None:
        progress((first + done / total) / n_passes)

    known: npt.NDArray[Any] = np.zeros(0, int)
    more: Columns = {}
    if groups:
        known, more = cp_measure_table(labels, image, channels, full, groups, lambda done: progress(done / n_passes))
    # What cp_measure has found of whole objects is not looked for again.
    in_boxes = not wanted.quick and not more.keys() >= set(whole_names(labels.ndim, channels))
    last = 0
    sums = sum_objects(labels, image, block_px=grid.block_px, folder=folder, progress=counted)
    parts = by_block(sums, lambda part: part.low, grid, folder) if in_boxes else ((0, part) for part in sums)
    for block, part in parts:
        columns = feature_table(part, channels, [full] * len(channels))
        if in_boxes:
            columns |= whole_object_table(labels, image, part, channels, full, grid.block_px)
            progress(min(1.0, (first + 1 + (block + 1) / len(grid)) / n_passes))
        at = np.searchsorted(known, part.ids)
        for key, values in more.items():
            # Whole numbers stay such.
            columns[key] = values[at].astype(columns[key].dtype if key in columns else float)
        records.add(to_records(columns))
        last = max(last, int(part.ids.max(initial=0)))
    objects = _Objects(records, None)
    row: dict[str, Any] = {f"Count_{wanted.objects}": len(records), "Metadata_Name": name}
    found = read_classes(label_file)
    if found is not None and len(found[1]) >= last:
        class_names, classes = found
        objects = _Objects(records, classes)
        for class_name, count in list(zip(class_names, objects.count_classes(len(class_names)), strict=True))[1:]:
            row[f"Count_{wanted.objects}_{cellprofiler_name(class_name)}"] = count
    size = labels.pixel_size_um or (image.pixel_size_um if image is not None else None)
    if size is not None:
        unit = f"mm{labels.ndim}"
        extent = labels.n_pixels * math.prod(size) / 1000.0**labels.ndim
        counts = {key: value for key, value in row.items() if key.startswith("Count_")}
        row |= {f"Density_{key.removeprefix('Count_')}_per_{unit}": value / extent for key, value in counts.items()}
        row |= {f"Size_{unit}": extent}
    row |= _file_columns("Objects", wanted.objects, label_file)
    for channel in channels:
        assert image_file is not None
        row |= _file_columns("", channel, image_file)
    return objects, row


def channel_names(image: ImageVolume, given: Sequence[str] = ()) -> tuple[str, ...]:
    """What CellProfiler's columns call the channels: as `given`, as in the file, or Red, Grey, Channel_1 ..."""
    if given and len(given) != image.n_channels:
        raise InputError(f"{len(given)} names for the {image.n_channels} channels of {image.name}: {', '.join(given)}")
    if not given and not image.channel_names:
        if image.n_channels == 1:
            return ("Grey",)
        return RGB_CHANNELS if image.is_rgb else tuple(f"Channel_{k + 1}" for k in range(image.n_channels))
    return tuple(cellprofiler_name(name) for name in given or image.channel_names)


def read_classes(label_file: Path) -> tuple[list[str], npt.NDArray[np.integer[Any]]] | None:
    """Names of the classes, background first, and the class of each object (n,), as `predict` leaves them."""
    try:
        record = json.loads(label_file.with_name(f"{image_name(label_file)}.json").read_text(encoding="utf-8"))
        listed = record.get("object_classes")
        numbers = None if listed is None else np.asarray(listed, np.int64)
        if numbers is None and is_zarr(label_file):
            group = zarr.open_group(str(label_file), mode="r")
            numbers = np.asarray(group["object_classes"]) if "object_classes" in group else None
        return None if numbers is None else ([str(name) for name in record["classes"]], numbers)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # A JSON file of somebody else, or none: objects of one kind.
        return None


def _file_columns(kind: str, name: str, path: Path) -> dict[str, str]:
    return {f"{kind}FileName_{name}": path.name, f"{kind}PathName_{name}": str(path.resolve().parent)}
