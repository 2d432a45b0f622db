"""Small holes of a mask, found from a small neighbourhood: block by block as in the whole image."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cellscribble.segment.ascent import strides_of
from cellscribble.segment.joining import components

FEW = 32
"""Where fewer than one pixel in so many may be a hole, they are looked at one by one."""


def fill_small_holes(mask: npt.NDArray[np.bool_], largest_hole_px: int) -> npt.NDArray[np.bool_]:
    """Close background areas of at most `largest_hole_px` pixels that the foreground encloses.

    It must be compact too, at most `widest_px` wide on every axis: a long slit lies between cells.
    An area that touches the border of the array stays open: it may go on outside. So the answer is
    that of any larger image wherever the border is more than `widest_px` away.

    Parameters
    ----------
    mask : (*spatial) bool
    largest_hole_px : pixels (voxels)

    Returns
    -------
    (*spatial) bool : `mask` itself where no hole can be
    """
    if largest_hole_px < 1 or not mask.size:
        return mask
    # Few pixels of the background are enclosed that tightly on every axis; only they can be a hole.
    tight = ~mask
    for axis in range(mask.ndim):
        tight &= _close_lines(mask, axis, widest_px(largest_hole_px, mask.ndim))
    if not tight.any():
        return mask
    # A frame of background that is not tight: it opens what touches the border, and no step leaves it.
    framed, tight = np.pad(mask, 1), np.pad(tight, 1)
    pixels = np.flatnonzero(tight)
    framed.ravel()[_small_areas(framed.ravel(), tight.ravel(), pixels, framed.shape, largest_hole_px)] = True
    return framed[(slice(1, -1),) * mask.ndim]


def widest_px(largest_hole_px: int, ndim: int) -> int:
    """How wide a hole may be on any axis: twice a square (cube) of its size, and no more than it has pixels."""
    return 0 if largest_hole_px < 1 else min(int(largest_hole_px), math.ceil(2 * largest_hole_px ** (1 / ndim)))


def _small_areas(
    mask: npt.NDArray[np.bool_],
    tight: npt.NDArray[np.bool_],
    pixels: npt.NDArray[np.int64],
    shape: tuple[int, ...],
    largest_px: int,
) -> npt.NDArray[np.int64]:
    """Those of the tight `pixels`, flat positions, that make up closed areas of at most `largest_px`."""
    strides = strides_of(shape)
    is_open = np.zeros(len(pixels), bool)
    # Of noise, pairs would take many times the memory of the mask.
    sparse = len(pixels) * FEW < mask.size
    one, two = [], []
    # Objects are joined across faces, so background is joined across corners too.
    for step in itertools.product((-1, 0, 1), repeat=len(shape)):
        beside = pixels + int(np.dot(step, strides))
        joined = tight[beside]
        is_open |= ~(joined | mask[beside])
        if sparse and step > (0,) * len(shape):
            one.append(np.flatnonzero(joined))
            two.append(np.searchsorted(pixels, beside[joined]))
    if sparse:
        area = components(np.stack([np.concatenate(one), np.concatenate(two)], axis=1), len(pixels))
    else:
        labels, _ = ndimage.label(tight.reshape(shape), np.ones((3,) * len(shape)))
        area = labels.ravel()[pixels] - 1
    size = np.bincount(area)
    n, small = len(size), size <= largest_px
    small[area[is_open]] = False
    for axis, stride in enumerate(strides):
        place = pixels // stride % shape[axis]
        low, high = np.full(n, max(shape)), np.zeros(n, np.int64)
        np.minimum.at(low, area, place)
        np.maximum.at(high, area, place)
        small &= high - low < widest_px(largest_px, len(shape))
    return np.asarray(pixels[small[area]])


def _close_lines(mask: npt.NDArray[np.bool_], axis: int, length: int) -> npt.NDArray[np.bool_]:
    """The mask with gaps of at most `length` pixels between two of its pixels on a line closed."""
    n = mask.shape[axis]
    length = min(length, n)
    room = [(0, length if k == axis else 0) for k in range(mask.ndim)]
    lines = np.moveaxis(np.pad(mask, room), axis, 0)
    # Windows of length + 1 pixels, doubled from 1: dilation forwards, erosion back.
    for step in _doubling(length + 1):
        lines[step:] |= lines[:-step]
    for step in _doubling(length + 1):
        lines[:-step] &= lines[step:]
    return np.moveaxis(lines[:n], 0, axis)


def _doubling(window: int) -> list[int]:
    steps, covered = [], 1
    while covered < window:
        steps.append(min(covered, window - covered))
        covered += steps[-1]
    return steps
