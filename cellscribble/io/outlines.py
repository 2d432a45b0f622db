"""Outlines of masks along pixel edges, exact in both directions.

The corners of a mask's outline are found by looking at each 2 x 2 pixels at once. In a row of corners the
first and second, third and fourth ... are joined by a horizontal edge, in a column likewise; walking along
both in turn gives the rings. Filled even-odd at pixel centres they are the mask again, pixel by pixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def outline(mask: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.int_]]:
    """Rings of a mask (Y, X): each (n, 2) int, x and y of its corners, counted in pixel edges.

    Pixels that touch at a corner only lie in two rings, so none crosses itself there. Rings around
    pixels go clockwise on the screen, rings around holes the other way: both rules of filling, even-odd and
    winding, give the mask. An empty mask has none.
    """
    padded = np.pad(mask.astype(bool), 1)
    top_left, top_right = padded[:-1, :-1], padded[:-1, 1:]
    bottom_left, bottom_right = padded[1:, :-1], padded[1:, 1:]
    corner = top_left ^ top_right ^ bottom_left ^ bottom_right
    touching = (top_left == bottom_right) & (top_right == bottom_left) & (top_left != top_right)
    # Where two pixels touch at a corner two rings pass, so it is there twice: first the one that comes from the left.
    y, x = np.nonzero(corner | touching)
    times = np.where(touching[y, x], 2, 1)
    y, x = np.repeat(y, times), np.repeat(x, times)
    n = len(y)
    if not n:
        return []
    second = np.zeros(n, bool)
    second[1:] = (y[1:] == y[:-1]) & (x[1:] == x[:-1])
    # Pixels at top right and bottom left: the one from the left goes down, so the other one is the upper.
    swapped = touching[y, x] & top_right[y, x]
    in_columns = np.lexsort((second ^ swapped, y, x))
    vertical = np.empty(n, int)
    vertical[in_columns[0::2]], vertical[in_columns[1::2]] = in_columns[1::2], in_columns[0::2]
    return [_ring(nodes, x, y, bottom_right) for nodes in _walk(vertical.tolist())]


def _walk(vertical: list[int]) -> list[list[int]]:
    """Nodes of each ring; in a row nodes 0 and 1, 2 and 3 ... are joined."""
    seen = bytearray(len(vertical))
    rings = []
    for start in range(len(vertical)):
        nodes: list[int] = []
        here = start
        while not seen[here]:
            there = here ^ 1
            seen[here] = seen[there] = 1
            nodes += [here, there]
            here = vertical[there]
        if nodes:
            rings.append(nodes)
    return rings


def _ring(nodes: list[int], x: Any, y: Any, below: npt.NDArray[np.bool_]) -> npt.NDArray[np.int_]:
    xy = np.stack([x[nodes], y[nodes]], axis=1)
    # The first node is the ring's top left one. Around pixels these lie below its first edge, around a hole above.
    return xy if below[xy[0, 1], xy[0, 0]] else xy[::-1]
