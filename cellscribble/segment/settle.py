"""The objects that lie wholly inside one block, and what is left open for `stitch`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cellscribble.segment.ascent import Ints
from cellscribble.segment.basins import Basins, Edge
from cellscribble.segment.joining import JoinRule, can_join, components, join


@dataclass(frozen=True, slots=True)
class Keep:
    """Which objects are kept and which are told about.

    smallest_px : smaller objects are dropped
    wide_level : objects whose summit is this high are counted as wide
    """

    smallest_px: float
    wide_level: int


@dataclass(frozen=True, slots=True)
class OpenBasins:
    """What the other blocks must know of one: its M basins whose objects may go on outside.

    n_closed, n_wide : number of objects that are settled in the block; how many of them are wide
    summit, height, inside, size, first, pairs, neck, edge : as in `Basins`, of the open basins 0..M-1
    """

    n_closed: int
    n_wide: int
    summit: Ints
    height: npt.NDArray[np.int32]
    inside: npt.NDArray[np.bool_]
    size: Ints
    first: Ints
    pairs: Ints
    neck: npt.NDArray[np.int32]
    edge: Edge


def close_objects(basins: Basins, rule: JoinRule, keep: Keep) -> tuple[npt.NDArray[np.uint32], OpenBasins]:
    """Settle the objects that lie wholly inside a block.

    Returns
    -------
    numbers : (N + 1,) uint32, for each of the labels 0..N the block's own number: 0 background or
        dropped, 1..n_closed settled objects in raster order, from n_closed + 1 the open basins
    open : what `Stitch.add` takes
    """
    n = len(basins.size)
    inside = basins.inside[basins.pairs].all(axis=1)
    wide, near = can_join(basins.pairs, basins.neck, basins.summit, basins.height, rule)
    # Of a basin that leads out the summit is not known: its edges are kept.
    may = ~inside | wide | near
    pairs, neck, near = basins.pairs[may], basins.neck[may], near[may]
    group = components(pairs, n)
    is_open = np.zeros(n, bool)
    is_open[group[~basins.inside]] = True
    is_open[group[basins.edge.basin]] = True
    is_open = is_open[group]

    settled = ~is_open[pairs[:, 0]]
    joined = join(pairs[settled], neck[settled], near[settled], basins.summit, basins.height, rule)
    objects, of = np.unique(joined, return_inverse=True)
    size, top = np.zeros(len(objects), np.int64), np.zeros(len(objects), np.int32)
    np.add.at(size, of, basins.size)
    np.maximum.at(top, of, basins.height)
    first = np.full(len(objects), np.iinfo(np.int64).max)
    np.minimum.at(first, of, basins.first)
    kept = np.flatnonzero((size >= max(keep.smallest_px, 1)) & ~is_open[objects])
    kept = kept[np.argsort(first[kept])]
    number = np.zeros(len(objects), np.uint32)
    number[kept] = np.arange(1, len(kept) + 1)
    numbers = np.concatenate([np.zeros(1, np.uint32), number[of]])

    left = np.flatnonzero(is_open)
    place = np.zeros(n, np.int64)
    place[left] = np.arange(len(left))
    numbers[left + 1] = len(kept) + 1 + place[left]
    return numbers, OpenBasins(
        n_closed=len(kept),
        n_wide=int((top[kept] >= keep.wide_level).sum()),
        summit=basins.summit[left],
        height=basins.height[left],
        inside=basins.inside[left],
        size=basins.size[left],
        first=basins.first[left],
        pairs=place[pairs[~settled]],
        neck=neck[~settled],
        edge=replace(basins.edge, basin=place[basins.edge.basin].astype(np.int32)),
    )
