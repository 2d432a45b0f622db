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
from cellscribble.core.volume import PyramidLevel, rounded_step
from cellscribble.io.atomic import atomic_path
from cellscribble.io.ome_zarr_metadata import ome_metadata, plan_levels
from cellscribble.io.zarr_chunks import read_chunks, write_chunks

VERSIONS = ("0.4", "0.5")
CHUNK_PX = {2: (512, 512), 3: (64, 64, 64)}
SHARD_CHUNKS = {2: (4, 4), 3: (1, 4, 4)}
"""In one file of version 0.5, but for level 0 of a store that says what its writers own."""
BLOSC_BLOCK_BYTES = 1 << 18
"""Packed at once: in larger pieces than Blosc takes by itself labels become an eighth smaller, and faster."""
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
    levels: Sequence[PyramidLevel] = (),
    version: str = "0.4",
    attributes: Mapping[str, Any] | None = None,
    source: str = "",
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
    levels : those of the image that the result belongs to, which are taken instead; of one alone its place
    version : OME-Zarr version, "0.4" or "0.5"; in 0.5 many chunks share a file (a shard)
    attributes : further attributes of the group, for example {"cellscribble": provenance}
    source : of labels, the path from here to the image they belong to

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
            levels=levels,
            version=version,
            attributes=attributes,
            source=source,
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
    levels: Sequence[PyramidLevel] = (),
    version: str = "0.4",
    attributes: Mapping[str, Any] | None = None,
    chunk_px: Sequence[int] | None = None,
    shard_px: Sequence[int] | None = None,
    source: str = "",
) -> Any:
    """Create an OME-Zarr store with empty levels and return its zarr group; level 0 is ``group["0"]``.

    For results that grow block by block: fill level 0 in the blocks of `write_blocks` (whole
    chunks, so that several processes may write at once), then call `build_pyramid`. Give it a path
    from `atomic_path`, or one of your own that is renamed at the end. Parameters as
    `write_ome_zarr`, and

    chunk_px : size of a chunk, one for each spatial axis, by default `CHUNK_PX`
    shard_px : of level 0 in version 0.5, what one writer owns: a multiple of `chunk_px`

    Raises
    ------
    InputError
        As `write_ome_zarr`.
    """
    dtype = np.dtype(dtype)
    _check(kind, version, axes, tuple(shape), dtype, pixel_size_um, channel_names)
    ndim = len(axes.replace("C", ""))
    lead, spatial = tuple(shape)[:-ndim], tuple(shape)[-ndim:]
    first = PyramidLevel(spatial, tuple(pixel_size_um or (1.0,) * ndim), (0.0,) * ndim)
    planned = levels if len(levels) > 1 else plan_levels(levels[0] if levels else first, n_levels, kind)
    zarr_format: Literal[2, 3] = 2 if version == "0.4" else 3
    group = zarr.create_group(str(path), zarr_format=zarr_format)
    extra: dict[str, Any] = {"dimension_names": list(axes.lower())} if zarr_format == 3 else {}
    for number, level in enumerate(planned):
        chunks = tuple(min(c, n) for c, n in zip(chunk_px or CHUNK_PX[ndim], level.shape, strict=True))
        if zarr_format == 3:
            extra["shards"] = _shards(level.shape, chunks, None if number else shard_px, len(lead))
        group.create_array(
            str(number),
            shape=(*lead, *level.shape),
            chunks=(1,) * len(lead) + chunks,
            dtype=dtype,
            fill_value=0,
            compressors=_compressor(zarr_format),
            chunk_key_encoding={"name": "v2" if zarr_format == 2 else "default", "separator": "/"},
            **extra,
        )
    metadata = ome_metadata(
        kind, version, axes, pixel_size_um is not None, planned, name, dtype, channel_names, source
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

    Labels take single pixels (labels must not be averaged), images the mean where sizes divide.
    """
    fine, coarse = group[str(level - 1)], group[str(level)]
    nearest = "image-label" in _ome(group)
    values = np.zeros([s.stop - s.start for s in block], coarse.dtype)
    # Chunk by chunk: a step may be 4 or more, and what is read grows with its square.
    for part in itertools.product(*(_cut(s, n) for s, n in zip(block, coarse.chunks, strict=True))):
        to = tuple(slice(p.start - b.start, p.stop - b.start) for p, b in zip(part, block, strict=True))
        values[to] = _shrunk(fine, coarse.shape, part, nearest)
    if not values.any():
        return False
    write_chunks(coarse, block, values)
    return True


def _cut(whole: slice, size: int) -> list[slice]:
    return [slice(start, min(start + size, whole.stop)) for start in range(whole.start, whole.stop, size)]


def _shrunk(fine: Any, shape: Sequence[int], part: Slices, nearest: bool) -> npt.NDArray[Any]:
    """What stands at `part` of the level of this shape that comes after `fine`."""
    steps = [rounded_step(n, m) for n, m in zip(fine.shape, shape, strict=True)]
    if all(step.is_integer() for step in steps):
        whole = [int(step) for step in steps]
        ends = zip(part, whole, fine.shape, strict=True)
        values = read_chunks(fine, tuple(slice(p.start * s, min(p.stop * s, n)) for p, s, n in ends))
        return values[tuple(slice(None, None, s) for s in whole)] if nearest else _mean(values, whole)
    picks = [
        np.minimum((np.arange(p.start, p.stop) * step).astype(np.int64), n - 1)
        for p, step, n in zip(part, steps, fine.shape, strict=True)
    ]
    values = fine[tuple(slice(int(pick[0]), int(pick[-1]) + 1) for pick in picks)]
    return np.asarray(values[np.ix_(*(pick - pick[0] for pick in picks))])


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


def _shards(
    shape: tuple[int, ...], chunks: tuple[int, ...], shard_px: Sequence[int] | None, n_lead: int
) -> tuple[int, ...] | None:
    """Size of a shard, a number for each axis; None where one chunk is all of it."""
    wanted = shard_px or [c * n for c, n in zip(chunks, SHARD_CHUNKS[len(shape)], strict=True)]
    counts = [min(-(-w // c), -(-n // c)) for w, c, n in zip(wanted, chunks, shape, strict=True)]
    if max(counts) == 1:
        return None
    return (1,) * n_lead + tuple(c * n for c, n in zip(chunks, counts, strict=True))


def _compressor(zarr_format: int) -> Any:
    # Unshuffled: labels become smaller so than shuffled, and faster (2.8 against 5.2 ms a Mpixel), and noisy 8-bit
    # images do not grow. Inside Blosc, since not every reader of Zarr 2 knows zstd by itself.
    if zarr_format == 2:
        return {"id": "blosc", "cname": "zstd", "clevel": 1, "shuffle": 0, "blocksize": BLOSC_BLOCK_BYTES}
    return BloscCodec(cname="zstd", clevel=1, shuffle="noshuffle", blocksize=BLOSC_BLOCK_BYTES)
