"""`cellscribble rois`: labels as ImageJ ROIs, and ROIs as labels or scribbles."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from cellscribble.cli.output import say, warn
from cellscribble.core.errors import InputError
from cellscribble.core.volume import ImageVolume
from cellscribble.io.images import open_image
from cellscribble.io.label_images import open_labels, whole_numbers
from cellscribble.io.roi_labels import paint_labels, save_label_rois
from cellscribble.io.scribbles import number_as, read_scribbles, save_scribbles
from cellscribble.io.tiff import save_imagej_labels

EPILOG = """\b
Examples:
  cellscribble rois cells_labels.tif cells_rois.zip
  cellscribble rois cells_rois.zip cells_labels.tif --like cells.tif --labels
  cellscribble rois strokes.zip scribbles.tif --like cells.tif --scribbles
"""


@click.command(epilog=EPILOG)
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--like", metavar="IMAGE", type=click.Path(path_type=Path), help="The image that the ROIs were drawn on."
)
@click.option("--labels", "what", flag_value="labels", help="ROIs are objects: a number each.")
@click.option("--scribbles", "what", flag_value="scribbles", help="ROIs are strokes: a number for each class.")
@click.option(
    "--classes", metavar="A,B", help="Numbers of the classes: background 1, A 2, B 3. [default: as they come]"
)
@click.option("--axes", help="Axes of the image where its file does not say them, such as ZYX.")
@click.option("--timepoint", type=click.IntRange(0), metavar="N", help="Which time point of a series, from 0.")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
def command(
    source: Path,
    target: Path,
    like: Path | None,
    what: str | None,
    classes: str | None,
    axes: str | None,
    timepoint: int | None,
    overwrite: bool,
) -> list[Path]:
    """Turn a label image into ImageJ ROIs (TARGET.zip), or ROIs into an image (TARGET.tif).

    One ROI an object on pixel edges, named by its number, holes and parts kept. From labels
    to TARGET.tif writes them as ImageJ opens them, 16-bit or 32-bit float.
    """
    if what is None:
        return _from_labels(source, target, overwrite)
    if like is None:
        raise click.UsageError(f"--{what} also needs --like IMAGE, which says how large the result is")
    image = open_image(like, axes=axes, timepoint=timepoint)
    if what == "labels":
        _to_labels(source, target, image, overwrite)
    else:
        _to_scribbles(source, target, image, timepoint, classes.split(",") if classes else None, overwrite)
    return [target]


def _from_labels(source: Path, target: Path, overwrite: bool) -> list[Path]:
    image = open_labels(source)
    if target.suffix.lower() == ".zip":
        written = save_label_rois(target, image.data[0], overwrite)
        say(f"ROIs of {source} -> {', '.join(map(str, written))}")
        return written
    if target.suffix.lower() not in (".tif", ".tiff"):
        raise InputError(f"{target} is neither .zip (ROIs) nor .tif (labels); give it one of these endings")
    save_imagej_labels(target, whole_numbers(np.asarray(image.data[0]), source), image.pixel_size_um, overwrite)
    say(f"labels of {source} -> {target}")
    return [target]


def _to_labels(source: Path, target: Path, image: ImageVolume, overwrite: bool) -> None:
    painted = paint_labels(source, image.spatial_shape)
    save_imagej_labels(target, painted.labels, image.pixel_size_um, overwrite)
    if painted.overlapping_px:
        warn(f"objects overlap on {painted.overlapping_px} px; the later one has them")
    say(f"{painted.n_rois} ROIs, {painted.reading} -> {target}")


def _to_scribbles(
    source: Path, target: Path, image: ImageVolume, timepoint: int | None, classes: list[str] | None, overwrite: bool
) -> None:
    while True:
        before = _state(source)
        strokes = read_scribbles(source, image.spatial_shape, image=image.data, timepoint=timepoint)
        if classes is not None:
            strokes = number_as(strokes, classes, source)
        # Of two that run at once, the one that read the older strokes must not have the last word.
        if _state(source) == before:
            break
    save_scribbles(target, strokes.data, overwrite)
    if strokes.unread:
        warn(f"without a class, and left out: {', '.join(strokes.unread)}; name them bg_1, fg_1 ...")
    if strokes.overlapping_px:
        warn(f"strokes of two classes overlap on {strokes.overlapping_px} px; the later one has them")
    numbers = ", ".join(f"{i} {name}" for i, name in enumerate(strokes.class_names, 1))
    say(f"{strokes.reading} -> {target} ({numbers})")


def _state(path: Path) -> tuple[int, int, int] | None:
    if not path.is_file():
        return None
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino
