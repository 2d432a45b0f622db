"""The open basins of several blocks as one graph, as if the blocks had been one.

Basins of two blocks are one where a way uphill leads from the one into the other; others touch
where pixels of two blocks share a face. Both are found among the pixels at the blocks' edges.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.blocks import Slices
from cellscribble.segment.ascent import Ints, follow, strides_of
from cellscribble.segment.graph import BasinGraph, Edge, highest_necks, sum_up

PIECE = 1 << 20
"""Edge pixels looked up at once: in a volume their scratch would else be several times as large as they are."""


def glue(graphs: Sequence[BasinGraph], box: Slices, shape: Sequence[int]) -> tuple[BasinGraph, list[Ints]]:
    """One graph from those of the parts of `box`.

    Parameters
    ----------
    graphs : of the open basins of each part (`Closed.open`)
    box : what the parts fill together, in the image
    shape : of the image

    Returns
    -------
    graph : of the basins in `box`; `close_objects` takes it as it takes that of one block
    basins : for each part, (its number of basins,) int64, which basin of `graph` each of them is in
    """
    start = np.cumsum([0, *(g.n for g in graphs)])
    edge = _all_edges(graphs, start)
    summit, height, inside = (_all(getattr(g, name) for g in graphs) for name in ("summit", "height", "inside"))
    end = _lead_on(summit, inside, edge, box, shape)
    # Ways that leave by the same pixel are one from there on.
    _, top, basin = np.unique(summit[end], return_index=True, return_inverse=True)
    top = end[top]
    size, first, votes = sum_up(
        basin, len(top), _all(g.size for g in graphs), _all(g.first for g in graphs), _all_votes(graphs)
    )
    part = np.repeat(np.arange(len(graphs)), np.diff(start))
    across, neck_across = _pairs_across(edge, part, shape)
    pairs = basin[_all([*(g.pairs + low for g, low in zip(graphs, start, strict=False)), across])]
    neck = _all([*(g.neck for g in graphs), neck_across])
    differ = pairs[:, 0] != pairs[:, 1]
    pairs, neck = highest_necks(pairs[differ], neck[differ], len(top))
    outer = np.flatnonzero(_at_face(edge.position, box, shape))
    glued = BasinGraph(
        summit=summit[top],
        height=height[top],
        inside=inside[top],
        size=size,
        first=first,
        votes=votes,
        pairs=pairs,
        neck=neck,
        edge=Edge(edge.position[outer], basin[edge.basin[outer]].astype(np.int32), edge.height[outer]),
    )
    return glued, np.split(basin, start[1:-1])


def _all(columns: Iterable[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return np.concatenate(list(columns))


def _all_votes(graphs: Sequence[BasinGraph]) -> Ints:
    # A part without basins does not know how many classes there are.
    n_classes = max(g.votes.shape[1] for g in graphs)
    return _all(g.votes if g.n else np.zeros((0, n_classes), np.int64) for g in graphs)


def _all_edges(graphs: Sequence[BasinGraph], start: Ints) -> Edge:
    """The edges of all parts in the order of position; basins are numbered through."""
    position = _all(g.edge.position for g in graphs)
    order = np.argsort(position, kind="stable")
    position = position[order]
    basin = _all(g.edge.basin + np.int32(low) for g, low in zip(graphs, start, strict=False))[order]
    return Edge(position, basin, _all(g.edge.height for g in graphs)[order])


def _lead_on(summit: Ints, inside: npt.NDArray[np.bool_], edge: Edge, box: Slices, shape: Sequence[int]) -> Ints:
    """For each basin the one in which its way ends: with a summit, or where it leaves the box.

    A way that leaves a part goes on in the basin of the pixel by which it leaves, see
    `basins._highest_exits`.
    """
    to = np.arange(len(summit))
    leads = np.flatnonzero(~inside)
    at, found = _look_up(summit[leads], edge.position)
    assert not _within(summit[leads[~found]], box, shape).any(), "a way leads into a part that is not there"
    to[leads[found]] = edge.basin[at[found]]
    return follow(to)


def _pairs_across(edge: Edge, part: Ints, shape: Sequence[int]) -> tuple[Ints, npt.NDArray[np.int32]]:
    """Basins of different parts that share a face of a pixel, (E, 2), and the highest point of their border, (E,)."""
    pairs, necks = [np.zeros((0, 2), np.int64)], [np.zeros(0, np.int32)]
    for low in range(0, len(edge.position), PIECE):
        for stride, n in zip(strides_of(shape), shape, strict=True):
            # From the last pixel of an axis a step leads to the next row, which is no neighbour.
            one = low + np.flatnonzero(edge.position[low : low + PIECE] // stride % n < n - 1)
            two, found = _look_up(edge.position[one] + stride, edge.position)
            found &= part[edge.basin[one]] != part[edge.basin[two]]
            one, two = one[found], two[found]
            height = np.minimum(edge.height[one], edge.height[two])
            met, neck = highest_necks(np.stack([edge.basin[one], edge.basin[two]], axis=1), height, len(part))
            pairs.append(met)
            necks.append(neck)
    return _all(pairs), _all(necks)


def _at_face(position: Ints, box: Slices, shape: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Whether pixels of the box lie on a face of it that is not the image's."""
    at_face = np.zeros(len(position), bool)
    for low in range(0, len(position), PIECE):
        piece = slice(low, low + PIECE)
        for s, stride, n in zip(box, strides_of(shape), shape, strict=True):
            at = position[piece] // stride % n
            at_face[piece] |= ((at == s.start) & (s.start > 0)) | ((at == s.stop - 1) & (s.stop < n))
    return at_face


def _within(position: Ints, box: Slices, shape: Sequence[int]) -> npt.NDArray[np.bool_]:
    within = np.ones(len(position), bool)
    for s, stride, n in zip(box, strides_of(shape), shape, strict=True):
        at = position // stride % n
        within &= (at >= s.start) & (at < s.stop)
    return within


def _look_up(wanted: Ints, rising: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Where each wanted value stands in a rising list, and whether it does."""
    if not len(rising):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    at = np.minimum(np.searchsorted(rising, wanted), len(rising) - 1)
    return at, rising[at] == wanted
