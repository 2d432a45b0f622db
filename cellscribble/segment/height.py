"""How deep each foreground pixel lies: the distance to the background, capped so that it is local.

A height depends on pixels within `reach_px` and on nothing else, down to the last bit: distances are
found by shifts and minima, the Gaussian by sums in one order, and the result is a whole number. So
any window of the image with that much context gives the heights of the whole image.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.blocks import Slices, overlap, relative

Heights = npt.NDArray[np.integer[Any]]

LEVELS_A_PX = 64
"""Height levels per pixel of distance, a power of two: finer differences are noise of the sampling grid."""

TRUNCATE = 3.0
"""The Gaussian ends at this many standard deviations."""

FEW = 48
"""Where fewer than one pixel in so many are left to look at, they are looked at one by one."""

CACHED = 1 << 18
"""Pixels worked on at once: a slab and its scratch stay in the processor's cache."""


def reach_px(smoothing_px: float, largest_radius_px: float, spacing: Sequence[float]) -> tuple[int, ...]:
    """How far from a pixel its height may depend on the mask, in pixels of each axis."""
    return tuple(math.ceil(largest_radius_px / s) + len(_gaussian(smoothing_px / s)) - 1 for s in spacing)


def height_map(
    mask: npt.NDArray[np.bool_],
    smoothing_px: float,
    largest_radius_px: float,
    spacing: Sequence[float],
    kept: Slices | None = None,
    frame_px: int = 0,
) -> Heights:
    """Capped distance of each foreground pixel to the background, smoothed; 0 outside.

    Parameters
    ----------
    mask : (*spatial) bool
    smoothing_px : standard deviation of the Gaussian, in units of `spacing`
    largest_radius_px : larger distances count as this one, in units of `spacing`
    spacing : relative size of a pixel on each axis; (1, 1) for square ones
    kept : the part of the array whose heights are asked for; None for all. What lies around it costs less
    frame_px : so wide a frame of 0 is laid around them

    Returns
    -------
    (*kept + frame) uint16, or int32 where heights may be larger : in steps of 1/64 px; at least 1 in the mask
    """
    kept = kept or tuple(slice(0, n) for n in mask.shape)
    inside = mask[kept]
    dtype: np.dtype[np.integer[Any]] = np.dtype(np.uint16 if top_level(largest_radius_px) < 2**16 else np.int32)
    framed = np.zeros([n + 2 * frame_px for n in inside.shape], dtype)
    if not mask.any():
        return framed
    levels = framed[tuple(slice(frame_px, n - frame_px) for n in framed.shape)]
    weights = [_gaussian(smoothing_px / s) for s in spacing]
    # A power of two changes no digit, wherever it is multiplied by.
    weights[-1] = weights[-1] * np.float32(LEVELS_A_PX)
    room = tuple(
        slice(max(k.start - (len(w) - 1), 0), min(k.stop + len(w) - 1, n))
        for k, w, n in zip(kept, weights, mask.shape, strict=True)
    )
    squared = squared_distance(mask, largest_radius_px, spacing, room)
    across = max(range(mask.ndim), key=lambda axis: inside.shape[axis])
    # Piece by piece from here to the end, so that nothing of it leaves the cache.
    for low, high in _pieces(inside.shape, across):
        of, around, to = list(kept), list(room), [slice(None)] * mask.ndim
        radius = len(weights[across]) - 1
        of[across] = slice(kept[across].start + low, kept[across].start + high)
        around[across] = overlap([room[across]], [slice(of[across].start - radius, of[across].stop + radius)])[0]
        to[across] = slice(low, high)
        height = np.sqrt(squared[relative(around, room)], dtype=np.float32)
        for axis, wanted in enumerate(relative(of, around)):
            height = _smooth(height, axis, weights[axis], wanted)
        np.rint(height, out=height)
        foreground = inside[tuple(to)].astype(dtype)
        # Of whole numbers this is several times as fast.
        whole = height.astype(dtype)
        np.maximum(whole, foreground, out=whole)
        np.multiply(whole, foreground, out=levels[tuple(to)])
    return framed


def top_level(largest_radius_px: float) -> int:
    """The height of a pixel whose surroundings are all at the cap."""
    return max(1, int(np.rint(np.float32(largest_radius_px) * LEVELS_A_PX)))


