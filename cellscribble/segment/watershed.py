"""The steps of the seeded watershed, each a plain function on arrays of any number of axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, spatial
from skimage.segmentation import watershed

LEVELS_A_PX = 64
"""Height levels per pixel of distance: finer differences are noise of the sampling grid."""


def fill_small_holes(mask: npt.NDArray[np.bool_], largest_hole_px: int) -> npt.NDArray[np.bool_]:
    """Close background areas of at most `largest_hole_px` pixels that the foreground encloses.

    An area that touches the border of the image stays open: it may go on outside.
    """
    if largest_hole_px < 1:
        return mask
    # Objects are joined across faces, so background is joined across corners too.
    gaps, n_gaps = ndimage.label(~mask, structure=np.ones((3,) * mask.ndim))
    small = np.bincount(gaps.ravel(), minlength=n_gaps + 1) <= largest_hole_px
    for axis in range(mask.ndim):
        for end in (0, -1):
            small[np.take(gaps, end, axis=axis)] = False
    small[0] = False
    return np.asarray(mask | small[gaps])


def height_map(mask: npt.NDArray[np.bool_], smoothing_px: float, spacing: Sequence[float]) -> npt.NDArray[np.float32]:
    """Distance of each foreground pixel to the background, smoothed, in steps of 1/64 px; 0 outside.

    Parameters
    ----------
    mask : (*spatial) bool
    smoothing_px : standard deviation of the Gaussian, in units of `spacing`
    spacing : relative size of a pixel on each axis; (1, 1) for square ones

    Returns
    -------
    (*spatial) float32; positive in the mask
    """
    if mask.all():
        # No background to measure from: every pixel lies as deep as the image is wide.
        return np.full(mask.shape, float(max(mask.shape)), np.float32)
    height = ndimage.distance_transform_edt(mask, sampling=spacing).astype(np.float32)
    if smoothing_px > 0:
        height = ndimage.gaussian_filter(height, [smoothing_px / s for s in spacing], truncate=3.0)
    height = np.rint(height * LEVELS_A_PX) / LEVELS_A_PX
    return np.where(mask, np.maximum(height, 1 / LEVELS_A_PX), 0).astype(np.float32)


def find_seeds(
    height: npt.NDArray[np.float32],
    parts: npt.NDArray[np.integer[Any]],
    seed_distance_px: float,
    spacing: Sequence[float],
) -> npt.NDArray[np.int32]:
    """Mark the summits of `height` that are at least `seed_distance_px` apart.

    Of two summits that are closer the higher stays, of two equal ones the first in raster order.
    Only summits of one connected part compete: a small cell beside a large one keeps its own seed.

    Parameters
    ----------
    height : (*spatial) float32
    parts : (*spatial) int, the connected parts of the mask, 0 outside
    seed_distance_px : in units of `spacing`
    spacing : relative size of a pixel on each axis

    Returns
    -------
    (*spatial) int32 : 1..N in raster order, each on one pixel
    """
    summit = (height == ndimage.maximum_filter(height, size=3)) & (parts > 0)
    plateaus, n = ndimage.label(summit, structure=np.ones((3,) * height.ndim))
    first = first_pixels(plateaus, n)
    points = np.stack(np.unravel_index(first, height.shape), axis=1) * np.asarray(spacing)
    rank = np.lexsort((first, -height.ravel()[first]))
    keep = np.ones(n, bool)
    if n > 1 and seed_distance_px > 0:
        part = parts.ravel()[first]
        # One more coordinate, far apart for each part, so that the tree pairs inside a part only.
        apart = np.column_stack([points, part * (2.0 * seed_distance_px)])
        tree = spatial.cKDTree(apart)
        pairs = tree.query_pairs(np.nextafter(seed_distance_px, 0), output_type="ndarray")
        keep = _best_of_close(pairs, rank)
    seeds = np.zeros(height.shape, np.int32)
    seeds.ravel()[first[keep]] = np.arange(1, int(keep.sum()) + 1)
    return seeds


def _best_of_close(pairs: npt.NDArray[Any], rank: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    keep = np.ones(len(rank), bool)
    place = np.empty(len(rank), np.int64)
    place[rank] = np.arange(len(rank))
    better, worse = np.sort(place[pairs], axis=1).T
    order = np.argsort(better, kind="stable")
    # Best first: by the time a summit is asked for, it is settled whether it stands itself.
    for a, b in zip(better[order].tolist(), worse[order].tolist(), strict=True):
        if keep[a]:
            keep[b] = False
    return keep[place]


def flood(
    height: npt.NDArray[np.float32], seeds: npt.NDArray[np.int32], mask: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int32]:
    """Share the mask among the seeds, from the summits down: (*spatial) int32, 0 outside."""
    return np.asarray(watershed(-height, seeds, mask=mask), np.int32)  # type: ignore[no-untyped-call]


def join_wide_necks(
    basins: npt.NDArray[np.int32], height: npt.NDArray[np.float32], neck_ratio: float
) -> npt.NDArray[np.int32]:
    """Join neighbours whose common border is nearly as wide as the smaller of them.

    The neck of two basins is the highest point of their border, their width the height of their
    summit. They are one object where ``neck > neck_ratio * min(summits)``: h-maxima on a logarithmic
    scale (relative dynamics), so one number fits small and large cells. 1 joins nothing.

    Returns
    -------
    (*spatial) int32 : labels, not consecutive
    """
    n = int(basins.max())
    if neck_ratio >= 1 or n < 2:
        return basins
    a, b, neck = _borders(basins, height)
    summit = np.asarray(ndimage.maximum(height, basins, np.arange(n + 1)))
    parent = list(range(n + 1))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    # Widest neck first, as the water falls; else the result would depend on the numbering.
    for k in np.lexsort((b, a, -neck)):
        i, j = root(int(a[k])), root(int(b[k]))
        if i != j and neck[k] > neck_ratio * min(summit[i], summit[j]):
            i, j = min(i, j), max(i, j)
            parent[j] = i
            summit[i] = max(summit[i], summit[j])
    return np.array([root(i) for i in range(n + 1)], np.int32)[basins]


def _borders(
    basins: npt.NDArray[np.int32], height: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Each pair of touching basins once, the smaller number first, with its highest border point."""
    low, high, tops = [], [], []
    for axis in range(basins.ndim):
        one = tuple(slice(None, -1) if k == axis else slice(None) for k in range(basins.ndim))
        two = tuple(slice(1, None) if k == axis else slice(None) for k in range(basins.ndim))
        meet = (basins[one] != basins[two]) & (basins[one] > 0) & (basins[two] > 0)
        first, second = basins[one][meet], basins[two][meet]
        low.append(np.minimum(first, second))
        high.append(np.maximum(first, second))
        tops.append(np.minimum(height[one][meet], height[two][meet]))
    key = np.concatenate(low).astype(np.int64) * (int(basins.max()) + 1) + np.concatenate(high)
    pairs, inverse = np.unique(key, return_inverse=True)
    neck = np.zeros(len(pairs), np.float32)
    np.maximum.at(neck, inverse, np.concatenate(tops))
    return pairs // (int(basins.max()) + 1), pairs % (int(basins.max()) + 1), neck


def first_pixels(labels: npt.NDArray[np.integer[Any]], n: int) -> npt.NDArray[np.int64]:
    """The flat index of the first pixel of each of the labels 1..n (absent: the image's size)."""
    flat = labels.ravel()
    where = np.flatnonzero(flat)
    first = np.full(n + 1, flat.size, np.int64)
    # Backwards, so that the last assignment to a label is its first pixel.
    first[flat[where[::-1]]] = where[::-1]
    return first[1:]


def keep_large(labels: npt.NDArray[np.int32], smallest_px: int) -> tuple[npt.NDArray[np.int32], int]:
    """Drop objects below `smallest_px` pixels and number the rest 1..N by their first pixel."""
    n = int(labels.max(initial=0))
    sizes = np.bincount(labels.ravel(), minlength=n + 1)
    first = first_pixels(labels, n)
    chosen = 1 + np.flatnonzero(sizes[1:] >= max(smallest_px, 1))
    chosen = chosen[np.argsort(first[chosen - 1])]
    number = np.zeros(n + 1, np.int32)
    number[chosen] = np.arange(1, len(chosen) + 1)
    return number[labels], len(chosen)
