"""What strokes say about a segmentation: which were split, which that should be apart were merged.

No masks are needed: one stroke lies on one cell, so it must lie in one object; two strokes are on
two cells, so they must not share one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, spatial
from skimage.measure import label

SPLIT_SHARE = 0.15
"""A second object must hold this share of a stroke to count as a split: strokes graze neighbours."""

MOSTLY = 0.5
"""A stroke speaks about an image only where this share of it was found to be foreground."""

NEIGHBOUR_RADII = 3.0
"""Strokes on touching cells are up to about two radii apart; beyond three other cells lie between."""


@dataclass(frozen=True, slots=True)
class Strokes:
    """The foreground strokes of one image, and what they lie on.

    position : tuple of (P,) int arrays, the pixels of all usable strokes
    owner : (P,) int64, the stroke 0..S-1 of each pixel
    pairs : (R, 2) int64, strokes at risk of being merged: neighbours in one connected part
    parts : (S,) int64, the connected part of the foreground that each stroke lies on
    depth : (S,) float, the largest distance to the background under each stroke, in px of the
        finest axis: about the inscribed radius of its cell
    """

    position: tuple[npt.NDArray[np.int64], ...]
    owner: npt.NDArray[np.int64]
    pairs: npt.NDArray[np.int64]
    parts: npt.NDArray[np.int64]
    depth: npt.NDArray[np.float64]

    @property
    def n(self) -> int:
        return len(self.parts)


def drawn_holes(scribbles: npt.NDArray[np.integer[Any]], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Background areas that the foreground encloses and a stroke touches: the size of each, and what it says.

    Parameters
    ----------
    scribbles : (*spatial) int; -1 unlabelled, 0 background, 1.. classes
    mask : (*spatial) bool, the foreground

    Returns
    -------
    (n, 2) int64 : pixels; 1 where most of the strokes' pixels in it are of cells, -1 where most are background. An
        area that touches the border of the image may go on outside and is left out.
    """
    areas, n = ndimage.label(~mask)
    drawn = np.nonzero((scribbles >= 0) & ~mask)
    at, is_cell = areas[drawn], scribbles[drawn] > 0
    votes = 2 * np.bincount(at, is_cell, minlength=n + 1) - np.bincount(at, minlength=n + 1)
    for axis in range(mask.ndim):
        votes[areas.take((0, -1), axis)] = 0
    votes[0] = 0
    found = np.flatnonzero(votes)
    return np.stack([np.bincount(areas.ravel(), minlength=n + 1)[found], np.sign(votes[found])], axis=1).astype(
        np.int64
    )


def find_strokes(
    scribbles: npt.NDArray[np.integer[Any]], mask: npt.NDArray[np.bool_], spacing: Sequence[float]
) -> Strokes:
    """Collect the strokes of one image that lie mostly on the foreground.

    Parameters
    ----------
    scribbles : (*spatial) int; -1 unlabelled, 0 background, 1.. classes
    mask : (*spatial) bool, the foreground that is to be cut into objects
    spacing : relative size of a pixel on each axis

    Notes
    -----
    Strokes are connected across corners; strokes of two classes that touch are two. In a volume a
    cell is often drawn once in each of several sections, so there two strokes count as two cells
    only where they share a section (a place on the first axis).
    """
    # `label` takes each class on its own; background and unlabelled are both no stroke.
    strokes = label(np.maximum(scribbles, 0), background=0, connectivity=scribbles.ndim)  # type: ignore[no-untyped-call]
    position = np.nonzero(strokes)
    owner = strokes[position].astype(np.int64) - 1
    n = int(owner.max(initial=-1)) + 1
    parts_map, _ = ndimage.label(mask)
    parts, _ = _two_largest(owner, parts_map[position].astype(np.int64), n)
    covered = np.bincount(owner, mask[position], minlength=n)
    usable = (covered >= MOSTLY * np.bincount(owner, minlength=n)) & (parts[:, 0] > 0)
    number = np.cumsum(usable) - 1
    keep = usable[owner]
    position = tuple(axis[keep] for axis in position)
    owner = number[owner[keep]]
    distance = ndimage.distance_transform_edt(mask, sampling=spacing)
    depth = np.zeros(int(usable.sum()))
    np.maximum.at(depth, owner, distance[position])
    part = parts[usable, 0]
    return Strokes(position, owner, _neighbours(position, owner, part, depth, spacing), part, depth)


def _neighbours(
    position: tuple[npt.NDArray[np.int64], ...],
    owner: npt.NDArray[np.int64],
    part: npt.NDArray[np.int64],
    depth: npt.NDArray[np.float64],
    spacing: Sequence[float],
) -> npt.NDArray[np.int64]:
    if len(depth) < 2:
        return np.zeros((0, 2), np.int64)
    reach = NEIGHBOUR_RADII * float(np.median(depth))
    points = np.stack(position, axis=1) * np.asarray(spacing)
    # One more coordinate holds the parts apart, so that only strokes of one part meet.
    apart = np.column_stack([points, part[owner] * (2.0 * reach)])
    close = spatial.cKDTree(apart).query_pairs(reach, output_type="ndarray")
    pairs = np.sort(owner[close], axis=1)
    pairs = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)
    if len(spacing) == 3 and len(pairs):
        low = np.full(len(depth), np.iinfo(np.int64).max)
        high = np.full(len(depth), -1)
        np.minimum.at(low, owner, position[0])
        np.maximum.at(high, owner, position[0])
        first, second = pairs.T
        pairs = pairs[(low[first] <= high[second]) & (low[second] <= high[first])]
    return np.asarray(pairs, np.int64)


def judge(
    strokes: Strokes, labels: npt.NDArray[np.integer[Any]]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Hold one segmentation against the strokes of its image.

    Parameters
    ----------
    strokes : of S strokes and R pairs at risk
    labels : (*spatial) int, 0 background

    Returns
    -------
    split : (S,) bool, a second object holds at least 15 % of the stroke
    merged : (R,) bool, both strokes lie mostly in the same object
    objects : (S,) int64, the object that holds most of the stroke, 0 if none does
    """
    found = labels[strokes.position].astype(np.int64)
    objects, counts = _two_largest(strokes.owner, found, strokes.n)
    length = np.bincount(strokes.owner, minlength=strokes.n)
    split = counts[:, 1] >= SPLIT_SHARE * length
    first, second = objects[strokes.pairs[:, 0], 0], objects[strokes.pairs[:, 1], 0]
    return split & (objects[:, 1] > 0), (first == second) & (first > 0), objects[:, 0]


def _two_largest(
    owner: npt.NDArray[np.int64], values: npt.NDArray[np.int64], n: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For each owner the two positive values it holds most often, and how often: both (n, 2), 0 if none."""
    best, counts = np.zeros((n, 2), np.int64), np.zeros((n, 2), np.int64)
    inside = values > 0
    pairs, times = np.unique(np.stack([owner[inside], values[inside]], axis=1), axis=0, return_counts=True)
    order = np.lexsort((pairs[:, 1], -times, pairs[:, 0]))
    pairs, times = pairs[order], times[order]
    start = np.searchsorted(pairs[:, 0], pairs[:, 0])
    rank = np.arange(len(pairs)) - start
    for k in (0, 1):
        chosen = rank == k
        best[pairs[chosen, 0], k] = pairs[chosen, 1]
        counts[pairs[chosen, 0], k] = times[chosen]
    return best, counts
