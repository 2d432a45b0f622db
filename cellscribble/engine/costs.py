"""A model of what a run takes of memory and time, for blocks of any size.

::

    memory = held                                 what the process has before a block is begun
           + other                                what a run takes whatever its blocks are
           + blocks at once x pixels x network    activations; measured, and kept by ONNX Runtime
           + writer threads x the dearest step    reading, cutting, or writing a pyramid
           + blocks ahead x reading               read before the network has room for them (`pipeline`)

Pixels are those that are read, halo and all. With workers it is that of each, which reads nothing ahead, and of this
process, which has no blocks but has measured the network.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from cellscribble.bundle import ModelMetadata
from cellscribble.core.blocks import Slices, padded_shape
from cellscribble.core.intensity import MAX_SAMPLED_VALUES
from cellscribble.engine.progress import SHARE
from cellscribble.engine.stores import SHRINK_CHUNKS, chunk_px
from cellscribble.engine.task import Task
from cellscribble.io.ome_zarr import SHARD_CHUNKS
from cellscribble.io.zarr_chunks import KEPT_BYTES
from cellscribble.segment.basins import RIM_PX
from cellscribble.segment.parameters import halo_px


class CutBytes(NamedTuple):
    """Of cutting objects: a pixel of the block and its halo while holes and distances are found, and a pixel of the
    block, with what is followed around it, while they are told apart. The two do not come together."""

    window: int
    block: int


USUAL_CUT_BYTES, MOST_CUT_BYTES = CutBytes(16, 55), CutBytes(45, 200)
"""Where cells lie close; and the most: where noise is full of holes, and where every pixel is foreground."""

RESAMPLE_BYTES = 16
"""Of resampling, a channel of a pixel of the image."""

GRAPH_CUT_BYTES = 130
"""Of a graph cut, a pixel of the block and what it sees around it; 117 were measured where three in
four are in doubt."""

NUMBER_BYTES = 32
"""Of giving numbers and writing them, a pixel of the block."""

OTHER_BYTES = (64 << 20) + KEPT_BYTES
"""Zarr's and our own threads, modules that are imported late, what the heap cannot use again; chunks that are kept."""

BYTES_PER_BLOCK = 64
"""Tables of what is done, ready, and numbered."""

ZARR_AT_ONCE = 10
"""Chunks that Zarr unpacks at the same time when one piece is read."""

NETWORK_MARGIN = 1.15
"""What is held of several runs at once fits together less well than what is held of one."""

SHARED_SPEED = 0.9
"""Of two cores on one block, against one block each (docs/large_images.md); taken for each further doubling."""


@dataclass(frozen=True, slots=True)
class Work:
    """One image and what is made of it, as far as memory and time depend on it.

    shape : (*spatial), px
    halo_px, multiple : of the network, px
    cut_halo_px : of cutting objects, px; None where the labels are classes
    read_bytes : of reading, normalising and deciding, a pixel that is read
    chunk_bytes : a chunk of the stored image, unpacked
    fit_bytes : of fitting the intensity, before any block
    n_channels : of the image
    n_stored : channels of probability and uncertainty that are written
    by_planes : the network sees one plane of a block after the other
    sharded : many chunks of what is written share a file
    shrink_px : of a level of the pyramid for a pixel of the next one
    graph_cut : a graph cut decides what is cell
    source_px : of the image for a pixel that the network sees, where it shrinks
    far : as of `Task`
    own_shape : (*spatial) of the image, px; None where the network sees it as it is
    """

    shape: tuple[int, ...]
    halo_px: tuple[int, ...]
    multiple: tuple[int, ...]
    cut_halo_px: tuple[int, ...] | None
    read_bytes: int
    chunk_bytes: int
    fit_bytes: int
    n_stored: int
    n_channels: int = 1
    by_planes: bool = False
    sharded: bool = False
    shrink_px: int = 8
    graph_cut: bool = False
    source_px: float = 1.0
    far: bool = False
    own_shape: tuple[int, ...] | None = None

    @property
    def n_pixels(self) -> int:
        return math.prod(self.shape)

    @property
    def n_labelled(self) -> int:
        """Pixels of the labels."""
        return math.prod(self.own_shape or self.shape)


