"""What is done with one block, step by step; each step reads and writes the disk and keeps nothing.

::

    See     image    -> seen, probability   the network, a block and what it must see around it
    Cut     seen     -> numbers, a node     objects that lie inside a block; the rest stays open
    Join    nodes    -> a node              what lies inside a group of blocks
    Number  numbers  -> labels              once all is joined, each object has its number

`seen` holds 0 for background and for foreground the class that is most probable there, `numbers` the
block's own numbers. A step called twice writes the same again, so nothing is lost when a run is killed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.bundle import ModelMetadata
from cellscribble.core.blocks import Block, BlockGrid, Slices, padded_block, read_padded
from cellscribble.core.errors import FileFormatError
from cellscribble.core.intensity import Intensity
from cellscribble.core.reading import reading
from cellscribble.core.volume import ImageVolume
from cellscribble.engine.block_files import BlockFiles, numbered_path
from cellscribble.engine.empty import EmptyTest, Network
from cellscribble.engine.journal import DONE, EMPTY
from cellscribble.engine.mend import Mended, read_mended
from cellscribble.infer.cut import BlockCut
from cellscribble.infer.uncertainty import uncertainty
from cellscribble.io.ome_zarr import shrink_into
from cellscribble.io.zarr_chunks import write_chunks
from cellscribble.segment.doubt import Doubt
from cellscribble.segment.instances import cut_block, foreground, rules
from cellscribble.segment.parameters import InstanceParameters, halo_px
from cellscribble.segment.settle import close_objects
from cellscribble.segment.stitch import Node, child_tables, join_nodes, leaf, own_table

THINNED = 4
"""One pixel in so many along each axis of a plane tells how sure the network is of an image."""

KEPT_GROUPS = 256
"""Blocks are numbered in raster order: this many groups keep a row of them at hand in any image to 10^9 blocks."""

Levels = Sequence[tuple[Any, tuple[int, ...]]]
"""Levels of a pyramid, each with how many pixels of level 0 one of its own stands for, on each axis."""

Decide = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.uint8]]


def decide_classes(probability: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """The most probable class (*spatial) of each pixel, 0 background; of equal ones the first."""
    return np.asarray(np.argmax(probability, axis=0), np.uint8)


@dataclass(frozen=True, slots=True)
class DecideObjects:
    """Foreground where the objects' threshold says so, there the most probable class 1..K-1."""

    settings: InstanceParameters

    def __call__(self, probability: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        inside = foreground(probability, self.settings)
        if len(probability) == 2:
            return inside.view(np.uint8)
        return np.where(inside, np.argmax(probability[1:], axis=0) + 1, 0).astype(np.uint8)


def at_most(n: int, network: Network) -> Network:
    """The network for no more than `n` blocks at once: its layers are what takes the memory."""
    free = threading.Semaphore(n)

    def limited(block: npt.NDArray[np.float32], keep: Slices | None = None) -> npt.NDArray[np.float32]:
        with free:
            return network(block, keep)

    return limited


@dataclass(slots=True, eq=False)
class Look:
    """A block on its way through `See`.

    empty : there is nothing to ask
    mended : where a part of it could not be read
    pixels : normalised (C, *read); gone as soon as nobody needs them
    around : probability (K, *keep), with a cut (K, *read)
    """

    k: int
    block: Block
    empty: bool = False
    mended: Mended | None = None
    pixels: npt.NDArray[np.float32] | None = None
    around: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class See:
    """Ask the network about a block: at once, or `read`, `ask` and `write` one after the other, each by any thread.

    `probability` (K, *spatial) uint8, 255 for certain, may be None, as may `uncertainty` (1, *spatial)
    uint8, `empty` and `cut`, which decides about background before `decide` does. `exact` is told the probability
    as it is, where another grid is to be made of it; `doubt` counts some of its pixels. With `skip_damaged` what
    cannot be read is background, of probability 0 for all classes, and what lies beside it is seen with the nearest
    pixels in its place.
    """

    image: ImageVolume
    meta: ModelMetadata
    network: Network
    intensity: Intensity
    grid: BlockGrid
    decide: Decide
    seen: BlockFiles
    probability: Any
    empty: EmptyTest | None
    uncertainty: Any = None
    cut: BlockCut | None = None
    exact: Callable[[int, npt.NDArray[np.float32]], None] | None = None
    skip_damaged: bool = False
    doubt: Doubt | None = None

    def __call__(self, k: int) -> str:
        """All of it: read, ask, write."""
        look = self.read(k)
        if not look.empty:
            self.ask(look)
        return self.write(look)

    def read(self, k: int) -> Look:
        """What the network is to see of block `k`; nothing where that is empty."""
        look = Look(k, padded_block(self.grid, k, self.meta.halo_px, self.meta.stride_multiple))
        if self.empty is not None and self.empty.unread(k):
            look.empty = True
            return look
        read = look.block.read
        try:
            with reading(self.image, read):
                pixels = read_padded(self.image.data, read)
        except FileFormatError:
            if not self.skip_damaged:
                raise
            look.mended = read_mended(self.image, read)
            if look.mended.lost[look.block.keep].all():
                raise
            pixels = look.mended.pixels
        if look.mended is None and self.empty is not None and self.empty(pixels):
            look.empty = True
        else:
            look.pixels = self.intensity.apply(pixels)
        return look

    def ask(self, look: Look) -> None:
        """Ask the network about what was read."""
        assert look.pixels is not None
        # The cut also looks at what lies around the block.
        look.around = self.network(look.pixels, look.block.keep if self.cut is None else None)
        if self.cut is None:
            look.pixels = None

    def write(self, look: Look) -> str:
        """Decide, and write what is wanted."""
        k, block, mended, around = look.k, look.block, look.mended, look.around
        if look.empty:
            return self._leave_empty(k, block)
        assert around is not None
        probability = around if self.cut is None else around[(slice(None), *block.keep)]
        if mended is not None:
            probability = np.where(mended.lost[block.keep], np.float32(0), probability)
        if self.probability is not None:
            channels = slice(0, len(probability))
            write_chunks(self.probability, (channels, *block.write), np.rint(probability * 255).astype(np.uint8))
        if self.uncertainty is not None:
            write_chunks(self.uncertainty, (slice(0, 1), *block.write), uncertainty(probability)[np.newaxis])
        if self.exact is not None:
            self.exact(k, probability)
        if self.doubt is not None:
            self.doubt.add(probability[..., ::THINNED, ::THINNED])
        if self.cut is not None:
            assert look.pixels is not None
            probability = self.cut(self.grid, k, around, look.pixels, block.read)
        seen = self.decide(probability)
        if mended is not None:
            seen[mended.lost[block.keep]] = 0
        if seen.any():
            self.seen.write(k, seen)
        return DONE if mended is None else mended.word(block.read, block.write, self.meta.halo_px)

    def _leave_empty(self, k: int, block: Block) -> str:
        if self.probability is not None:
            self.probability[(0, *block.write)] = 255
        if self.exact is not None:
            sizes = [s.stop - s.start for s in block.write]
            background = np.zeros((len(self.meta.classes), *sizes), np.float32)
            background[0] = 1
            self.exact(k, background)
        return EMPTY


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """Cut the foreground of a block into objects and open ends."""

    seen: BlockFiles
    numbers: BlockFiles
    nodes: Path
    grid: BlockGrid
    settings: InstanceParameters
    n_classes: int

    @property
    def halo_px(self) -> tuple[int, ...]:
        return halo_px(self.settings, len(self.grid.shape))

    def __call__(self, k: int) -> str:
        box, window = self.grid.box(k), self.grid.window(k, self.halo_px)
        seen = self.seen.read(window)
        if not seen.any():
            return EMPTY
        labels, graph = cut_block(seen, window, box, self.grid.shape, self.settings, self.n_classes)
        closed = close_objects(graph, *rules(self.settings, self.grid.shape))
        self.numbers.write(k, labels.through(closed.numbers))
        leaf(closed).save(node_path(self.nodes, 0, k))
        return DONE


@dataclass(frozen=True, slots=True, eq=False)
class Join:
    """Join the nodes of a group of blocks; `grid` holds the groups of `level`, `finer` those of one below."""

    nodes: Path
    level: int
    grid: BlockGrid
    finer: BlockGrid
    settings: InstanceParameters

    def __call__(self, k: int) -> str:
        box = self.grid.box(k)
        below = self.finer.numbers_meeting(box)
        children = [Node.load(node_path(self.nodes, self.level - 1, child)) for child in below]
        if all(child.n_objects == 0 and child.open.n == 0 for child in children):
            return EMPTY
        node = join_nodes(children, box, self.grid.shape, *rules(self.settings, self.grid.shape))
        node.save(node_path(self.nodes, self.level, k))
        return DONE


def node_folder(folder: Path, level: int) -> Path:
    """The folder of the nodes of a level."""
    return folder / str(level)


def node_path(folder: Path, level: int, k: int) -> Path:
    """The file of a node."""
    return numbered_path(node_folder(folder, level), k, ".node")


class Tables:
    """The way back down: from the whole image's count to each block's table of object numbers.

    Parameters
    ----------
    nodes : folder of the nodes
    grids : of all levels, the blocks first; the last has one block
    """

    def __init__(self, nodes: Path, grids: Sequence[BlockGrid]) -> None:
        self._nodes, self._grids = nodes, grids
        self._read_group = lru_cache(maxsize=KEPT_GROUPS)(self._descend)

    @property
    def root(self) -> Node:
        """That of the whole image."""
        return Node.load(node_path(self._nodes, len(self._grids) - 1, 0))

    def __call__(self, k: int) -> npt.NDArray[np.int64]:
        """The object of each of block `k`'s own numbers: (1 + n,), 0 for none."""
        before, of_open, node = self._read(0, k)
        return own_table(node, before, of_open)

    def classes(self, level: int | None = None, k: int = 0) -> Iterator[npt.NDArray[np.uint8]]:
        """The classes of all objects, piece by piece, in the order of their numbers."""
        level = len(self._grids) - 1 if level is None else level
        node = Node.load(node_path(self._nodes, level, k))
        if level and node.n_objects:
            for child in self._below(level, k):
                yield from self.classes(level - 1, child)
        yield node.classes

    def _read(self, level: int, k: int) -> tuple[int, npt.NDArray[np.int64], Node]:
        node = Node.load(node_path(self._nodes, level, k))
        if level == len(self._grids) - 1:
            return 0, np.zeros(0, np.int64), node
        fine, coarse = self._grids[level], self._grids[level + 1]
        (group,) = coarse.numbers_meeting(fine.box(k))
        before, of_open = self._read_group(level + 1, group)[k]
        return before, of_open, node

    def _descend(self, level: int, k: int) -> dict[int, tuple[int, npt.NDArray[np.int64]]]:
        """For each block below a group: objects before it, and the object of each of its open basins."""
        children = self._below(level, k)
        before, of_open, node = self._read(level, k)
        if not len(node.counts):
            return dict.fromkeys(children, (before, np.zeros(0, np.int64)))
        return dict(zip(children, child_tables(node, before, of_open), strict=True))

    def _below(self, level: int, k: int) -> list[int]:
        return self._grids[level - 1].numbers_meeting(self._grids[level].box(k))


def write_levels(levels: Levels, box: Slices, labels: npt.NDArray[np.unsignedinteger[Any]]) -> None:
    """Write a block of labels into level 0 and those above in which nobody else writes into its chunks."""
    for array, step in levels:
        place = tuple(slice(b.start // s, -(-b.stop // s)) for b, s in zip(box, step, strict=True))
        write_chunks(array, place, labels[tuple(slice(None, None, s) for s in step)])


@dataclass(frozen=True, slots=True, eq=False)
class Number:
    """Give the pixels of a block their final numbers: `table` has, for block k, that of each of the block's own."""

    numbers: BlockFiles
    levels: Levels
    table: Callable[[int], npt.NDArray[np.int64]]
    grid: BlockGrid

    def __call__(self, k: int) -> str:
        labels = self.numbers.through(k, self.table(k).astype(self.levels[0][0].dtype))
        if labels is None or not labels.any():
            return EMPTY
        write_levels(self.levels, self.grid.box(k), labels)
        return DONE


@dataclass(frozen=True, slots=True, eq=False)
class Shrink:
    """Fill a block of a pyramid's level from the level before."""

    group: Any
    level: int
    grid: BlockGrid

    def __call__(self, k: int) -> str:
        lead = self.group[str(self.level)].ndim - len(self.grid.shape)
        channels = tuple(slice(0, n) for n in self.group[str(self.level)].shape[:lead])
        return DONE if shrink_into(self.group, self.level, (*channels, *self.grid.box(k))) else EMPTY
