"""Writing TIFFs that Fiji, CellProfiler and napari open as their own, with axes and pixel size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from cellscribble.core.errors import InputError
from cellscribble.core.labels import label_dtype
from cellscribble.core.volume import AXES_2D, AXES_3D
from cellscribble.io.atomic import atomic_path

MAX_IMAGEJ_BYTES = (1 << 32) - (64 << 20)
"""Above, the file becomes a BigTIFF with OME metadata: an ImageJ TIFF ends at 4 GiB."""


def save_labels(
    path: str | Path,
    labels: Any,
    pixel_size_um: Sequence[float] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a label image (*spatial), 2D or 3D, as TIFF.

    uint16 in ImageJ's own form up to label 65,535; above, uint32 as OME-TIFF, since ImageJ has no
    32-bit integers. Numbers are kept as they are and never wrap.

    Parameters
    ----------
    path : file to write
    labels : (Y, X) or (Z, Y, X) array of bool or integers, 0 background
    pixel_size_um : micrometres per pixel, one for each axis of `labels`

    Raises
    ------
    InputError
        If `labels` is not an integer array of 2 or 3 axes, or holds negative numbers.
    OutputError
        If `path` exists (without `overwrite`) or cannot be written.
    """
    array = np.asarray(labels)
    if array.dtype.kind not in "uib" or array.ndim not in (2, 3) or not array.size:
        raise InputError(f"labels have dtype {array.dtype} and shape {array.shape}; expected integers, YX or ZYX")
    lowest, highest = int(array.min()), int(array.max())
    if lowest < 0:
        raise InputError(f"labels go down to {lowest}; expected 0 for background and 1 and up for objects")
    array = array.astype(label_dtype(highest), copy=False)
    axes = "ZYX"[-array.ndim :]
    _check_sizes(pixel_size_um, array.ndim)
    display = {"min": 0.0, "max": float(max(highest, 1))}
    with atomic_path(path, overwrite) as temporary:
        if array.dtype == np.uint16 and array.nbytes < MAX_IMAGEJ_BYTES:
            _write_imagej(temporary, array, axes, pixel_size_um, display)
        else:
            _write_ome(temporary, array, axes, pixel_size_um, ())


def save_imagej_labels(
    path: str | Path, labels: Any, pixel_size_um: Sequence[float] | None = None, overwrite: bool = False
) -> None:
    """Write a label image (*spatial) as an ImageJ TIFF: uint16, or float32 where numbers go above 65,535.

    ImageJ knows no larger integers, and float32 is exact up to 16,777,216.

    Raises
    ------
    InputError
        If `labels` are no label image, or too many or too large for such a file.
    OutputError
        If `path` exists (without `overwrite`) or cannot be written.
    """
    array = np.asarray(labels)
    highest = int(array.max(initial=0))
    if highest <= np.iinfo(np.uint16).max and 2 * array.size < MAX_IMAGEJ_BYTES:
        save_labels(path, array, pixel_size_um, overwrite)
        return
    if highest > 1 << 24 or 4 * array.size >= MAX_IMAGEJ_BYTES:
        raise InputError(
            f"labels up to {highest} in shape {array.shape} do not fit into an ImageJ TIFF (4 GiB, numbers up to "
            f"{1 << 24}); open a part of them, or their ROIs"
        )
    _check_sizes(pixel_size_um, array.ndim)
    with atomic_path(path, overwrite) as temporary:
        display = {"min": 0.0, "max": float(highest)}
        _write_imagej(temporary, array.astype(np.float32), "ZYX"[-array.ndim :], pixel_size_um, display)


