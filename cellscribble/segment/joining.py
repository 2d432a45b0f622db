"""Which basins are one object: a rule on the graph of basins that touch.

Settled so that most of the graph is never asked: an edge that cannot join by what its two basins
are at the start never joins later, and may be dropped at once. What is left falls into small pieces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from cellscribble.segment.ascent import Ints


@dataclass(frozen=True, slots=True)
class JoinRule:
    """When two parts are one object, in an image of `shape` pixels; see `join`."""

    neck_ratio: float
    seed_distance_px: float
    spacing: tuple[float, ...]
    shape: tuple[int, ...]

    def place(self, position: Ints) -> npt.NDArray[np.float64]:
        """Positions as (N, ndim) coordinates in units of the spacing."""
        return np.asarray(np.stack(np.unravel_index(position, self.shape), axis=1) * np.asarray(self.spacing, float))


def can_join(
    pairs: Ints,
    neck: npt.NDArray[np.int32],
    summit: Ints,
    height: npt.NDArray[np.int32],
    rule: JoinRule,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which pairs could be joined, and which of them because their summits are near.

    Parameters
    ----------
    pairs : (E, 2) int64, basins 0..N-1
    neck : (E,) int32, highest point of their border
    summit, height : (N,), position in the image and height of each basin's summit

    Returns
    -------
    wide, near : (E,) bool

    Notes
    -----
    An edge that is neither never joins. `join` asks for ``neck >= r * min(height)`` of the two
    clusters as they have become, or for `near` and one thing more. A cluster's height is the largest
    of its basins', so it is at least that of the edge's own basin: if the neck is too narrow for the
    basins it is too narrow for the clusters. `near` is asked of the basins, whose summits stay.
    """
    one, two = pairs.T
    wide = _is_wide(neck, np.minimum(height[one], height[two]), rule.neck_ratio)
    place = rule.place(summit)
    return wide, _are_near(place[one], place[two], rule.seed_distance_px)


def _is_wide(neck: Any, lower: Any, neck_ratio: float) -> Any:
    # A border as high as the lower summit is no border: both lie on one plateau.
    return (neck > neck_ratio * lower) | (neck >= lower)


def _are_near(one: npt.NDArray[np.float64], two: npt.NDArray[np.float64], seed_distance_px: float) -> Any:
    return ((one - two) ** 2).sum(axis=-1) < seed_distance_px**2


def join(
    pairs: Ints,
    neck: npt.NDArray[np.int32],
    near: npt.NDArray[np.bool_],
    summit: Ints,
    height: npt.NDArray[np.int32],
    rule: JoinRule,
) -> Ints:
    """Join basins over the edges that `can_join`, the highest neck first.

    Two clusters become one where the neck is wider than `neck_ratio` of the lower cluster's summit:
    h-maxima on a logarithmic scale (relative dynamics), so one number fits small and large cells.
    Or where the summits of the two basins are nearer than `seed_distance_px` and those of the two
    clusters are so too: a small summit between two cells joins one of them, and does not bridge.

    Edges of equal necks come in the order of their summits' positions, so that the answer depends on
    the graph and not on its numbering.

    Returns
    -------
    (N,) int64 : for each basin one basin of its object, the same for all of it
    """
    parent = list(range(len(height)))
    # Each cluster's highest basin, of equal ones the first in the image, kept at its root.
    top = list(range(len(height)))
    level, position = height.tolist(), summit.tolist()
    place = rule.place(summit)

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    ends = np.sort(summit[pairs], axis=1)
    order = np.lexsort((ends[:, 1], ends[:, 0], -neck))
    for (one, two), at, close in zip(pairs[order].tolist(), neck[order].tolist(), near[order].tolist(), strict=True):
        i, j = root(one), root(two)
        if i == j:
            continue
        a, b = top[i], top[j]
        lower = min(level[a], level[b])
        wide = _is_wide(at, lower, rule.neck_ratio)
        if wide or (close and _are_near(place[a], place[b], rule.seed_distance_px)):
            parent[j] = i
            top[i] = a if (-level[a], position[a]) < (-level[b], position[b]) else b
    return np.array([root(i) for i in range(len(parent))], np.int64)


def components(pairs: Ints, n: int) -> Ints:
    """The connected component of each of the basins 0..n-1: (n,) int64."""
    graph = sparse.coo_array((np.ones(len(pairs), np.int8), tuple(pairs.T)), shape=(n, n))
    return np.asarray(sparse.csgraph.connected_components(graph, directed=False)[1], np.int64)
