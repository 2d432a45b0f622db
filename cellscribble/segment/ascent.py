"""Steepest ascent: from each pixel to the highest around it, and on to a summit.

A pixel points at the highest pixel around it, of equal ones the first in raster order. That is a
total order: ways only rise, and none comes back.

Source: F. Meyer, "Topographic distance and watershed lines", Signal Processing 38, 1994: the
watershed as the ends of the ways of steepest ascent. We settle the ties by position.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# `take` throughout: it is half as fast again as indexing with a list of positions.

Ints = npt.NDArray[np.int64]

CODE_BITS = 5
"""Room for the 3 ** 3 steps to a neighbour beside the height in one int32."""

CACHED = 1 << 16
"""Pixels worked on at once, so that they and their scratch stay in the processor's cache."""


def uphill(flat: npt.NDArray[np.int32], shape: Sequence[int], pixels: Ints) -> Ints:
    """The pixel that each of the foreground pixels points at, itself on a summit.

    Parameters
    ----------
    flat : (size,) int32, heights of an array of `shape` with a frame of background, 0 there
    pixels : (P,) int64, rising flat positions where `flat` is positive

    Returns
    -------
    (P,) int64 : flat positions
    """
    ndim = len(shape)
    strides = strides_of(shape)
    steps = [tuple(1 - c // 3 ** (ndim - 1 - axis) % 3 for axis in range(ndim)) for c in range(3**ndim)]
    code = np.empty(len(pixels), np.int8)
    # Along the flat array, for its speed: what wraps around meets the frame.
    reach = sum(strides)
    piece = max(CACHED, 4 * reach)
    for low in range(0, flat.size, piece):
        a, b = np.searchsorted(pixels, (low, low + piece))
        before = max(low - reach, 0)
        key = _highest_around(flat[before : low + piece + reach], strides)
        code[a:b] = key.take(pixels[a:b] - before) & (2**CODE_BITS - 1)
    target = pixels + np.array([np.dot(step, strides) for step in steps], np.int64).take(code)
    # Objects are joined across faces. A step across a corner counts where steps across faces lead
    # the same way; else two parts that only meet in a corner would be one. Amid foreground they do.
    rim = np.flatnonzero(~_amid(flat > 0, strides).take(pixels))
    code = code[rim]
    for c, step in enumerate(steps):
        if sum(map(abs, step)) > 1:
            across = rim[code == c]
            alone = across[~_joined(flat, pixels[across], step, strides)]
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


def _highest_around(flat: npt.NDArray[np.int32], strides: Sequence[int]) -> npt.NDArray[np.int32]:
    """Of each pixel and those around it the highest, and behind its height the step to it.

    The step stands in base 3, a digit an axis, larger for an earlier pixel: so one maximum settles
    height and tie, and each axis fills in its digit.
    """
    key = flat << CODE_BITS
    for axis in reversed(range(len(strides))):
        digit, stride = 3 ** (len(strides) - 1 - axis), strides[axis]
        best = key + digit
        np.maximum(best[:-stride], key[stride:], out=best[:-stride])
        key += 2 * digit
        np.maximum(best[stride:], key[:-stride], out=best[stride:])
        key = best
    return key


def _joined(
    flat: npt.NDArray[np.int32], pixels: Ints, step: tuple[int, ...], strides: Sequence[int]
) -> npt.NDArray[np.bool_]:
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


def _up_a_face(flat: npt.NDArray[np.int32], pixels: Ints, strides: Sequence[int]) -> Ints:
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
        if np.array_equal(further, to):
            return to
        to = further


def strides_of(shape: Sequence[int]) -> list[int]:
    """How far apart in the flat array neighbours on each axis are."""
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
