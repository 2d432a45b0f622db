"""What is kept of basins once their pixels are labelled: sizes, summits, and how they touch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellscribble.segment.ascent import Ints


@dataclass(frozen=True, slots=True)
class BasinGraph:
    """N basins of one block, or of several blocks glued together, and how they touch.

    Positions are flat positions in the whole image.

    summit : (N,) int64, position of the highest pixel; of a basin that leads out the pixel outside
        of the block by which it leaves
    height : (N,) int32, the height there
    inside : (N,) bool, whether that is the summit and lies in the block
    size : (N,) int64, px in the block
    first : (N,) int64, position of the first pixel in the block
    votes : (N, V) int64, pixels of each of V classes in the block; V = 0 where classes are not told apart
    pairs : (E, 2) int64, basins 0..N-1 that touch inside the block, the smaller first, each once
    neck : (E,) int32, the highest point of their border
    edge : the block's own foreground pixels that touch other blocks
    """

    summit: Ints
    height: npt.NDArray[np.int32]
    inside: npt.NDArray[np.bool_]
    size: Ints
    first: Ints
    votes: Ints
    pairs: Ints
    neck: npt.NDArray[np.int32]
    edge: Edge

    @property
    def n(self) -> int:
        """Number of basins."""
        return len(self.size)


@dataclass(frozen=True, slots=True)
class Edge:
    """Pixels of a block that touch other blocks: position, in rising order, basin 0..N-1 and height, (P,) each."""

    position: Ints
    basin: npt.NDArray[np.int32]
    height: npt.NDArray[np.int32]


def highest_necks(
    pairs: npt.NDArray[np.integer], neck: npt.NDArray[np.int32], n: int
) -> tuple[Ints, npt.NDArray[np.int32]]:
    """Each pair of the numbers 0..n-1 once, the smaller first, with the highest of its necks."""
    one, two = pairs.T.astype(np.int64)
    key = np.minimum(one, two) * n + np.maximum(one, two)
    order = np.argsort(key)
    key, neck = key[order], neck[order]
    new = np.ones(len(key), bool)
    new[1:] = key[1:] != key[:-1]
    start = np.flatnonzero(new)
    low, high = np.divmod(key[start], max(n, 1))
    return np.stack([low, high], axis=1), np.maximum.reduceat(neck, start)


def sum_up(of: Ints, n: int, size: Ints, first: Ints, votes: Ints) -> tuple[Ints, Ints, Ints]:
    """Size, first pixel and votes of n groups of basins; `of` (N,) says which is each basin's group."""
    sizes, firsts = np.zeros(n, np.int64), np.full(n, np.iinfo(np.int64).max)
    np.add.at(sizes, of, size)
    np.minimum.at(firsts, of, first)
    all_votes = np.zeros((n, votes.shape[1]), np.int64)
    np.add.at(all_votes, of, votes)
    return sizes, firsts, all_votes
