"""Reading TIFF files of every kind that tifffile knows: plain, ImageJ, OME, BigTIFF, slides."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cellscribble.core.errors import FileFormatError, InputError
from cellscribble.core.volume import ImageVolume, PyramidLevel, rounded_step
from cellscribble.io import pixel_size as sizes
from cellscribble.io.axes import AxesPlan, check_axes, plan_axes, resolve_axes, to_canonical
from cellscribble.io.remote import is_url
from cellscribble.io.tiff_lazy import LazyTiff, MappedTiff, open_file

LAZY_BYTES = 256 << 20
"""Files larger than this (unpacked) are read piece by piece."""

# What tifffile and its codecs raise on damaged data: imagecodecs errors are RuntimeErrors.
DECODING_ERRORS = (
    tifffile.TiffFileError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    EOFError,
    OSError,
    RuntimeError,
    ImportError,
    struct.error,
    zlib.error,
)


def open_tiff(
    path: Path | str,
    name: str,
    axes: str | None = None,
    timepoint: int | None = None,
    level: int = 0,
    *,
    lazy: bool = False,
) -> ImageVolume:
    """Open a TIFF as an `ImageVolume`; see `cellscribble.io.images.open_image`.

    Raises
    ------
    FileFormatError
        If the file is damaged, no TIFF, or packed in a way that cannot be read.
    InputError
        If its axes are unclear, or the time point or pyramid level does not exist.
    """
    with _open(path) as tiff:
        series = _series(tiff, path, level)
        letters, remark, source = _axes(tiff, series, axes)
        plan = plan_axes(letters, series.shape, timepoint)
        _check_whole(series, path)
        pixels, names = _pixel_size(tiff, series)
        data = _read(path, series, level, 0 if lazy else LAZY_BYTES)
        is_rgb = plan.is_rgb and _is_rgb(letters, series.dtype)
        n_images = len(tiff.series)
        size, size_words = pixels.spatial(plan.axes[1:])
        levels = _levels(tiff.series[0].levels[level:], plan, size)
    size_source = f" from {pixels.source}" if size and pixels.source != source else ""
    words = [f"axes {letters.strip('QI')} from {source}", remark, size_words + size_source]
    if n_images > 1:
        words.append(f"image 1 of {n_images} in the file")
    image = to_canonical(data, plan)
    return ImageVolume(
        data=image,
        axes=plan.axes,
        pixel_size_um=size,
        name=name,
        is_rgb=is_rgb,
        channel_names=names if len(names) == image.shape[0] else (),
        origin=", ".join(word for word in words if word),
        levels=levels,
    )


def read_indices(path: Path) -> np.ndarray[Any, Any]:
    """The stored numbers of a TIFF in memory, palette indices included; axes as stored."""
    with _open(path) as tiff:
        series = _series(tiff, path, 0)
        _check_whole(series, path)
        return np.asarray(_read(path, series, 0, lazy_bytes=series.nbytes))


def count_pixels(path: Path | str) -> int:
    """Pixels of one channel of level 0; no pixel is read. See `open_tiff`."""
    with _open(path) as tiff:
        series = _series(tiff, path, 0)
        letters, _, _ = _axes(tiff, series, None)
        plan = plan_axes(letters, series.shape)
        return math.prod(series.shape[letters.index(letter)] for letter in plan.axes[1:])


def level_pixel_sizes(path: Path | str, axes: str | None, timepoint: int | None) -> list[tuple[float, ...] | None]:
    """The pixel size of each level of a pyramid, one number for each spatial axis; see `open_tiff`."""
    with _open(path) as tiff:
        sizes = []
        for level in range(len(_series(tiff, path, 0).levels)):
            series = _series(tiff, path, level)
            letters, _, _ = _axes(tiff, series, axes)
            plan = plan_axes(letters, series.shape, timepoint)
            sizes.append(_pixel_size(tiff, series)[0].spatial(plan.axes[1:])[0])
        return sizes


def has_rois(path: Path) -> bool:
    """True if the file is a TIFF in which ImageJ stored an overlay or a selection."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return False
    with _open(path) as tiff:
        metadata = tiff.imagej_metadata or {}
        return "Overlays" in metadata or "ROI" in metadata


def max_sample_value(path: Path | str) -> int | None:
    """The value that the file says is its brightest, such as 4095 for 12 bits in 16 (tag 281); None if it does not."""
    with _open(path) as tiff:
        found = tiff.pages.first.tags.get("MaxSampleValue")
        return int(found.value) if found is not None and isinstance(found.value, int) else None


def _open(path: Path | str) -> Any:
    try:
        tiff = open_file(path)
    except DECODING_ERRORS as error:
        raise FileFormatError(
            f"{path} is not a readable TIFF ({error}); it may be truncated or another format "
            "with this name: copy it again, or open it in Fiji and save it as TIFF"
        ) from error
    return tiff


def _series(tiff: Any, path: Path | str, level: int) -> Any:
    try:
        levels = tiff.series[0].levels
    except DECODING_ERRORS as error:
        raise FileFormatError(f"{path} holds no image ({error}); copy it again") from error
    if not 0 <= level < len(levels):
        listed = ", ".join(f"{i}: {tuple(one.shape)}" for i, one in enumerate(levels))
        raise InputError(f"{path} has no pyramid level {level}; it has {listed}")
    return levels[level]


