"""Opening OME-Zarr images, versions 0.1 to 0.5, lazily where they are large."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from zarr.storage import LocalStore

from cellscribble.core.errors import CellScribbleError, FileFormatError, InputError
from cellscribble.core.volume import ImageVolume, PyramidLevel
from cellscribble.io.axes import AxesPlan, check_axes, plan_axes, resolve_axes, to_canonical
from cellscribble.io.pixel_size import PixelSize, micrometres
from cellscribble.io.remote import is_url, remote_store
from cellscribble.io.zarr_lazy import READ_ERRORS, LazyZarr

RGB_COLOURS = ("FF0000", "00FF00", "0000FF")
"""Colours of the channels of a colour picture, as converters of slides write them."""

_NO_STAIN = re.compile(r"(channel)?[ :_]*[\d:]*|r(ed)?|g(reen)?|b(lue)?")

SAMPLED_CHUNKS = 256

LEVELS_DIFFER = 0.1
"""From what their scales say, at most: many writers round each size down, and the scale not at all."""

LAZY_BYTES = 256 << 20
"""Images larger than this (unpacked) are read piece by piece."""


def open_ome_zarr(
    path: Path | str,
    name: str,
    axes: str | None = None,
    timepoint: int | None = None,
    level: int = 0,
    *,
    lazy: bool = False,
) -> ImageVolume:
    """Open an OME-Zarr folder, or one behind a URL, as an `ImageVolume`; see `cellscribble.io.images.open_image`.

    With `lazy` no pixel is read, however small the image is.

    Of a bioformats2raw folder the first series is taken, and `origin` says so. A bare Zarr array
    without metadata opens if its axes are plain or given.

    Raises
    ------
    FileFormatError
        If the folder is no readable Zarr store or holds no multiscale image.
    InputError
        If it is a plate, or its axes, time point or level do not fit, or nothing is at a URL.
    RemoteError
        If a URL gives no answer.
    """
    node = open_node(path)
    if isinstance(node, zarr.Array):
        return _open_array(node, name, axes, timepoint, level, lazy)
    node, series = _first_series(node, path)
    attributes = _ome_attributes(node)
    multiscale = _multiscale(attributes, node, path)
    array, place = _level(node, multiscale, path, level)
    letters, units = _declared_axes(multiscale, array.ndim)
    source = "OME-Zarr metadata"
    if axes is not None:
        letters, source = check_axes(axes, array.shape), "--axes"
    if len(letters) != array.ndim or not set(letters) <= set("TCZYX"):
        raise FileFormatError(
            f"{path} declares axes {letters} for an array of shape {tuple(array.shape)}; give them with --axes"
        )
    plan = plan_axes(letters, array.shape, timepoint)
    size, words = _pixel_size(letters, units, place.scale).spatial(plan.axes[1:])
    pyramid = _pyramid(node, multiscale, level, array)
    levels = _levels(pyramid, multiscale, plan, level, size)
    _check_levels(levels, plan.axes[1:], path, level)
    data = to_canonical(_loaded(pyramid, path, lazy), plan)
    names = channel_names(node)
    return ImageVolume(
        data=data,
        axes=plan.axes,
        pixel_size_um=size,
        name=name,
        is_rgb=data.dtype == "uint8" and data.shape[0] == 3 and _is_colour_picture(attributes, names),
        channel_names=names if len(names) == data.shape[0] else (),
        origin=f"axes {letters} from {source}, {words}{series}",
        levels=levels,
    )


def _check_levels(levels: Sequence[PyramidLevel], axes: str, path: Path | str, level: int) -> None:
    """Raise FileFormatError where the shape of a level is far from what the scales make of that of the one before.

    Scales that do not change from level to level say nothing: some writers give 1 for all.
    """
    for number, (fine, coarse) in enumerate(itertools.pairwise(levels), start=level + 1):
        for axis, n, m, a, b in zip(axes, fine.shape, coarse.shape, fine.scale, coarse.scale, strict=True):
            expected = n * a / b
            if b != a and abs(m - expected) > max(2.0, LEVELS_DIFFER * expected):
                raise FileFormatError(
                    f"{path} contradicts itself: along {axis} level {number - 1} has {n} px and level {number} {m}, "
                    f"but by their scales ({a:g}, {b:g}) that were {expected:.0f}; its shape or its scale is wrong: "
                    f"convert the image again, or try --level {number}"
                )


def open_node(path: Path | str) -> zarr.Group | zarr.Array[Any]:
    """The Zarr group or array at a path or URL, read only. Raises as `open_ome_zarr`."""
    try:
        return zarr.open(remote_store(path) if is_url(path) else str(path), mode="r")
    except CellScribbleError:
        raise
    except FileNotFoundError as error:
        raise InputError(
            f"no image at {path}: there is no Zarr metadata; give the address of the folder that holds "
            "zarr.json or .zattrs"
        ) from error
    except READ_ERRORS as error:
        raise FileFormatError(f"{path} is no readable Zarr store: {error}; copy it again") from error


def metadata_sha256(path: Path | str) -> str:
    """Of the attributes and the array headers of an image: what tells that it is another one now.

    Raises
    ------
    CellScribbleError
        As `open_ome_zarr`.
    """
    node, array = _finest(path)
    parts = [node.attrs.asdict(), array.metadata.to_dict()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def chunks_sha256(path: Path) -> str:
    """Of sizes and times of `SAMPLED_CHUNKS` chunks all over an image on a disk: what tells that it was written anew.

    A few chunks that change between these are not noticed. Raises as `open_ome_zarr`.
    """
    _, array = _finest(path)
    store = array.store_path.store
    assert isinstance(store, LocalStore)
    sizes = array.shards or array.chunks
    counts = [-(-n // size) for n, size in zip(array.shape, sizes, strict=True)]
    n_chunks = math.prod(counts)
    state = []
    for k in range(min(n_chunks, SAMPLED_CHUNKS)):
        at = np.unravel_index(k * (n_chunks - 1) // max(1, min(n_chunks, SAMPLED_CHUNKS) - 1), counts)
        key = array.metadata.encode_chunk_key(tuple(map(int, at)))
        try:
            status = Path(store.root, array.path, key).stat()
            state.append((key, status.st_size, status.st_mtime_ns))
        except OSError:
            state.append((key, 0, 0))  # all background
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()


def _finest(path: Path | str) -> tuple[zarr.Group | zarr.Array[Any], zarr.Array[Any]]:
    """The node at a path, or of its first series, and the array of its finest level."""
    node = open_node(path)
    if not isinstance(node, zarr.Group):
        return node, node
    node, _ = _first_series(node, path)
    return node, _array(node, _multiscale(_ome_attributes(node), node, path)["datasets"][0], path, 0)


def _open_array(
    array: zarr.Array[Any], name: str, axes: str | None, timepoint: int | None, level: int, lazy: bool
) -> ImageVolume:
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
    data = to_canonical(_loaded([array], name, lazy), plan)
    origin = f"axes {letters} {remark}, no pixel size"
    return ImageVolume(data=data, axes=plan.axes, name=name, is_rgb=plan.is_rgb, origin=origin)


def _first_series(node: zarr.Group, path: Path | str) -> tuple[zarr.Group, str]:
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


def _multiscale(attributes: Mapping[str, Any], node: zarr.Group, path: Path | str) -> Mapping[str, Any]:
    found = attributes.get("multiscales")
    if isinstance(found, list) and found and isinstance(found[0], Mapping) and found[0].get("datasets"):
        return found[0]
    inside = ", ".join(sorted(key for key, _ in node.members())[:8]) or "nothing"
    raise FileFormatError(
        f"{path} is a Zarr group without a multiscale image; it holds {inside}. Give the folder of the image"
    )


class _Place(NamedTuple):
    """Where the pixels of an array lie, a number for each of its axes, in the units of the file."""

    scale: list[float]
    offset: list[float]


def _level(
    node: zarr.Group, multiscale: Mapping[str, Any], path: Path | str, level: int
) -> tuple[zarr.Array[Any], _Place]:
    datasets = multiscale["datasets"]
    if not 0 <= level < len(datasets):
        raise InputError(f"{path} has no pyramid level {level}; it has 0 .. {len(datasets) - 1}")
    array = _array(node, datasets[level], path, level)
    return array, _place(multiscale, datasets[level], array.ndim)


def _array(node: zarr.Group, dataset: Mapping[str, Any], path: Path | str, level: int) -> zarr.Array[Any]:
    try:
        array = node[dataset["path"]]
    except CellScribbleError:
        raise
    except READ_ERRORS as error:
        raise FileFormatError(f"{path} lacks the array of level {level} ({error}); copy it again") from error
    if not isinstance(array, zarr.Array):
        raise FileFormatError(f"{path}: level {level} is no array; write the image again")
    return array


def _place(multiscale: Mapping[str, Any], dataset: Mapping[str, Any], ndim: int) -> _Place:
    scale, offset = [1.0] * ndim, [0.0] * ndim
    for transformations in (dataset, multiscale):
        for one in transformations.get("coordinateTransformations", ()):
            kind = one.get("type")
            values = one.get(kind, ()) if kind in ("scale", "translation") else ()
            if not isinstance(values, list) or len(values) != ndim:
                continue
            if kind == "scale":
                scale = [a * float(b) for a, b in zip(scale, values, strict=True)]
                offset = [a * float(b) for a, b in zip(offset, values, strict=True)]
            else:
                offset = [a + float(b) for a, b in zip(offset, values, strict=True)]
    return _Place(scale, offset)


def _pyramid(
    node: zarr.Group, multiscale: Mapping[str, Any], level: int, first: zarr.Array[Any]
) -> list[zarr.Array[Any]]:
    """The array of `level`, which is `first`, and the coarser ones, as far as they are there and in order."""
    found = [first]
    for dataset in multiscale["datasets"][level + 1 :]:
        try:
            array = node[dataset["path"]]
        except CellScribbleError:
            raise
        except READ_ERRORS:
            break  # its own pixels are not wanted, so it is no reason to refuse the image
        if not isinstance(array, zarr.Array) or array.ndim != first.ndim:
            break
        if any(m > n for n, m in zip(found[-1].shape, array.shape, strict=True)):
            break
        found.append(array)
    return found


def _levels(
    pyramid: Sequence[zarr.Array[Any]],
    multiscale: Mapping[str, Any],
    plan: AxesPlan,
    level: int,
    pixel_size_um: tuple[float, ...] | None,
) -> tuple[PyramidLevel, ...]:
    """The level that was read and the coarser ones, as far as it is said where they lie."""
    kept = [plan.letters.index(letter) for letter in plan.axes[1:]]
    found: list[PyramidLevel] = []
    unit = (1.0,) * len(kept)
    for array, dataset in zip(pyramid, multiscale["datasets"][level:], strict=False):
        place = _place(multiscale, dataset, array.ndim)
        scale, offset = [place.scale[i] for i in kept], [place.offset[i] for i in kept]
        shape = tuple(int(array.shape[i]) for i in kept)
        if min(scale) <= 0:
            break
        if not found and pixel_size_um is not None:
            unit = tuple(um / s for um, s in zip(pixel_size_um, scale, strict=True))
        in_unit = [tuple(v * u for v, u in zip(values, unit, strict=True)) for values in (scale, offset)]
        found.append(PyramidLevel(shape, *in_unit))
    return tuple(found)


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


def channel_names(node: zarr.Group) -> tuple[str, ...]:
    """What the channels of an image are called; () if its group does not say."""
    names = tuple(str(c.get("label", "")) for c in _channels(_ome_attributes(node)))
    return names if any(names) else ()


def _is_colour_picture(attributes: Mapping[str, Any], names: tuple[str, ...]) -> bool:
    """Whether the channels are shown in red, green and blue, and named after nothing else: a stain has a name."""
    colours = tuple(str(c.get("color", "")).lstrip("#").upper()[:6] for c in _channels(attributes))
    return colours == RGB_COLOURS and all(_NO_STAIN.fullmatch(name.lower()) for name in names)


def _loaded(pyramid: Sequence[zarr.Array[Any]], path: Path | str, lazy: bool) -> Any:
    stored = LazyZarr(pyramid[0], path, pyramid[1] if len(pyramid) > 1 else None)
    return stored if lazy or pyramid[0].nbytes > LAZY_BYTES else stored[...]