def squared_distance(
    mask: npt.NDArray[np.bool_], largest_radius_px: float, spacing: Sequence[float], kept: Slices | None = None
) -> npt.NDArray[Any]:
    """Squared distance to the nearest background pixel, at most ``largest_radius_px ** 2``.

    Of the part `kept` of the array, None for all. What lies outside of the array is not background.
    (*kept) int16, int32 or float32.

    Source: P. F. Felzenszwalb and D. P. Huttenlocher, "Distance transforms of sampled functions",
    Theory of Computing 8, 2012: one axis after the other. Their lower envelope needs the whole line;
    with a cap, trying each shift up to the deepest pixel is local, and faster in numpy.
    """
    kept = kept or tuple(slice(0, n) for n in mask.shape)
    cap = largest_radius_px**2
    whole = all(float(x).is_integer() for x in (cap, *spacing)) and cap < 2**30
    dtype = (np.int16 if cap < 2**14 else np.int32) if whole else np.float32
    squared = _along_first_axis(mask, largest_radius_px, spacing[0], np.dtype(dtype), kept[0])
    for axis in range(1, mask.ndim):
        k = kept[axis]
        lowered = np.empty([k.stop - k.start if a == axis else n for a, n in enumerate(squared.shape)], dtype)
        for slab in _slabs(lowered.shape, axis):
            _lower(squared[slab], lowered[slab], axis, spacing[axis], k.start)
        squared = lowered
    return squared


def _along_first_axis(
    mask: npt.NDArray[np.bool_], largest_radius_px: float, spacing: float, dtype: np.dtype[Any], kept: slice
) -> npt.NDArray[Any]:
    reach = math.ceil(largest_radius_px / spacing)
    squared = np.empty((kept.stop - kept.start, *mask.shape[1:]), dtype)
    for slab in _slabs(mask.shape, 0):
        # Room for the longest step beyond the reach.
        steps = np.multiply(
            mask[slab], reach, dtype=np.uint8 if reach < 2**6 else np.int16 if reach < 2**13 else np.int32
        )
        moved, covered = np.empty_like(steps), 0
        while covered < min(reach, len(steps)):
            # Steps 1, 2, 4 ... each way reach every distance up to their sum.
            step = covered + 1
            for to, of in ((slice(step, None), slice(None, -step)), (slice(None, -step), slice(step, None))):
                np.minimum(steps[to], np.add(steps[of], steps.dtype.type(step), out=moved[of]), out=steps[to])
            covered += step
        if dtype.kind == "i" and spacing == 1:
            np.multiply(steps[kept], steps[kept], out=squared[slab], dtype=dtype)
            if reach**2 > largest_radius_px**2:
                np.minimum(squared[slab], dtype.type(largest_radius_px**2), out=squared[slab])
        else:
            # Each count of steps once, not each pixel.
            table = np.minimum((np.arange(reach + 1) * spacing) ** 2, largest_radius_px**2).astype(dtype)
            squared[slab] = table[steps[kept]]
    return squared


def _lower(squared: npt.NDArray[Any], lowered: npt.NDArray[Any], axis: int, spacing: float, start: int) -> None:
    """The least of ``squared`` at each shift along the axis plus the shift squared, from `start` on, to `lowered`."""
    n_all, n = squared.shape[axis], lowered.shape[axis]
    along = (slice(None),) * axis
    highest = squared.max()
    # A longer shift rises above all there is. Beyond the ends nothing is lower.
    reach = min(n_all - 1, math.isqrt(int(highest / spacing**2)))
    low, high = max(start - reach, 0), min(start + n + reach, n_all)
    shape = [n + 2 * reach if a == axis else m for a, m in enumerate(squared.shape)]
    around, part = np.full(shape, highest, squared.dtype), np.zeros(shape, squared.dtype)
    first = low - (start - reach)
    around[(*along, slice(first, first + high - low))] = squared[(*along, slice(low, high))]
    inner_part = (*along, slice(reach, reach + n))
    part[inner_part] = around[inner_part]
    # A shift of the array as it lies in memory is several times as fast as one of its lines: what it moves over their
    # ends lies outside of `part`, where 0 stays the least.
    source, target, stride = around.ravel(), part.ravel(), math.prod(shape[axis + 1 :])
    nearer = np.empty_like(source)
    for shift in range(1, reach + 1):
        rise, by = lowered.dtype.type((shift * spacing) ** 2), shift * stride
        if shift % 4 == 1:
            # A longer shift is for the few that lie deep: where these are few enough, it is for them alone.
            deep = target > rise
            if np.count_nonzero(deep) * FEW < deep.size:
                _lower_these(source, target, np.flatnonzero(deep), shift, reach, spacing, stride)
                break
        inner = slice(by, -by)
        np.minimum(source[: -2 * by], source[2 * by :], out=nearer[inner])
        nearer[inner] += rise
        np.minimum(target[inner], nearer[inner], out=target[inner])
    lowered[...] = part[inner_part]


