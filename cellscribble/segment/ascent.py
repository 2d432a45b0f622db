"""Steepest ascent: from each pixel to the highest around it, and on to a summit.

A pixel points at the highest pixel around it, of equal ones the first in raster order. That is a
total order: ways only rise, and none comes back.

Source: F. Meyer, "Topographic distance and watershed lines", Signal Processing 38, 1994: the
watershed as the ends of the ways of steepest ascent. We settle the ties by position.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.segment.height import Heights

# `take` throughout: it is half as fast again as indexing with a list of positions.

Ints = npt.NDArray[np.int64]

SOME = 61
"""One pixel in so many is looked at first."""

CACHED = 1 << 16
"""Pixels worked on at once, so that they and their scratch stay in the processor's cache."""


def uphill(flat: Heights, shape: Sequence[int], pixels: Ints) -> Ints:
    """The pixel that each of the foreground pixels points at, itself on a summit.

    Parameters
    ----------
    flat : (size,) int32 or uint16, heights of an array of `shape` with a frame of background, 0 there
    pixels : (P,) int64, rising flat positions where `flat` is positive

    Returns
    -------
    (P,) int64 : flat positions
    """
    ndim = len(shape)
    strides = strides_of(shape)
    steps = [tuple(1 - c // 3 ** (ndim - 1 - axis) % 3 for axis in range(ndim)) for c in range(3**ndim)]
    # Room for the step beside the height, in two bytes where they hold both.
    bits = (len(steps) - 1).bit_length()
    narrow = int(flat.max(initial=0)) < 1 << (16 - bits)
    dtype: np.dtype[np.integer[Any]] = np.dtype(np.uint16 if narrow else np.int32)
    code = np.empty(len(pixels), np.int8)
    # Along the flat array, for its speed: what wraps around meets the frame.
    reach = sum(strides)
    piece = max(CACHED, 4 * reach)
    for low in range(0, flat.size, piece):
        a, b = np.searchsorted(pixels, (low, low + piece))
        before = max(low - reach, 0)
        key = _highest_around(flat[before : low + piece + reach].astype(dtype, copy=False) << bits, strides)
        code[a:b] = key.take(pixels[a:b] - before) & (2**bits - 1)
    target = pixels + np.array([np.dot(step, strides) for step in steps], np.int64).take(code)
    # Objects are joined across faces. A step across a corner counts where steps across faces lead
    # the same way; else two parts that only meet in a corner would be one. Amid foreground they do.
    rim = np.flatnonzero(~_amid(flat > 0, strides).take(pixels))
    corner = rim[np.array([sum(map(abs, step)) > 1 for step in steps]).take(code[rim])]
    # Sorted, so that those of one step stand together.
    corner = corner[np.argsort(code[corner], kind="stable")]
    edges = np.searchsorted(code[corner], np.arange(len(steps) + 1))
    for step, (a, b) in zip(steps, itertools.pairwise(edges.tolist()), strict=True):
        if a < b:
            alone = corner[a:b][~_joined(flat, pixels[corner[a:b]], step, strides)]
            target[alone] = _up_a_face(flat, pixels[alone], strides)
    return np.asarray(target)


def _amid(mask: npt.NDArray[np.bool_], strides: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Whether all pixels around each one, across corners too, are in the flat mask (which has a frame)."""
    for stride in strides:
        inner = mask.copy()
        inner[:-stride] &= mask[stride:]
        inner[stride:] &= mask[:-stride]
        mask = inner
    return mask


def _highest_around(key: Heights, strides: Sequence[int]) -> Heights:
    """Of each pixel and those around it the highest, and behind its height the step to it.

    The step stands in base 3, a digit an axis, larger for an earlier pixel: so one maximum settles
    height and tie, and each axis fills in its digit.

    key : flat, heights with 0 where the step will stand; it is written over
    """
    for axis in reversed(range(len(strides))):
        digit, stride = key.dtype.type(3 ** (len(strides) - 1 - axis)), strides[axis]
        best = key + digit
        np.maximum(best[:-stride], key[stride:], out=best[:-stride])
        key += digit
        key += digit
        np.maximum(best[stride:], key[:-stride], out=best[stride:])
        key = best
    return key


def _joined(flat: Heights, pixels: Ints, step: tuple[int, ...], strides: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Whether steps across faces, all in the foreground, make up the step to a foreground pixel."""
    axes = [axis for axis, s in enumerate(step) if s]
    joined = np.full(len(pixels), len(axes) == 1)
    for axis in axes if len(axes) > 1 else ():
        # Most are by the first way: the next one is looked for where they are not.
        left = np.flatnonzero(~joined)
        beside = pixels[left] + step[axis] * strides[axis]
        inside = flat[beside] > 0
        left, beside = left[inside], beside[inside]
        rest = tuple(0 if k == axis else s for k, s in enumerate(step))
        joined[left] = _joined(flat, beside, rest, strides)
    return joined


def _up_a_face(flat: Heights, pixels: Ints, strides: Sequence[int]) -> Ints:
    best = pixels
    for step in (*strides, *(-s for s in strides)):
        beside = pixels + step
        higher = (flat[beside] > flat[best]) | ((flat[beside] == flat[best]) & (beside < best))
        best = np.where(higher, beside, best)
    return best


def follow(to: Ints) -> Ints:
    """Where the ways end, of pixels that each point at one of them: each round doubles how far they are followed.

    Parameters
    ----------
    to : (P,) int64, the pixel 0..P-1 that each points at, itself at the end of a way

    Returns
    -------
    (P,) int64 : the pixel at the end of each one's way
    """
    while True:
        further = to.take(to)
        # Most rounds are told by some of the pixels that others follow.
        if np.array_equal(further[::SOME], to[::SOME]) and np.array_equal(further, to):
            return to
        to = further


def strides_of(shape: Sequence[int]) -> list[int]:
    """How far apart in the flat array neighbours on each axis are."""
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
