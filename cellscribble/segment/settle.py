"""The objects that lie wholly inside a block, and what is left open for `stitch`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cellscribble.segment.ascent import Ints
from cellscribble.segment.graph import BasinGraph, sum_up
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
class Closed:
    """The objects that are settled in a block, and what goes on outside.

    numbers : (N + 1,) uint32, for each of the basins' labels 0..N the block's own number: 0
        background or dropped, 1..n_closed settled objects in raster order, from n_closed + 1 the
        open basins in their order
    n_closed, n_wide : number of settled objects; how many of them are wide
    classes : (n_closed,) uint8, the class 1..V with most votes, of equal ones the first; (0,) if V is 0
    open : the M basins whose objects may go on outside
    """

    numbers: npt.NDArray[np.uint32]
    n_closed: int
    n_wide: int
    classes: npt.NDArray[np.uint8]
    open: BasinGraph


def close_objects(graph: BasinGraph, rule: JoinRule, keep: Keep) -> Closed:
    """Settle the objects that lie wholly inside the block, or the blocks, of a graph."""
    inside = graph.inside[graph.pairs].all(axis=1)
    wide, near = can_join(graph.pairs, graph.neck, graph.summit, graph.height, rule)
    # Of a basin that leads out the summit is not known: its edges are kept.
    may = ~inside | wide | near
    pairs, neck, near = graph.pairs[may], graph.neck[may], near[may]
    is_open = _reach_outside(graph, pairs)
    settled = ~is_open[pairs[:, 0]]
    joined = join(pairs[settled], neck[settled], near[settled], graph.summit, graph.height, rule)

    own, left = np.flatnonzero(~is_open), np.flatnonzero(is_open)
    objects, of = np.unique(joined[own], return_inverse=True)
    size, first, votes = sum_up(of, len(objects), graph.size[own], graph.first[own], graph.votes[own])
    top = np.zeros(len(objects), np.int32)
    np.maximum.at(top, of, graph.height[own])
    kept = np.flatnonzero(size >= keep.smallest_px)
    kept = kept[np.argsort(first[kept])]
    number = np.zeros(len(objects), np.uint32)
    number[kept] = np.arange(1, len(kept) + 1)
    numbers = np.zeros(graph.n + 1, np.uint32)
    numbers[own + 1] = number[of]
    numbers[left + 1] = len(kept) + np.arange(1, len(left) + 1)
    return Closed(
        numbers=numbers,
        n_closed=len(kept),
        n_wide=int((top[kept] >= keep.wide_level).sum()),
        classes=_favourites(votes[kept]),
        open=_part(graph, left, pairs[~settled], neck[~settled]),
    )


def _reach_outside(graph: BasinGraph, pairs: Ints) -> npt.NDArray[np.bool_]:
    """Whether each basin may, over the pairs that may join, belong to an object that goes on outside."""
    group = components(pairs, graph.n)
    reaches = np.zeros(graph.n, bool)
    reaches[group[~graph.inside]] = True
    reaches[group[graph.edge.basin]] = True
    return reaches[group]


def _favourites(votes: Ints) -> npt.NDArray[np.uint8]:
    if not votes.shape[1]:
        return np.zeros(0, np.uint8)
    return np.asarray(np.argmax(votes, axis=1) + 1, np.uint8)


def _part(graph: BasinGraph, left: Ints, pairs: Ints, neck: npt.NDArray[np.int32]) -> BasinGraph:
    """The basins `left` alone, numbered anew; `pairs` and the edge name no others."""
    place = np.zeros(graph.n, np.int64)
    place[left] = np.arange(len(left))
    return BasinGraph(
        summit=graph.summit[left],
        height=graph.height[left],
        inside=graph.inside[left],
        size=graph.size[left],
        first=graph.first[left],
        votes=graph.votes[left],
        pairs=place[pairs],
        neck=neck,
        edge=replace(graph.edge, basin=place[graph.edge.basin].astype(np.int32)),
    )