def _lower_these(
    source: npt.NDArray[Any],
    target: npt.NDArray[Any],
    pixels: npt.NDArray[np.int64],
    first: int,
    reach: int,
    spacing: float,
    stride: int,
) -> None:
    """As `_lower`, from the shift `first` on, of the flat positions `pixels` alone."""
    values = target.take(pixels)
    for shift in range(first, reach + 1):
        rise, by = target.dtype.type((shift * spacing) ** 2), shift * stride
        if (shift - first) % 4 == 0:
            deep = np.flatnonzero(values > rise)
            if len(deep) < len(values):
                target[pixels] = values
                pixels, values = pixels.take(deep), values.take(deep)
            if not len(deep):
                return
        nearer = np.minimum(source.take(pixels - by), source.take(pixels + by))
        nearer += rise
        np.minimum(values, nearer, out=values)
    target[pixels] = values


def _gaussian(sigma: float) -> npt.NDArray[np.float32]:
    """The Gaussian's weights at 0, 1, .. up to `TRUNCATE` deviations; both sides sum to 1."""
    radius = int(TRUNCATE * sigma + 0.5)
    if radius < 1:
        return np.ones(1, np.float32)
    weights = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2)
    return np.asarray(weights / (2 * weights.sum() - weights[0]), np.float32)


def _smooth(
    height: npt.NDArray[np.float32], axis: int, weights: npt.NDArray[np.float32], kept: slice
) -> npt.NDArray[np.float32]:
    """The part `kept` along the axis, smoothed along it; reflected at the array's ends."""
    # Not scipy's filter: it takes one line at a time, this the array as it lies in memory. What it moves over the
    # ends of lines stays within `radius` of them, where nothing is kept.
    radius = len(weights) - 1
    before, behind = max(radius - kept.start, 0), max(kept.stop + radius - height.shape[axis], 0)
    if before or behind:
        room = [(before, behind) if a == axis else (0, 0) for a in range(height.ndim)]
        height = np.pad(height, room, mode="symmetric")
    flat, stride = height.ravel(), math.prod(height.shape[axis + 1 :])
    start, stop = radius * stride, flat.size - radius * stride
    smooth = np.empty_like(flat)
    inner = smooth[start:stop]
    np.multiply(flat[start:stop], weights[0], out=inner)
    pair = np.empty_like(inner)
    for k in range(1, radius + 1):
        by = k * stride
        np.add(flat[start - by : stop - by], flat[start + by : stop + by], out=pair)
        pair *= weights[k]
        inner += pair
    return smooth.reshape(height.shape)[(slice(None),) * axis + (slice(kept.start + before, kept.stop + before),)]


def _slabs(shape: Sequence[int], axis: int) -> Iterator[tuple[slice, ...]]:
    """Pieces of about `CACHED` pixels that are whole along `axis`."""
    others = [k for k in range(len(shape)) if k != axis]
    if not others:
        yield (slice(None),)
        return
    across = max(others, key=lambda k: shape[k])
    for low, high in _pieces(shape, across):
        yield tuple(slice(low, high) if k == across else slice(None) for k in range(len(shape)))


def _pieces(shape: Sequence[int], across: int) -> Iterator[tuple[int, int]]:
    """Where pieces of about `CACHED` pixels begin and end along the axis `across`."""
    n_pieces = min(shape[across], math.ceil(math.prod(shape) / CACHED))
    edges = [round(i * shape[across] / max(n_pieces, 1)) for i in range(n_pieces + 1)]
    return itertools.pairwise(edges)
