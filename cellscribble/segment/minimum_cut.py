"""The minimum cut: which nodes lie on the inside, so that gains and cut links together cost the least.

Both functions minimise

    E(S) = - sum_(v in S) gain_v + sum_(v in S, w not in S) weight_vw,     weight >= 0,

over all sets S of nodes (Greig, Porteous & Seheult, J. R. Stat. Soc. B 51, 1989). Numbers are whole, so that the
answer is exact; of several best sets the smallest is given, which is one alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

LARGEST = 1 << 30
"""Capacities of scipy's flow are int32."""

Ints = npt.NDArray[np.int32]


def cut_graph(
    gain: npt.NDArray[Any], pairs: tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]], weight: npt.NDArray[Any]
) -> npt.NDArray[np.bool_]:
    """Whether each of N nodes is inside.

    Parameters
    ----------
    gain : (N,) whole numbers, of being inside; beyond +-2^30 as 2^30
    pairs : (E,) int each, two linked nodes; a pair that comes again adds up
    weight : (E,) numbers >= 0, rounded once all of a pair are added
    """
    # Only adapted models cut, and these take 50 ms of the start of any command.
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    n = len(gain)
    source, sink = n, n + 1
    node = np.arange(n)
    one, other = pairs
    links = np.minimum(np.abs(np.asarray(gain, np.float64)), LARGEST)
    row = np.concatenate([one, other, np.where(gain > 0, source, node)])
    column = np.concatenate([other, one, np.where(gain > 0, node, sink)])
    # Summed as float first: int32 would wrap unseen.
    graph = csr_array((np.concatenate([weight, weight, links]), (row, column)), shape=(n + 2, n + 2))
    whole = np.rint(graph.data).clip(max=LARGEST).astype(np.int32)
    graph = csr_array((whole, graph.indices, graph.indptr), graph.shape)
    left = graph - maximum_flow(graph, source, sink).flow
    left.data = np.maximum(left.data, 0)
    left.eliminate_zeros()
    inside = np.zeros(n + 2, bool)
    inside[breadth_first_order(left, source, return_predecessors=False)] = True
    return inside[:n]


def cut_grid(gain: Ints, weights: Sequence[Ints]) -> npt.NDArray[np.bool_]:
    """Whether each pixel of a grid is inside, (*spatial) bool.

    A pixel whose gain outweighs all its links is decided at once; that decides others beside it, and so on. Only
    what is left goes through a flow, which takes ten times as long a pixel and more.

    Parameters
    ----------
    gain : (*spatial) int32
    weights : for each axis (*spatial) int32 >= 0, of a pixel's link to the next one; the last has none
    """
    known, gain_left, flat_weights, strides = _pad(gain, weights)
    core = np.zeros(np.add(gain.shape, 2), bool)
    inner = (slice(1, -1),) * gain.ndim
    core[inner] = True
    asked = np.flatnonzero(core)
    while len(asked):
        low, high = _bounds(asked, known, gain_left, flat_weights, strides)
        known[asked[low > 0]] = 1
        known[asked[high < 0]] = -1
        open_ = (low <= 0) & (high >= 0)
        if open_.all():
            known[asked] = np.where(_flow(asked, known, gain_left, flat_weights, strides), 1, -1)
            break
        asked = asked[open_]
    return np.asarray(known.reshape(core.shape)[inner] > 0)


def _pad(gain: Ints, weights: Sequence[Ints]) -> tuple[npt.NDArray[np.int8], Ints, list[Ints], list[int]]:
    """All flat, with a pixel around that is linked to none: no neighbour needs a look at the border."""
    padded = np.pad(gain, 1)
    strides = [s // padded.itemsize for s in padded.strides]
    flat = []
    for axis, weight in enumerate(weights):
        linked = np.pad(weight, 1)
        last = [slice(None)] * gain.ndim
        last[axis] = slice(-2, None)
        linked[tuple(last)] = 0
        flat.append(linked.ravel())
    return np.zeros(padded.size, np.int8), padded.ravel(), flat, strides


def _bounds(
    asked: npt.NDArray[np.int64], known: npt.NDArray[np.int8], gain: Ints, weights: list[Ints], strides: list[int]
) -> tuple[Ints, Ints]:
    """What each pixel gains by being inside, at least and at most, whatever is not known turns out to be."""
    low = gain[asked]
    high = low.copy()
    for weight, stride in zip(weights, strides, strict=True):
        for link, neighbour in ((asked, asked + stride), (asked - stride, asked - stride)):
            w, side = weight[link], known[neighbour]
            low += np.where(side > 0, w, -w)
            high += np.where(side < 0, -w, w)
    return low, high


def _flow(
    asked: npt.NDArray[np.int64], known: npt.NDArray[np.int8], gain: Ints, weights: list[Ints], strides: list[int]
) -> npt.NDArray[np.bool_]:
    """The cut of the pixels that are left, with those that are known on their sides."""
    number = np.full(len(known), -1, np.int32)
    number[asked] = np.arange(len(asked))
    left = gain[asked].astype(np.int64)
    ones, others, links = [], [], []
    for weight, stride in zip(weights, strides, strict=True):
        left += weight[asked] * known[asked + stride].astype(np.int64)
        left += weight[asked - stride] * known[asked - stride].astype(np.int64)
        linked = (number[asked + stride] >= 0) & (weight[asked] > 0)
        ones.append(np.flatnonzero(linked))
        others.append(number[asked[linked] + stride])
        links.append(weight[asked[linked]])
    return cut_graph(left, (np.concatenate(ones), np.concatenate(others)), np.concatenate(links))
