"""Which strokes belong to which image, and reading both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from cellscribble.core.errors import CellScribbleError, InputError
from cellscribble.core.intensity import IntensityRule, fit_intensity
from cellscribble.core.labels import UNLABELLED
from cellscribble.core.reading import reading
from cellscribble.core.volume import ImageVolume
from cellscribble.io.images import image_name, level_pixel_sizes, list_images, open_image
from cellscribble.io.scribbles import Scribbles, find_scribbles, read_scribbles
from cellscribble.io.tiff_read import has_rois


def check_names(paths: Sequence[Path]) -> None:
    """Raises InputError if two images have one name: strokes find their image by it."""
    by_name: dict[str, Path] = {}
    for path in paths:
        other = by_name.setdefault(image_name(path), path)
        if other is not path:
            raise InputError(
                f"{other.name} and {path.name} have one name, so strokes fit both; rename one with its strokes, "
                "or take it out of the folder"
            )


def open_with_strokes(
    path: Path, scribbles: Path, axes: str | None, timepoint: int | None, level: int
) -> tuple[ImageVolume, Scribbles | None]:
    """An image in memory and its strokes, None where nothing is drawn.

    Raises
    ------
    CellScribbleError
        If either cannot be used.
    """
    image = open_image(path, axes=axes, timepoint=timepoint, level=level)
    with reading(image):
        image = image.with_data(np.asarray(image.data))
    # Refuses NaN and constant images here, where the others can still go on.
    fit_intensity(image, IntensityRule("range"))
    files = strokes_of(path, scribbles)
    if not files:
        return image, None
    try:
        strokes = read_scribbles(files, image.spatial_shape, image=image.data, timepoint=timepoint)
    except InputError as error:
        fits = _other_level(path, files, axes, timepoint)
        if fits is None:
            raise
        raise InputError(f"{error}; they fit level {fits} of its pyramid: --level {fits} learns from that") from None
    if not (strokes.data != UNLABELLED).any():
        return image, None
    return image, strokes


def strokes_of(path: Path, scribbles: Path) -> list[Path]:
    """Its stroke files. Where strokes lie beside the images, an image's own file holds some only as ImageJ's ROIs."""
    files = find_scribbles(scribbles, image_name(path))
    itself = len(files) == 1 and files[0].exists() and path.exists() and files[0].samefile(path)
    return [] if itself and not has_rois(path) else files


def _other_level(path: Path, files: Sequence[Path], axes: str | None, timepoint: int | None) -> int | None:
    """The level of the image's pyramid on which the strokes can be read; None if there is none."""
    for level in range(len(level_pixel_sizes(path, axes=axes, timepoint=timepoint))):
        image = open_image(path, axes=axes, timepoint=timepoint, level=level)
        try:
            read_scribbles(files, image.spatial_shape, image=image.data, timepoint=timepoint)
        except CellScribbleError:
            continue
        return level
    return None


def raise_no_pair(images: Path, scribbles: Path, failures: Mapping[str, str]) -> NoReturn:
    """Raises InputError: why no image has strokes."""
    if failures:
        name, message = next(iter(failures.items()))
        raise InputError(f"no image could be used with its strokes; the first of {len(failures)}: {name}: {message}")
    paths = list_images(images)
    if bare := [path.name for path in paths if strokes_of(path, scribbles)]:
        raise InputError(
            f"no image has strokes: nothing is drawn in the files of {', '.join(bare[:4])}{' ...' * (len(bare) > 4)}, "
            "every pixel is unlabelled; draw at least one stroke on background and one on a cell, and save them"
        )
    image_names = ", ".join(p.name for p in paths[:4])
    stroke_names = ", ".join(sorted(p.name for p in scribbles.iterdir())[:4]) if scribbles.is_dir() else scribbles.name
    raise InputError(
        f"no image has strokes: images are called {image_names} ..., stroke files {stroke_names or '(none)'} ...; "
        "save each stroke file under its image's name (cell1.tif with cell1.tif, cell1.png or cell1.zip), "
        "and draw at least one stroke"
    )
