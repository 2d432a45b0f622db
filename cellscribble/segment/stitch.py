"""Objects across blocks: the open basins of all blocks joined into objects.

Blocks are handed in one by one, in any order, with small tables; pixels are not kept. The answer is
a table for each block, from the block's own numbers to the objects' numbers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.labels import label_dtype
from cellscribble.segment.ascent import Ints
from cellscribble.segment.basins import Edge, highest_necks
from cellscribble.segment.joining import JoinRule, can_join, join
from cellscribble.segment.settle import Keep, OpenBasins


@dataclass(frozen=True, slots=True)
class Stitched:
    """The objects of the whole image.

    n_objects : they are numbered 1..n_objects: block after block, in one first those that lie
        wholly inside, then those that begin in it, each in raster order
    n_wide : how many are so wide that their shape was not seen
    tables : for each block, by its place in the grid, (1 + n,) uint16 or uint32: the object of each
        of the block's own numbers, 0 where it is dropped
    """

    n_objects: int
    n_wide: int
    tables: dict[tuple[int, ...], npt.NDArray[np.unsignedinteger[Any]]]


NO_EDGE = Edge(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int32))


class Stitch:
    """Collects the blocks of one image, in any order.

    Parameters
    ----------
    block_px : size of a block; blocks are named by their place in the grid
    rule, keep : as for `close_objects`
    """

    def __init__(self, block_px: Sequence[int], rule: JoinRule, keep: Keep) -> None:
        self._rule, self._keep = rule, keep
        self._grid = tuple(math.ceil(n / b) for n, b in zip(rule.shape, block_px, strict=True))
        self._blocks: dict[int, OpenBasins] = {}
        self._edges: dict[tuple[int, ...], Edge] = {}
        # (block, basin, block, basin) and for pairs the neck, as columns.
        self._links: list[tuple[int, Ints, int, Ints]] = []
        self._pairs: list[tuple[int, Ints, int, Ints, npt.NDArray[np.int32]]] = []

    def add(self, place: tuple[int, ...], block: OpenBasins) -> None:
        """Take in the block at `place` of the grid."""
        self._edges[place] = block.edge
        self._blocks[self._number(place)] = block
        for beside in self._around(place):
            if beside in self._edges:
                self._link(place, beside)
                self._link(beside, place)
                self._pair(min(place, beside), max(place, beside))
        # An edge is kept until all blocks around it are known.
        for known in (place, *self._around(place)):
            if known in self._edges and all(self._number(b) in self._blocks for b in self._around(known)):
                number = self._number(known)
                del self._edges[known]
                self._blocks[number] = replace(self._blocks[number], edge=NO_EDGE)

    def finish(self) -> Stitched:
        """Join what lies across blocks, drop what is small, and number the objects."""
        places = list(np.ndindex(self._grid))
        assert len(self._blocks) == len(places), f"{len(self._blocks)} of {len(places)} blocks were added"
        blocks = [self._blocks[k] for k in range(len(places))]
        start = np.cumsum([0, *(len(b.size) for b in blocks)])
        home = np.repeat(np.arange(len(blocks)), np.diff(start))
        objects, level = self._join(blocks, start)
        size = np.zeros(len(objects), np.int64)
        np.add.at(size, objects, _all(b.size for b in blocks))
        # An object begins in the first of its blocks, there at its first pixel.
        order = np.lexsort((_all(b.first for b in blocks), home))
        _, begin = np.unique(objects[order], return_index=True)
        begin = np.sort(begin)
        kept = objects[order[begin]]
        large = size[kept] >= max(self._keep.smallest_px, 1)
        kept, home = kept[large], home[order[begin[large]]]

        closed = np.array([b.n_closed for b in blocks])
        owned = np.bincount(home, minlength=len(blocks))
        before = np.cumsum(closed + owned) - closed - owned
        number = np.zeros(len(objects), np.int64)
        number[kept] = (before + closed - np.cumsum(owned) + owned)[home] + np.arange(1, len(kept) + 1)
        n_objects = int((closed + owned).sum())
        dtype = label_dtype(n_objects)
        tables: dict[tuple[int, ...], npt.NDArray[Any]] = {
            place: np.asarray(np.concatenate([[0], b + np.arange(1, c + 1), number[objects[low:high]]]), dtype)
            for place, b, c, (low, high) in zip(places, before, closed, itertools.pairwise(start), strict=True)
        }
        n_wide = sum(b.n_wide for b in blocks) + int((level[kept] >= self._keep.wide_level).sum())
        return Stitched(n_objects, n_wide, tables)

    def _join(self, blocks: list[OpenBasins], start: Ints) -> tuple[Ints, npt.NDArray[np.int32]]:
        """For each open basin of all blocks one basin of its object, and by that the object's height."""
        up = np.arange(start[-1])
        for a, one, b, two in self._links:
            up[start[a] + one] = start[b] + two
        while not np.array_equal(up[up], up):
            up = up[up]
        summits = np.flatnonzero(_all(b.inside for b in blocks))
        basin = np.searchsorted(summits, up)
        height = _all(b.height for b in blocks).astype(np.int32)[summits]
        summit = _all(b.summit for b in blocks)[summits]
        inner = [start[k] + b.pairs for k, b in enumerate(blocks)]
        across = [np.stack([start[a] + one, start[b] + two], axis=1) for a, one, b, two, _ in self._pairs]
        pairs = basin[np.concatenate([*inner, *across])]
        neck = np.concatenate([*(b.neck for b in blocks), *(link[4] for link in self._pairs)])
        differ = pairs[:, 0] != pairs[:, 1]
        pairs, neck = highest_necks(pairs[differ], neck[differ], len(summits))
        wide, near = can_join(pairs, neck, summit, height, self._rule)
        may = wide | near
        joined = join(pairs[may], neck[may], near[may], summit, height, self._rule)
        level = np.zeros(len(up), np.int32)
        np.maximum.at(level, summits[joined], height)
        return summits[joined][basin], level

    def _link(self, place: tuple[int, ...], beside: tuple[int, ...]) -> None:
        """Find the pixels by which basins of one block lead into another."""
        a, b = self._number(place), self._number(beside)
        exits = np.flatnonzero(~self._blocks[a].inside)
        edge = self._edges[beside]
        at, found = _look_up(self._blocks[a].summit[exits], edge.position)
        self._links.append((a, exits[found], b, edge.basin[at[found]].astype(np.int64)))

    def _pair(self, place: tuple[int, ...], beside: tuple[int, ...]) -> None:
        """Find the pixels of two blocks that share a face; `place` comes first in the grid."""
        differ = [axis for axis in range(len(place)) if place[axis] != beside[axis]]
        if len(differ) > 1:
            return
        one, two = self._edges[place], self._edges[beside]
        at, found = _look_up(one.position + math.prod(self._rule.shape[differ[0] + 1 :]), two.position)
        at = at[found]
        a, b = one.basin[found].astype(np.int64), two.basin[at].astype(np.int64)
        neck = np.minimum(one.height[found], two.height[at])
        self._pairs.append((self._number(place), a, self._number(beside), b, neck))

    def _number(self, place: tuple[int, ...]) -> int:
        return int(np.ravel_multi_index(place, self._grid))

    def _around(self, place: tuple[int, ...]) -> list[tuple[int, ...]]:
        ranges = [range(max(p - 1, 0), min(p + 2, n)) for p, n in zip(place, self._grid, strict=True)]
        return [beside for beside in itertools.product(*ranges) if beside != place]


def _all(columns: Iterable[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return np.concatenate(list(columns))


def _look_up(wanted: Ints, rising: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Where each wanted value stands in a rising list, and whether it does."""
    if not len(rising):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    at = np.minimum(np.searchsorted(rising, wanted), len(rising) - 1)
    return at, rising[at] == wanted