def _levels(
    series: Sequence[Any], plan: AxesPlan, pixel_size_um: tuple[float, ...] | None
) -> tuple[PyramidLevel, ...]:
    """The level that was read and the coarser ones; none of a file that has no coarser one."""
    kept = [plan.letters.index(letter) for letter in plan.axes[1:]]
    shapes = [tuple(int(one.shape[i]) for i in kept) for one in series if len(one.shape) == len(plan.letters)]
    if len(shapes) < 2:
        return ()
    # The file says sizes only, and those are rounded.
    finest = tuple(zip(shapes[0], pixel_size_um or (1.0,) * len(kept), strict=True))
    scales = [tuple(um * rounded_step(n, m) for (n, um), m in zip(finest, shape, strict=True)) for shape in shapes]
    return tuple(PyramidLevel(shape, scale, (0.0,) * len(shape)) for shape, scale in zip(shapes, scales, strict=True))


def _axes(tiff: Any, series: Any, axes: str | None) -> tuple[str, str, str]:
    if axes is not None:
        return check_axes(axes, series.shape), "", "--axes"
    letters, remark = resolve_axes(series.axes, series.shape, series.dtype)
    if tiff.is_ome:
        source = "OME metadata"
    elif tiff.is_imagej:
        source = "ImageJ metadata"
    elif series.kind in ("generic", "uniform", "shaped") or remark:
        source = "the file's shape"
    else:
        source = f"{series.kind} metadata"
    return letters, remark, source


def _check_whole(series: Any, path: Path | str) -> None:
    # tifffile fills what a truncated file lacks with zeros: half an image would pass as an image.
    handle = series.pages[0].parent.filehandle if series.pages[0] is not None else None
    if series.dataoffset is not None and handle is not None:
        ends = [series.dataoffset + series.nbytes]
    else:
        ends = [
            offset + count
            for page in series.pages
            if page is not None and page.parent.filehandle is handle
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
        ]
    if handle is not None and ends and max(ends) > handle.size:
        raise FileFormatError(
            f"{path} is truncated: it has {handle.size} bytes and its image data ends at byte {max(ends)}; "
            "copy it again"
        )


def _is_rgb(letters: str, dtype: Any) -> bool:
    # tifffile writes any array of 3 planes as planar RGB unless told otherwise: with more than 8 bits
    # those are fluorescence channels.
    planar = letters.index("S") < letters.index("Y")
    return bool(dtype == np.uint8 or (dtype == np.uint16 and not planar))


def _read(path: Path | str, series: Any, level: int, lazy_bytes: int) -> Any:
    try:
        if series.nbytes <= lazy_bytes:
            return series.asarray()
        if series.dataoffset is not None and not is_url(path):
            offset, dtype = series.dataoffset, series.dtype
            order = series.pages[0].parent.byteorder
            stored = np.dtype(dtype).newbyteorder(order)
            return MappedTiff(path, offset, tuple(series.shape), stored)
        lazy = LazyTiff(path, level, tuple(series.shape), np.dtype(series.dtype))
        # One pixel now, so that an unknown packing is an error of opening, not of hours later.
        lazy[(slice(0, 1),) * lazy.ndim]
        return lazy
    except DECODING_ERRORS as error:
        packing = getattr(series.keyframe.compression, "name", str(series.keyframe.compression))
        raise FileFormatError(
            f"{path} (compression {packing}) cannot be unpacked: {error}; it may be damaged, or packed "
            "in a way we do not read: open it in Fiji and save it as TIFF"
        ) from error


def _pixel_size(tiff: Any, series: Any) -> tuple[sizes.PixelSize, tuple[str, ...]]:
    page = tiff.pages[0]
    per_x, per_y = _ratio(page, "XResolution"), _ratio(page, "YResolution")
    found = sizes.PixelSize()
    names: tuple[str, ...] = ()
    if tiff.is_ome and tiff.ome_metadata:
        found, names = sizes.from_ome_xml(tiff.ome_metadata)
    elif tiff.is_imagej and "unit" in (tiff.imagej_metadata or {}):
        found = sizes.from_imagej(tiff.imagej_metadata, per_x, per_y)
    elif tiff.is_svs:
        found = sizes.from_aperio(page.description)
    else:
        unit = page.tags.get("ResolutionUnit")
        found = sizes.from_resolution_tag(per_x, per_y, int(unit.value) if unit else 2)
    if tiff.is_imagej:
        names = _slice_labels(tiff.imagej_metadata or {})
    base, own = _plane(tiff.series[0]), _plane(series)
    return found.scaled(base[0] / own[0], base[1] / own[1]), names


def _slice_labels(metadata: dict[str, Any]) -> tuple[str, ...]:
    # ImageJ names planes, not channels: names that repeat for every slice are those of channels.
    n = int(metadata.get("channels", 1))
    labels = metadata.get("Labels", [])
    if n < 2 or not isinstance(labels, list) or not labels or len(labels) % n:
        return ()
    return tuple(labels[:n]) if labels == labels[:n] * (len(labels) // n) else ()


def _plane(series: Any) -> tuple[int, int]:
    axes = series.axes
    if "Y" not in axes or "X" not in axes:
        return 1, 1
    return int(series.shape[axes.index("Y")]), int(series.shape[axes.index("X")])


def _ratio(page: Any, tag: str) -> float | None:
    found = page.tags.get(tag)
    try:
        numerator, denominator = found.value
        return float(numerator) / float(denominator) or None
    except (AttributeError, TypeError, ValueError, ZeroDivisionError):
        return None
