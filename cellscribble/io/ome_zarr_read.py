"""Opening OME-Zarr images, versions 0.1 to 0.5, lazily where they are large."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import zarr
from zarr.errors import BaseZarrError

from cellscribble.core.errors import FileFormatError, InputError
from cellscribble.core.volume import ImageVolume, Placement
from cellscribble.io.axes import check_axes, plan_axes, resolve_axes, to_canonical
from cellscribble.io.pixel_size import PixelSize, micrometres

RGB_COLOURS = ("FF0000", "00FF00", "0000FF")
"""Colours of the channels of a colour picture, as converters of slides write them."""

_NO_STAIN = re.compile(r"(channel)?[ :_]*[\d:]*|r(ed)?|g(reen)?|b(lue)?")

LAZY_BYTES = 256 << 20
"""Images larger than this (unpacked) are read piece by piece."""

# Broken JSON, missing arrays, chunks that do not unpack (codec errors are RuntimeErrors).
_READ_ERRORS = (BaseZarrError, ValueError, KeyError, TypeError, IndexError, OSError, RuntimeError)


def open_ome_zarr(
    path: Path, name: str, axes: str | None = None, timepoint: int | None = None, level: int = 0
) -> ImageVolume:
    """Open an OME-Zarr folder as an `ImageVolume`; see `cellscribble.io.images.open_image`.

    Of a bioformats2raw folder the first series is taken, and `origin` says so. A bare Zarr array
    without metadata opens if its axes are plain or given.

    Raises
    ------
    FileFormatError
        If the folder is no readable Zarr store or holds no multiscale image.
    InputError
        If it is a plate, or its axes, time point or level do not fit.
    """
    try:
        node = zarr.open(str(path), mode="r")
    except _READ_ERRORS as error:
        raise FileFormatError(f"{path} is no readable Zarr store: {error}; copy it again") from error
    if isinstance(node, zarr.Array):
        return _open_array(node, name, axes, timepoint, level)
    node, series = _first_series(node, path)
    attributes = _ome_attributes(node)
    multiscale = _multiscale(attributes, node, path)
    array, scale, offset = _level(node, multiscale, path, level)
    letters, units = _declared_axes(multiscale, array.ndim)
    source = "OME-Zarr metadata"
    if axes is not None:
        letters, source = check_axes(axes, array.shape), "--axes"
    if len(letters) != array.ndim or not set(letters) <= set("TCZYX"):
        raise FileFormatError(
            f"{path} declares axes {letters} for an array of shape {tuple(array.shape)}; give them with --axes"
        )
    plan = plan_axes(letters, array.shape, timepoint)
    size, words = _pixel_size(letters, units, scale).spatial(plan.axes[1:])
    data = to_canonical(_loaded(array, path), plan)
    names = _channel_names(attributes)
    spatial = [letters.index(letter) for letter in plan.axes[1:]]
    return ImageVolume(
        data=data,
        axes=plan.axes,
        pixel_size_um=size,
        name=name,
        is_rgb=data.dtype == "uint8" and data.shape[0] == 3 and _is_colour_picture(attributes, names),
        channel_names=names if len(names) == data.shape[0] else (),
        origin=f"axes {letters} from {source}, {words}{series}",
        placement=_placement([scale[i] for i in spatial], [offset[i] for i in spatial], size),
    )


def _open_array(array: zarr.Array[Any], name: str, axes: str | None, timepoint: int | None, level: int) -> ImageVolume:
    if level:
        raise InputError(f"image {name!r} is a bare Zarr array without pyramid; it has level 0 only")
    if axes is not None:
        letters, remark = check_axes(axes, array.shape), "from --axes"
    elif array.ndim < 2:
        raise FileFormatError(f"{name} is a Zarr array of shape {array.shape}; expected an image")
    else:
        letters, words = resolve_axes("Q" * (array.ndim - 2) + "YX", array.shape, array.dtype)
        remark = f"from the array's shape, {words}" if words else "from the array's shape"
    plan = plan_axes(letters, array.shape, timepoint)
    data = to_canonical(_loaded(array, Path(name)), plan)
    origin = f"axes {letters} {remark}, no pixel size"
    return ImageVolume(data=data, axes=plan.axes, name=name, is_rgb=plan.is_rgb, origin=origin)


def _first_series(node: zarr.Group, path: Path) -> tuple[zarr.Group, str]:
    attributes = _ome_attributes(node)
    if "plate" in attributes or "well" in attributes:
        raise InputError(f"{path} is a plate or well; give one of its images, for example {path}/A/1/0")
    if "multiscales" in attributes or "bioformats2raw.layout" not in attributes:
        return node, ""
    try:
        first = node["0"]
    except KeyError as error:
        raise FileFormatError(f"{path} has the bioformats2raw layout but no series 0; convert it again") from error
    if not isinstance(first, zarr.Group):
        raise FileFormatError(f"{path} has the bioformats2raw layout but its series 0 is no group")
    return first, ", series 0 of a bioformats2raw folder"


def _ome_attributes(node: zarr.Group) -> Mapping[str, Any]:
    attributes = node.attrs.asdict()
    inner = attributes.get("ome")
    return inner if isinstance(inner, Mapping) else attributes


def _multiscale(attributes: Mapping[str, Any], node: zarr.Group, path: Path) -> Mapping[str, Any]:
    found = attributes.get("multiscales")
    if isinstance(found, list) and found and isinstance(found[0], Mapping) and found[0].get("datasets"):
        return found[0]
    inside = ", ".join(sorted(key for key, _ in node.members())[:8]) or "nothing"
    raise FileFormatError(
        f"{path} is a Zarr group without a multiscale image; it holds {inside}. Give the folder of the image"
    )


def _level(
    node: zarr.Group, multiscale: Mapping[str, Any], path: Path, level: int
) -> tuple[zarr.Array[Any], list[float], list[float]]:
    """The array of a level, and where it lies: pixel i of an axis at offset + i x scale."""
    datasets = multiscale["datasets"]
    if not 0 <= level < len(datasets):
        raise InputError(f"{path} has no pyramid level {level}; it has 0 .. {len(datasets) - 1}")
    try:
        array = node[datasets[level]["path"]]
    except _READ_ERRORS as error:
        raise FileFormatError(f"{path} lacks the array of level {level} ({error}); copy it again") from error
    if not isinstance(array, zarr.Array):
        raise FileFormatError(f"{path}: level {level} is no array; write the image again")
    scale, offset = [1.0] * array.ndim, [0.0] * array.ndim
    for transformations in (datasets[level], multiscale):
        for one in transformations.get("coordinateTransformations", ()):
            numbers = one.get(one.get("type"), ())
            if not isinstance(numbers, list) or len(numbers) != array.ndim:
                continue
            if one["type"] == "scale":
                scale = [a * float(b) for a, b in zip(scale, numbers, strict=True)]
                offset = [a * float(b) for a, b in zip(offset, numbers, strict=True)]
            elif one["type"] == "translation":
                offset = [a + float(b) for a, b in zip(offset, numbers, strict=True)]
    return array, scale, offset


def _placement(
    scale: Sequence[float], offset: Sequence[float], pixel_size_um: tuple[float, ...] | None
) -> Placement | None:
    if pixel_size_um is None:
        return Placement(tuple(scale), tuple(offset)) if all(s > 0 for s in scale) else None
    # The offset has the unit of the scale, which is a pixel size.
    moved = [o / s * um if s else 0.0 for o, s, um in zip(offset, scale, pixel_size_um, strict=True)]
    return Placement(pixel_size_um, tuple(moved))


def level_pixel_sizes(path: Path, axes: str | None, timepoint: int | None) -> list[tuple[float, ...] | None]:
    """The pixel size of each level of a pyramid, one number for each spatial axis; see `open_ome_zarr`."""
    try:
        node = zarr.open(str(path), mode="r")
    except _READ_ERRORS as error:
        raise FileFormatError(f"{path} is no readable Zarr store: {error}; copy it again") from error
    if isinstance(node, zarr.Array):
        return [None]
    node, _ = _first_series(node, path)
    multiscale = _multiscale(_ome_attributes(node), node, path)
    sizes = []
    for level in range(len(multiscale["datasets"])):
        array, scale, _ = _level(node, multiscale, path, level)
        letters, units = _declared_axes(multiscale, array.ndim)
        if axes is not None:
            letters = check_axes(axes, array.shape)
        if len(letters) != array.ndim or not set(letters) <= set("TCZYX"):
            return [None]  # opening it says what is wrong
        plan = plan_axes(letters, array.shape, timepoint)
        sizes.append(_pixel_size(letters, units, scale).spatial(plan.axes[1:])[0])
    return sizes


def _declared_axes(multiscale: Mapping[str, Any], ndim: int) -> tuple[str, list[str]]:
    # Version 0.3 lists letters only; 0.1 and 0.2 are always tczyx.
    declared = multiscale.get("axes") or list("tczyx")[-ndim:]
    names = [str(axis.get("name", "?") if isinstance(axis, Mapping) else axis) for axis in declared]
    units = [str(axis.get("unit", "")) if isinstance(axis, Mapping) else "" for axis in declared]
    return "".join(name[:1] for name in names).upper(), units


def _pixel_size(letters: str, units: list[str], scale: list[float]) -> PixelSize:
    found = {a: micrometres(s, unit) for a, unit, s in zip(letters, units, scale, strict=False) if a in "XYZ"}
    return PixelSize(found.get("X"), found.get("Y"), found.get("Z"), "OME-Zarr metadata")


def _channels(attributes: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    omero = attributes.get("omero")
    channels = omero.get("channels", ()) if isinstance(omero, Mapping) else ()
    return [c for c in channels if isinstance(c, Mapping)]


def _channel_names(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    names = tuple(str(c.get("label", "")) for c in _channels(attributes))
    return names if any(names) else ()


def _is_colour_picture(attributes: Mapping[str, Any], names: tuple[str, ...]) -> bool:
    """Whether the channels are shown in red, green and blue, and named after nothing else: a stain has a name."""
    colours = tuple(str(c.get("color", "")).lstrip("#").upper()[:6] for c in _channels(attributes))
    return colours == RGB_COLOURS and all(_NO_STAIN.fullmatch(name.lower()) for name in names)


def _loaded(array: zarr.Array[Any], path: Path) -> Any:
    if array.nbytes > LAZY_BYTES:
        return array
    try:
        return array[...]
    except _READ_ERRORS as error:
        raise FileFormatError(f"{path} cannot be unpacked: {error}; copy it again") from error