@dataclass(frozen=True, slots=True)
class Costs:
    """What was measured of the program and its network.

    held_bytes : what the process holds before a block is begun
    reached_bytes : the most that it has held so far
    network_bytes, network_s : a pixel in the network, on one thread
    """

    held_bytes: int
    reached_bytes: int
    network_bytes: float
    network_s: float


def work_of(task: Task, meta: ModelMetadata, *, by_planes: bool) -> Work:
    """What there is to do.

    meta : as the image sees the model (`Fit`)
    by_planes : as `Runner.by_planes`
    """
    image, n_classes = task.image, len(meta.classes)
    shape = task.shape or image.spatial_shape
    itemsize = np.dtype(image.data.dtype).itemsize
    sampled = min(image.n_pixels, MAX_SAMPLED_VALUES) * image.n_channels * itemsize
    shrinks = [
        math.prod(-(-n // m) for n, m in zip(fine.shape, coarse.shape, strict=True))
        for fine, coarse in itertools.pairwise(image.levels)
    ]
    return Work(
        shape=shape,
        halo_px=meta.halo_px,
        multiple=meta.stride_multiple,
        cut_halo_px=None if task.settings is None else halo_px(task.settings, image.ndim),
        # As it was stored, once more where axes or the border are put right, as float32; probability, and its scaling.
        read_bytes=image.n_channels * (2 * itemsize + 4)
        + 12 * n_classes
        + GRAPH_CUT_BYTES * (meta.graph_cut is not None),
        chunk_bytes=_chunk_bytes(image.data),
        # Slabs, one array of them, and its copy that is sorted.
        fit_bytes=3 * sampled,
        n_channels=image.n_channels,
        n_stored=n_classes * task.probability + task.uncertainty,
        by_planes=by_planes,
        sharded=task.version != "0.4",
        shrink_px=max(shrinks, default=2**image.ndim),
        graph_cut=meta.graph_cut is not None,
        source_px=math.prod(max(1.0, n / m) for n, m in zip(image.spatial_shape, shape, strict=True)),
        far=task.far,
        own_shape=None if task.shape is None else image.spatial_shape,
    )


def peak_bytes(
    work: Work,
    costs: Costs,
    block_px: Sequence[int],
    n_networks: int,
    cut_bytes: CutBytes,
    n_workers: int = 0,
    n_writers: int = 0,
    n_ahead: int = 0,
) -> int:
    """Memory of the whole program at its highest, as `make_plan` reckons it.

    n_writers, n_ahead : as of `Plan`; where `n_writers` is 0 it is one more than blocks are in the network
    """
    network = n_networks * math.prod(network_tile(work, block_px)) * costs.network_bytes * NETWORK_MARGIN
    see = _see_bytes(work, block_px)
    dearest = max(see, _step_bytes(work, block_px, cut_bytes), _shrink_bytes(work, block_px))
    n_blocks = math.prod(-(-n // b) for n, b in zip(work.shape, block_px, strict=True))
    threads = (n_writers or n_networks + 1) * dearest + n_ahead * see
    here = network + n_blocks * BYTES_PER_BLOCK + (0 if n_workers else threads)
    start = costs.held_bytes + OTHER_BYTES
    workers = n_workers * math.ceil(start + network + threads)
    return workers + max(costs.reached_bytes, math.ceil(start + max(work.fit_bytes, here)))


def _see_bytes(work: Work, block_px: Sequence[int]) -> int:
    """Of a block that is read, seen and decided."""
    read_px = math.prod(network_window(work, block_px))
    see: int = read_px * work.read_bytes + min(ZARR_AT_ONCE, 2 ** len(work.shape)) * work.chunk_bytes
    if work.own_shape is not None:
        # As float32 in the image's pixels, filtered, and along one axis after the other.
        see += math.ceil(read_px * work.source_px * RESAMPLE_BYTES * work.n_channels)
    return see


def _step_bytes(work: Work, block_px: Sequence[int], cut_bytes: CutBytes) -> int:
    """What the dearest of the other steps at full size takes of one thread."""
    number: int = math.prod(block_px) * NUMBER_BYTES
    if work.own_shape is not None:
        # A block of the labels is made of as many pixels of what was seen as lie under it.
        under = math.prod(max(1.0, n / m) for n, m in zip(work.shape, work.own_shape, strict=True))
        number += math.ceil(math.prod(block_px) * under * (NUMBER_BYTES + 12 * work.n_stored))
    if work.cut_halo_px is None:
        return number
    window_px = _around(work.shape, block_px, work.cut_halo_px)
    followed_px = _around(work.shape, block_px, [RIM_PX + 1] * len(block_px))
    return max(number, window_px * cut_bytes.window, followed_px * cut_bytes.block)


def _around(shape: Sequence[int], block_px: Sequence[int], halo_px: Sequence[int]) -> int:
    """Pixels of a block and what lies around it, at most those of the image."""
    return math.prod(min(b + 2 * h, max(n, b)) for n, b, h in zip(shape, block_px, halo_px, strict=True))


def _shrink_bytes(work: Work, block_px: Sequence[int]) -> int:
    """Of a piece of a pyramid's level, made of twice as many pixels along each axis."""
    chunk = chunk_px(block_px)
    n_chunks = SHARD_CHUNKS[len(chunk)] if work.sharded else SHRINK_CHUNKS[-len(chunk) :]
    piece: int = math.prod(min(c * k, n) for c, k, n in zip(chunk, n_chunks, work.shape, strict=True))
    # It is made chunk by chunk, and packed. Labels are at most uint32. The mean of probability is made of a copy.
    finer = math.prod(chunk) * work.shrink_px
    return max(12, 4 * work.n_stored) * piece + 8 * finer


def network_window(work: Work, block_px: Sequence[int]) -> tuple[int, ...]:
    """What the network is given of a block, px: with its halo, at most the whole image on the network's stride."""
    halo, whole = padded_shape(work.halo_px, work.multiple), padded_shape(work.shape, work.multiple)
    return tuple(min(b + 2 * h, n) for b, h, n in zip(block_px, halo, whole, strict=True))


def network_tile(work: Work, block_px: Sequence[int]) -> tuple[int, ...]:
    """What of that is in the network at the same time, in its own axes, px."""
    return network_window(work, block_px)[1 if work.by_planes else 0 :]


def network_keep(work: Work, block_px: Sequence[int]) -> Slices:
    """What is kept of that of a block inside of the image: all along an axis that is too short for one."""
    halos = padded_shape(work.halo_px, work.multiple)
    sizes = zip(block_px, halos, network_window(work, block_px), strict=True)
    keep = tuple(slice(h, h + b) if n == b + 2 * h else slice(0, n) for b, h, n in sizes)
    return keep[1 if work.by_planes else 0 :]


def expected_seconds(work: Work, costs: Costs, block_px: tuple[int, ...], n_networks: int, threads: int) -> float:
    """Time of all blocks, were none of them empty."""
    halo = padded_shape(work.halo_px, work.multiple)
    pixels = _read_px(work.shape, block_px, halo) + SHARE["number"] * work.n_pixels
    if work.cut_halo_px is not None:
        pixels += SHARE["cut"] * _read_px(work.shape, block_px, work.cut_halo_px)
    n_blocks = math.prod(-(-n // b) for n, b in zip(work.shape, block_px, strict=True))
    each = pixels / n_blocks * costs.network_s / speed_of(threads)
    return math.ceil(n_blocks / n_networks) * each


def speed_of(threads: int) -> float:
    """Of so many threads on one block, against one thread."""
    return float(threads * SHARED_SPEED ** math.log2(threads))


def _read_px(shape: Sequence[int], block_px: Sequence[int], halo: Sequence[int]) -> int:
    """Pixels of all blocks together, each with its halo, clipped at the image."""
    total = 1
    for n, b, h in zip(shape, block_px, halo, strict=True):
        start = np.arange(0, n, b)
        total *= int((np.minimum(start + b + h, n) - np.maximum(start - h, 0)).sum())
    return total


def _chunk_bytes(data: Any) -> int:
    chunks = getattr(data, "chunks", None)
    return math.prod(chunks) * np.dtype(data.dtype).itemsize if chunks else 0
