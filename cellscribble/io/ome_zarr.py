"""Writing OME-Zarr images and label images of any size: version 0.4 (Zarr 2) or 0.5 (Zarr 3).

The label image of slide.zarr is a store of its own beside it, slide_labels.zarr, with the label
pyramid at its root: the image may be read-only or somebody else's.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BloscCodec

from cellscribble.core.blocks import Slices
from cellscribble.core.errors import InputError
from cellscribble.core.labels import label_dtype
from cellscribble.core.volume import Placement
from cellscribble.io.atomic import atomic_path
from cellscribble.io.ome_zarr_read import RGB_COLOURS

RGB_NAMES = ("red", "green", "blue")
"""Channels of these names are written as those of a colour picture."""

VERSIONS = ("0.4", "0.5")
CHUNK_PX = {2: (512, 512), 3: (64, 64, 64)}
SMALLEST_LEVEL_PX = 512
"""Levels are added until Y and X are at most this."""

_BLOCK_CHUNKS = {2: (4, 4), 3: (1, 8, 8)}
_AXES = {"labels": ("YX", "ZYX"), "image": ("CYX", "CZYX")}


def write_ome_zarr(
    path: str | Path,
    data: Any,
    axes: str,
    pixel_size_um: Sequence[float] | None = None,
    *,
    kind: str = "labels",
    name: str = "",
    channel_names: Sequence[str] = (),
    n_levels: int | None = None,
    version: str = "0.4",
    attributes: Mapping[str, Any] | None = None,
    placement: Placement | None = None,
    overwrite: bool = False,
) -> None:
    """Write `data` with its pyramid, block by block; the store appears when it is complete.

    Parameters
    ----------
    path : folder to write
    data : (*spatial) labels or (C, *spatial) image; numpy, zarr, dask or anything that slices
    axes : "YX" or "ZYX" for labels, "CYX" or "CZYX" for images
    pixel_size_um : micrometres per pixel, one for each spatial axis
    kind : "labels" (nearest downsampling, image-label metadata) or "image" (mean)
    name : shown by viewers
    channel_names : one a channel, images only; `RGB_NAMES` for a colour picture
    n_levels : pyramid levels with the full one; by default as many as make Y and X at most 512
    version : OME-Zarr version, "0.4" or "0.5"
    attributes : further attributes of the group, for example {"cellscribble": provenance}
    placement : where level 0 lies, by default at 0 with `pixel_size_um`

    Raises
    ------
    InputError
        If kind, version, axes, dtype and shape do not fit each other.
    OutputError
        If `path` exists (without `overwrite`) or cannot be written.
    """
    dtype = _label_dtype(data) if kind == "labels" else np.dtype(data.dtype)
    shape = tuple(int(n) for n in data.shape)
    with atomic_path(path, overwrite) as temporary:
        group = create_ome_zarr(
            temporary,
            shape,
            dtype,
            axes,
            pixel_size_um,
            kind=kind,
            name=name or Path(path).name.split(".")[0],
            channel_names=channel_names,
            n_levels=n_levels,
            version=version,
            attributes=attributes,
            placement=placement,
        )
        full = group["0"]
        for block in write_blocks(shape, axes):
            full[block] = np.asarray(data[block]).astype(dtype, copy=False)
        build_pyramid(group)


def create_ome_zarr(
    path: str | Path,
    shape: Sequence[int],
    dtype: npt.DTypeLike,
    axes: str,
    pixel_size_um: Sequence[float] | None = None,
    *,
    kind: str = "labels",
    name: str = "",
    channel_names: Sequence[str] = (),
    n_levels: int | None = None,
    version: str = "0.4",
    attributes: Mapping[str, Any] | None = None,
    chunk_px: Sequence[int] | None = None,
    placement: Placement | None = None,
) -> Any:
    """Create an OME-Zarr store with empty levels and return its zarr group; level 0 is ``group["0"]``.

    For results that grow block by block: fill level 0 in the blocks of `write_blocks` (whole
    chunks, so that several processes may write at once), then call `build_pyramid`. Parameters as
    `write_ome_zarr`; `chunk_px` is the size of a chunk, one for each spatial axis, by default
    `CHUNK_PX`. Give it a path from `atomic_path`, or one of your own that is renamed at the end.

    Raises
    ------
    InputError
        As `write_ome_zarr`.
    """
    dtype = np.dtype(dtype)
    _check(kind, version, axes, tuple(shape), dtype, pixel_size_um, channel_names)
    ndim = len(axes.replace("C", ""))
    steps = _level_steps(tuple(shape)[-ndim:], pixel_size_um, n_levels)
    zarr_format: Literal[2, 3] = 2 if version == "0.4" else 3
    group = zarr.create_group(str(path), zarr_format=zarr_format)
    extra: dict[str, Any] = {"dimension_names": list(axes.lower())} if zarr_format == 3 else {}
    for level, step in enumerate(steps):
        level_shape = _shrunk(tuple(shape), step)
        group.create_array(
            str(level),
            shape=level_shape,
            chunks=_chunks(level_shape, chunk_px or CHUNK_PX[ndim]),
            dtype=dtype,
            fill_value=0,
            compressors=_compressor(zarr_format),
            chunk_key_encoding={"name": "v2" if zarr_format == 2 else "default", "separator": "/"},
            **extra,
        )
    sizes = tuple(pixel_size_um or (1.0,) * ndim)
    metadata = _metadata(
        kind,
        version,
        axes,
        placement or Placement(sizes, (0.0,) * ndim),
        pixel_size_um is not None,
        steps,
        name,
        dtype,
        channel_names,
    )
    own = metadata if version == "0.4" else {"ome": {"version": version, **metadata}}
    group.attrs.update({**own, **dict(attributes or {})})
    return group


def build_pyramid(group: Any) -> None:
    """Fill the levels above 0 of a store made by `create_ome_zarr`, each from the one before."""
    multiscale = _ome(group)["multiscales"][0]
    axes = "".join(axis["name"] for axis in multiscale["axes"]).upper()
    for level in range(1, len(multiscale["datasets"])):
        for block in write_blocks(group[str(level)].shape, axes):
            shrink_into(group, level, block)


def shrink_into(group: Any, level: int, block: Slices) -> bool:
    """Fill a block of a level above 0 from the level before; whether anything but 0 was there.

    Labels take every second pixel (labels must not be averaged), images the mean.
    """
    fine, coarse = group[str(level - 1)], group[str(level)]
    step = tuple(-(-a // b) for a, b in zip(fine.shape, coarse.shape, strict=True))
    values = fine[tuple(slice(b.start * s, b.stop * s) for b, s in zip(block, step, strict=True))]
    if not values.any():
        return False
    labels = "image-label" in _ome(group)
    coarse[block] = values[tuple(slice(None, None, s) for s in step)] if labels else _mean(values, step)
    return True


def _ome(group: Any) -> Mapping[str, Any]:
    attributes: Mapping[str, Any] = group.attrs.asdict()
    ome: Mapping[str, Any] = attributes.get("ome", attributes)
    return ome


def write_blocks(shape: Sequence[int], axes: str) -> Iterator[Slices]:
    """Blocks of whole chunks that cover `shape`: about 4 million pixels each, one channel at a time."""
    ndim = len(axes.replace("C", ""))
    sizes = [c * n for c, n in zip(CHUNK_PX[ndim], _BLOCK_CHUNKS[ndim], strict=True)]
    sizes = [1] * (len(shape) - ndim) + sizes
    starts = [range(0, n, size) for n, size in zip(shape, sizes, strict=True)]
    for corner in itertools.product(*starts):
        yield tuple(slice(start, min(start + size, n)) for start, size, n in zip(corner, sizes, shape, strict=True))


def _mean(values: npt.NDArray[Any], step: Sequence[int]) -> npt.NDArray[Any]:
    # An odd last row is doubled, so that it weighs as its own mean.
    pad = [(0, -n % s) for n, s in zip(values.shape, step, strict=True)]
    padded = np.pad(values, pad, mode="edge")
    split = [part for n, s in zip(padded.shape, step, strict=True) for part in (n // s, s)]
    mean = padded.reshape(split).mean(axis=tuple(range(1, len(split), 2)), dtype=np.float32)
    return np.asarray(np.rint(mean) if values.dtype.kind in "ui" else mean, values.dtype)


def _label_dtype(data: Any) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(data.dtype)
    if dtype in (np.uint16, np.uint32):
        return dtype
    axes = "ZYX"[-len(data.shape) :]
    if dtype.kind not in "uib" or len(data.shape) not in (2, 3):
        raise InputError(f"labels have dtype {data.dtype} and shape {data.shape}; expected integers, YX or ZYX")
    lowest = highest = 0
    for block in write_blocks(data.shape, axes):
        values = np.asarray(data[block])
        lowest, highest = min(lowest, int(values.min())), max(highest, int(values.max()))
    if lowest < 0:
        raise InputError(f"labels go down to {lowest}; expected 0 for background and 1 and up for objects")
    return np.dtype(label_dtype(highest))


def _check(
    kind: str,
    version: str,
    axes: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    pixel_size_um: Sequence[float] | None,
    channel_names: Sequence[str],
) -> None:
    if version not in VERSIONS:
        raise InputError(f"OME-Zarr version is {version!r}; expected one of {', '.join(VERSIONS)}")
    if kind not in _AXES:
        raise InputError(f"kind is {kind!r}; expected one of {', '.join(_AXES)}")
    if axes not in _AXES[kind] or len(axes) != len(shape) or 0 in shape:
        raise InputError(f"{kind} of shape {shape} with axes {axes!r}; expected {' or '.join(_AXES[kind])}")
    if kind == "labels" and dtype not in (np.uint16, np.uint32):
        raise InputError(f"labels have dtype {dtype}; expected uint16 or uint32")
    if pixel_size_um is not None and len(pixel_size_um) != len(axes.replace("C", "")):
        raise InputError(f"pixel sizes {tuple(pixel_size_um)} for axes {axes}: give one for each spatial axis")
    if channel_names and (kind == "labels" or len(channel_names) != shape[0]):
        raise InputError(f"{len(channel_names)} channel names for {kind} of shape {shape}; give one a channel")


def _level_steps(
    spatial: tuple[int, ...], pixel_size_um: Sequence[float] | None, n_levels: int | None
) -> list[tuple[int, ...]]:
    """Reduction of each level against level 0, a number for each spatial axis."""
    steps = [(1,) * len(spatial)]
    while len(steps) < n_levels if n_levels else max(_shrunk(spatial, steps[-1])[-2:]) > SMALLEST_LEVEL_PX:
        last = steps[-1]
        factors = [2, 2]
        if len(spatial) == 3:
            sizes = pixel_size_um or (1.0, 1.0, 1.0)
            # Depth is halved only once its pixels are no longer much coarser than those in plane.
            factors = [2 if sizes[0] * last[0] < 1.5 * sizes[1] * last[1] else 1, *factors]
        steps.append(tuple(a * b for a, b in zip(last, factors, strict=True)))
    return steps


def _shrunk(shape: tuple[int, ...], step: tuple[int, ...]) -> tuple[int, ...]:
    lead = len(shape) - len(step)
    return shape[:lead] + tuple(-(-n // s) for n, s in zip(shape[lead:], step, strict=True))


def _chunks(shape: tuple[int, ...], chunk_px: Sequence[int]) -> tuple[int, ...]:
    chunk = (1,) * (len(shape) - len(chunk_px)) + tuple(chunk_px)
    return tuple(min(c, n) for c, n in zip(chunk, shape, strict=True))


def _compressor(zarr_format: int) -> Any:
    # Unshuffled: labels become smaller so than shuffled, and faster (2.8 against 5.2 ms a Mpixel), and noisy 8-bit
    # images do not grow. Inside Blosc, since not every reader of Zarr 2 knows zstd by itself.
    if zarr_format == 2:
        return {"id": "blosc", "cname": "zstd", "clevel": 1, "shuffle": 0}
    return BloscCodec(cname="zstd", clevel=1, shuffle="noshuffle")


def _metadata(
    kind: str,
    version: str,
    axes: str,
    placement: Placement,
    calibrated: bool,
    steps: list[tuple[int, ...]],
    name: str,
    dtype: np.dtype[Any],
    channel_names: Sequence[str],
) -> dict[str, Any]:
    lead = [1.0] * (len(axes) - len(steps[0]))
    datasets = []
    for level, step in enumerate(steps):
        scale = [float(s * f) for s, f in zip(placement.scale, step, strict=True)]
        transformations: list[dict[str, Any]] = [{"type": "scale", "scale": lead + scale}]
        # The mean of 2 pixels lies between them; every second pixel lies where it was.
        between = [f - 1 if kind == "image" else 0 for f in step]
        placed = zip(placement.offset, placement.scale, between, strict=True)
        shift = [float(o + s * b / 2) for o, s, b in placed]
        if kind == "image" or any(placement.offset):
            transformations.append({"type": "translation", "translation": [0.0] * len(lead) + shift})
        datasets.append({"path": str(level), "coordinateTransformations": transformations})
    multiscale: dict[str, Any] = {
        "name": name,
        "axes": [_axis(letter, calibrated) for letter in axes.lower()],
        "datasets": datasets,
        "type": "nearest" if kind == "labels" else "mean",
    }
    tag = {"version": version} if version == "0.4" else {}
    metadata: dict[str, Any] = {"multiscales": [{**tag, **multiscale}]}
    if kind == "labels":
        metadata["image-label"] = dict(tag)
    elif channel_names:
        top = float(np.iinfo(dtype).max) if dtype.kind == "u" else 1.0
        window = {"min": 0.0, "max": top, "start": 0.0, "end": top}
        is_rgb = tuple(channel_names) == RGB_NAMES and dtype == np.uint8
        colours = RGB_COLOURS if is_rgb else ("FFFFFF",) * len(channel_names)
        metadata["omero"] = {
            "channels": [
                {"label": label, "color": colour, "active": True, "window": window}
                for label, colour in zip(channel_names, colours, strict=True)
            ]
        }
    return metadata


def _axis(letter: str, calibrated: bool) -> dict[str, str]:
    if letter == "c":
        return {"name": "c", "type": "channel"}
    axis = {"name": letter, "type": "space"}
    return {**axis, "unit": "micrometer"} if calibrated else axis
