"""Reading a person's strokes from whatever they saved them as, and writing them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from cellscribble.core.errors import FileFormatError, InputError
from cellscribble.core.labels import to_file
from cellscribble.io.atomic import atomic_path
from cellscribble.io.drawn import strokes_from_labkit, strokes_from_rois
from cellscribble.io.images import PICTURE_SUFFIXES, read_picture
from cellscribble.io.paint import PAINTS, read_paint
from cellscribble.io.scribble_files import (
    LABKIT_SUFFIX,
    ROI_SUFFIXES,
    SCRIBBLE_SUFFIXES,
    find_scribbles,
    mask_class,
)
from cellscribble.io.scribble_values import read_values
from cellscribble.io.strokes import Scribbles, align_classes, assemble, number_as, number_classes
from cellscribble.io.tiff_read import has_rois, read_indices

__all__ = [
    "SCRIBBLE_SUFFIXES",
    "Scribbles",
    "align_classes",
    "find_scribbles",
    "number_as",
    "read_class_masks",
    "read_scribbles",
    "save_scribbles",
]


def read_scribbles(
    path: str | Path | Sequence[str | Path],
    spatial_shape: Sequence[int],
    *,
    image: npt.NDArray[Any] | None = None,
    timepoint: int | None = None,
) -> Scribbles:
    """The strokes in a file: label TIFF or PNG, painted picture, ImageJ ROIs, Labkit labeling.

    Parameters
    ----------
    path : one file, or the files of `find_scribbles` (several: one mask a class)
    spatial_shape : (Y, X) or (Z, Y, X) of the image, px
    image : (C, *spatial), needed only for strokes painted on a colour picture
    timepoint : of the image, from 0; ROIs drawn on other time points are left out

    Raises
    ------
    FileFormatError
        If the file is damaged or of no known kind.
    InputError
        If it is missing, has another size than the image, or is no scribble file (a label image
        of objects, a picture, ROIs none of which has a class).
    """
    if not isinstance(path, (str, Path)):
        if len(path) != 1:
            return read_class_masks(path, spatial_shape)
        path = path[0]
    path, shape = Path(path), tuple(int(n) for n in spatial_shape)
    if not path.is_file():
        raise InputError(f"no scribble file {path}; draw strokes on the image and save them under this name")
    suffix = path.suffix.lower()
    if suffix in ROI_SUFFIXES:
        return strokes_from_rois(path, shape, timepoint)
    if suffix == LABKIT_SUFFIX:
        return strokes_from_labkit(path, shape)
    if suffix not in SCRIBBLE_SUFFIXES + PICTURE_SUFFIXES:
        raise FileFormatError(
            f"{path} is no scribble file that we read; expected one of {' '.join(SCRIBBLE_SUFFIXES)}"
        )
    if has_rois(path):
        try:
            return strokes_from_rois(path, shape, timepoint)
        except InputError as error:
            # A selection that happened to be open when the strokes' own picture was saved says no class.
            try:
                return _from_pixels(path, shape, image)
            except InputError:
                raise error from None
    return _from_pixels(path, shape, image)


def _from_pixels(path: Path, shape: tuple[int, ...], image: Any) -> Scribbles:
    stored = _read_pixels(path)
    if _is_picture(stored, shape):
        _check_size(stored.shape[:2], shape, path)
        data = read_paint(stored[..., :3], image, path)
        used = [PAINTS[i][0] for i in np.unique(data) if i >= 0]
        return number_classes(data, f"strokes painted in {', '.join(used) or 'no pure colour'}")
    values = _without_unit_axes(stored, len(shape))
    _check_size(values.shape, shape, path)
    return number_classes(*read_values(values, path))


def read_class_masks(
    paths: Sequence[str | Path] | Mapping[str, str | Path], spatial_shape: Sequence[int]
) -> Scribbles:
    """One mask file a class (<name>_bg.png, <name>_fg.png, <name>_<class>.tif), nonzero is stroke.

    Parameters
    ----------
    paths : the files, whose names end with _<class>; or class name -> file
    spatial_shape : (Y, X) or (Z, Y, X) of the image, px

    Raises
    ------
    InputError
        If a mask has another size than the image, or more values than two.
    """
    shape = tuple(int(n) for n in spatial_shape)
    items = paths.items() if isinstance(paths, Mapping) else [(mask_class(p), p) for p in paths]
    masks = []
    for name, one in items:
        path = Path(one)
        values = _without_unit_axes(_read_pixels(path), len(shape))
        if values.ndim == len(shape) + 1 and values.shape[-1] in (3, 4):
            values = values[..., :3].max(axis=-1)
        _check_size(values.shape, shape, path)
        if len(np.unique(values)) > 2:
            raise InputError(f"{path} has {len(np.unique(values))} values; a mask of one class has 0 and 255 only")
        masks.append((name, tuple(slice(0, n) for n in shape), values != 0))
    return assemble(masks, shape, f"one mask a class ({', '.join(name for name, _, _ in masks)})")


def save_scribbles(path: str | Path, data: npt.NDArray[np.integer], overwrite: bool = False) -> None:
    """Write strokes (*spatial), memory convention, as a label TIFF: uint8, deflate-packed.

    Raises
    ------
    InputError
        If a value is outside -1..253.
    OutputError
        If `path` exists (without `overwrite`) or cannot be written.
    """
    values = to_file(data)
    display = {"axes": "ZYX"[-values.ndim :], "min": 0.0, "max": float(max(2, int(values.max(initial=0))))}
    with atomic_path(path, overwrite) as temporary:
        tifffile.imwrite(temporary, values, imagej=True, metadata=display, compression="zlib")


def _read_pixels(path: Path) -> npt.NDArray[Any]:
    return read_picture(path)[0] if path.suffix.lower() in PICTURE_SUFFIXES else read_indices(path)


def _without_unit_axes(values: npt.NDArray[Any], ndim: int) -> npt.NDArray[Any]:
    """Leading, then trailing axes of length 1 dropped until `ndim` are left."""
    while values.ndim > ndim and 1 in (values.shape[0], values.shape[-1]):
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    return values


def _is_picture(stored: npt.NDArray[Any], shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 and stored.ndim == 3 and stored.shape[-1] in (3, 4) and stored.dtype == np.uint8


def _check_size(found: Sequence[int], shape: tuple[int, ...], path: Path) -> None:
    if tuple(found) != shape:
        letters = "ZYX"[-len(shape) :]
        raise InputError(
            f"scribbles in {path} are {tuple(int(n) for n in found)} but the image is {shape} [{letters}]; "
            "draw them on this same image, or crop or resize both files alike"
        )
