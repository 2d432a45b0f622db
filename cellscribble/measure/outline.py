"""What is counted on the outline of objects, each pixel by looking at its neighbours only."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

MARGIN_PX = 2
"""How far around a pixel is looked: its neighbours, and whether these lie on the border."""

_OUTSIDE = -1
"""Stands for what lies beyond the image."""


@dataclass(frozen=True, slots=True)
class Outline:
    """What n pixels of objects contribute.

    turns : (n,) int8, in 2D how the border goes on at the pixel: 0 straight, 1 diagonally, 2 one of each, -1 where it
        is none or the pixel counts nothing. The perimeter is the sum of `LENGTHS` (Benkrid and Crookes, "Design and
        FPGA Implementation of a Perimeter Estimator", 2000, as in scikit-image and CellProfiler).
    euler : (n,) int64, share of the Euler number of the object, whose pixels are connected over corners too: corners
        less edges (and plus faces less voxels in 3D) whose last pixel in raster order this one is
    is_edge : (n,) bool, whether a neighbour inside the image is of another object or background
    """

    LENGTHS: ClassVar[tuple[float, ...]] = (1.0, math.sqrt(2), (1 + math.sqrt(2)) / 2)

    turns: npt.NDArray[np.int8]
    euler: npt.NDArray[np.int64]
    is_edge: npt.NDArray[np.bool_]


# The border around a pixel as 2 for each neighbour over a side and 10 for each over a corner, and 1 for itself.
_TURNS = {5: 0, 7: 0, 15: 0, 17: 0, 25: 0, 27: 0, 21: 1, 33: 1, 13: 2, 23: 2}


def outline(
    labels: npt.NDArray[np.integer[Any]],
    at: tuple[npt.NDArray[np.intp], ...],
    margin: tuple[tuple[int, int], ...],
) -> Outline:
    """Look at pixels of objects.

    Parameters
    ----------
    labels : (*spatial) integers, 0 background
    at : positions of the pixels in `labels`, one array (n,) for each axis
    margin : pixels of `labels` before and behind the block along each axis; `MARGIN_PX`, less where the image ends
    """
    missing = [(MARGIN_PX - before, MARGIN_PX - behind) for before, behind in margin]
    padded = np.pad(labels.astype(np.int64), missing, constant_values=_OUTSIDE)
    at = tuple(a + before for a, (before, _) in zip(at, missing, strict=True))
    flat = padded.ravel()
    steps = [int(np.prod(padded.shape[axis + 1 :])) for axis in range(padded.ndim)]
    directions = [d for d in itertools.product((-1, 0, 1), repeat=padded.ndim) if any(d)]
    offsets = {d: sum(a * b for a, b in zip(d, steps, strict=True)) for d in directions}
    sides = [d for d in directions if sum(map(abs, d)) == 1]

    # A pixel among its own contributes nothing: the many of these are left out before pixels are gathered.
    different = _differs(padded, directions)
    (rim,) = np.nonzero(different[at])
    here = np.ravel_multi_index(tuple(a[rim] for a in at), padded.shape)
    own = flat[here]
    border, edge = np.zeros(len(own), bool), np.zeros(len(own), bool)
    for d in sides:
        beside = flat[here + offsets[d]]
        border |= beside != own
        edge |= (beside != own) & (beside != _OUTSIDE)
    euler, is_edge = np.zeros(len(at[0]), np.int64), np.zeros(len(at[0]), bool)
    euler[rim] = _euler(flat, here, own, offsets)
    is_edge[rim] = edge
    turns = np.full(len(at[0]), -1, np.int8)
    if padded.ndim == 2:
        turns[rim[border]] = _turns(flat, here[border], own[border], offsets, sides)
    return Outline(turns, euler, is_edge)


def _differs(padded: npt.NDArray[np.int64], directions: list[tuple[int, ...]]) -> npt.NDArray[np.bool_]:
    """Whether any neighbour of a pixel is not of its object; the outermost pixels are not looked at."""
    out = np.zeros(padded.shape, bool)
    core = (slice(1, -1),) * padded.ndim
    for d in directions:
        out[core] |= (
            padded[core] != padded[tuple(slice(1 + s, n - 1 + s) for s, n in zip(d, padded.shape, strict=True))]
        )
    return out


def _turns(
    flat: npt.NDArray[np.int64],
    here: npt.NDArray[np.intp],
    own: npt.NDArray[np.int64],
    offsets: dict[tuple[int, ...], int],
    sides: list[tuple[int, ...]],
) -> npt.NDArray[np.int8]:
    code = np.ones(len(own), np.int64)
    for d, offset in offsets.items():
        beside = here + offset
        on_border = np.zeros(len(own), bool)
        for side in sides:
            on_border |= flat[beside + offsets[side]] != own
        code += (2 if d in sides else 10) * (on_border & (flat[beside] == own))
    table = np.full(64, -1, np.int8)
    for value, turn in _TURNS.items():
        table[value] = turn
    return table[code]


def _euler(
    flat: npt.NDArray[np.int64],
    here: npt.NDArray[np.intp],
    own: npt.NDArray[np.int64],
    offsets: dict[tuple[int, ...], int],
) -> npt.NDArray[np.int64]:
    later = {d: flat[here + offset] == own for d, offset in offsets.items() if d > (0,) * len(d)}
    total = np.zeros(len(own), np.int64)
    for cell in itertools.product((-1, 0, 1), repeat=len(next(iter(offsets)))):
        # A corner is shared by the pixels on all its sides; one of them counts it, the last.
        around = itertools.product(*((0, step) if step else (0,) for step in cell))
        counts = np.ones(len(own), bool)
        for d in around:
            if d in later:
                counts &= ~later[d]
        n_free = sum(step == 0 for step in cell)
        total += np.where(counts, (-1) ** n_free, 0)
    return total