def save_image(
    path: str | Path,
    data: Any,
    axes: str,
    pixel_size_um: Sequence[float] | None = None,
    channel_names: Sequence[str] = (),
    overwrite: bool = False,
) -> None:
    """Write an image or probability map as an ImageJ hyperstack TIFF.

    Parameters
    ----------
    path : file to write
    data : (C, Y, X) or (C, Z, Y, X) array of uint8, uint16 or float32; bool and float16/64 convert
    axes : "CYX" or "CZYX"
    pixel_size_um : micrometres per pixel, one for each spatial axis
    channel_names : one a channel, shown by ImageJ above the slice

    Raises
    ------
    InputError
        If axes and shape disagree or the dtype is one that TIFF readers do not share.
    OutputError
        If `path` exists (without `overwrite`) or cannot be written.
    """
    array = np.asarray(data)
    if axes not in (AXES_2D, AXES_3D) or array.ndim != len(axes) or not array.size:
        raise InputError(f"image to save has shape {array.shape} and axes {axes!r}; expected CYX or CZYX")
    _check_sizes(pixel_size_um, array.ndim - 1)
    if channel_names and len(channel_names) != array.shape[0]:
        raise InputError(f"{len(channel_names)} channel names for {array.shape[0]} channels")
    if array.dtype.kind == "b":
        array = array.astype(np.uint8)
    elif array.dtype in (np.float16, np.float64):
        array = array.astype(np.float32)
    if array.dtype not in (np.uint8, np.uint16, np.float32):
        raise InputError(f"image to save has dtype {array.dtype}; expected uint8, uint16 or float32")
    with atomic_path(path, overwrite) as temporary:
        if array.nbytes >= MAX_IMAGEJ_BYTES:
            _write_ome(temporary, array, axes, pixel_size_um, channel_names)
            return
        extra: dict[str, Any] = {"mode": "grayscale"}
        if array.dtype == np.float32:
            extra |= {"min": float(np.nanmin(array)), "max": float(np.nanmax(array))}
        if axes == AXES_3D:
            # ImageJ stores z before c.
            array, axes = array.swapaxes(0, 1), "ZCYX"
        if channel_names:
            extra["Labels"] = list(channel_names) * (_planes(array) // len(channel_names))
        _write_imagej(temporary, array, axes, pixel_size_um, extra)


def _planes(array: npt.NDArray[Any]) -> int:
    return math.prod(array.shape[:-2])


def _write_imagej(
    path: Path,
    array: npt.NDArray[Any],
    axes: str,
    pixel_size_um: Sequence[float] | None,
    extra: dict[str, Any],
) -> None:
    metadata: dict[str, Any] = {"axes": axes, **extra}
    resolution = None
    if pixel_size_um is not None:
        metadata["unit"] = "um"
        resolution = (1 / pixel_size_um[-1], 1 / pixel_size_um[-2])
        if len(pixel_size_um) == 3:
            metadata["spacing"] = float(pixel_size_um[0])
    tifffile.imwrite(path, np.ascontiguousarray(array), imagej=True, resolution=resolution, metadata=metadata)


def _write_ome(
    path: Path,
    array: npt.NDArray[Any],
    axes: str,
    pixel_size_um: Sequence[float] | None,
    channel_names: Sequence[str],
) -> None:
    tifffile.imwrite(
        path,
        array,
        ome=True,
        bigtiff=array.nbytes >= MAX_IMAGEJ_BYTES,
        metadata=ome_metadata(axes, pixel_size_um, channel_names),
        photometric="minisblack",
        compression="zlib",
        tile=(512, 512) if min(array.shape[-2:]) >= 512 else None,
    )


def ome_metadata(axes: str, pixel_size_um: Sequence[float] | None, channel_names: Sequence[str]) -> dict[str, Any]:
    """What tifffile is told of an OME-TIFF; parameters as `save_image`, `axes` of labels too."""
    metadata: dict[str, Any] = {"axes": axes}
    if channel_names:
        metadata["Channel"] = {"Name": list(channel_names)}
    if pixel_size_um is not None:
        for axis, size in zip("XYZ", reversed(tuple(pixel_size_um)), strict=False):
            metadata |= {f"PhysicalSize{axis}": float(size), f"PhysicalSize{axis}Unit": "µm"}
    return metadata


def _check_sizes(pixel_size_um: Sequence[float] | None, ndim: int) -> None:
    if pixel_size_um is None:
        return
    if len(pixel_size_um) != ndim or not all(math.isfinite(s) and s > 0 for s in pixel_size_um):
        raise InputError(f"pixel sizes {tuple(pixel_size_um)} um: expected {ndim} positive numbers, one for each axis")
