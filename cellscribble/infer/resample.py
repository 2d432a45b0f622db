"""Images, probability and labels on another grid: any part of it alone gives what the whole gives.

Pixel i of m along an axis has its centre at ``(i + 0.5) * n / m - 0.5`` of n. An image is linear between its pixels,
and smoothed first where it shrinks (a Gaussian of ``(n / m - 1) / 2`` px, as scikit-image's `resize`, so that nothing
finer than the new pixels is left). A pixel depends on those near it and on its place in the whole, not on the part
that was asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cellscribble.core.blocks import Slices
from cellscribble.core.errors import InputError
from cellscribble.core.labels import label_dtype
from cellscribble.core.volume import ImageVolume

TRUNCATE = 4.0
"""The Gaussian ends at this many standard deviations."""

MAX_RESAMPLED_BYTES = 1 << 34
"""Of an image that is resampled in memory, as float32."""

Floats = npt.NDArray[np.float32]


def resample_part(
    read: Callable[[Slices], npt.NDArray[Any]], old: Sequence[int], new: Sequence[int], box: Slices, *, smooth: bool
) -> Floats:
    """A part of an array (..., *old) seen as (..., *new).

    Parameters
    ----------
    read : gives (..., *window) for a window of the array; asked once
    box : the part that is wanted, in `new`
    smooth : along the axes that shrink

    Returns
    -------
    (..., *box) float32
    """
    axes = list(zip(old, new, box, strict=True))
    window = tuple(_needed(n, m, part, smooth) for n, m, part in axes)
    values = np.asarray(read(window), np.float32)
    for k, ((n, m, part), w) in enumerate(zip(axes, window, strict=True)):
        values = _along(values, k - len(axes), n, m, part, w.start, smooth)
    return values


def _sigma(n: int, m: int, smooth: bool) -> float:
    return max(0.0, (n / m - 1) / 2) if smooth else 0.0


def _neighbours(n: int, m: int, part: slice) -> tuple[npt.NDArray[np.intp], Floats]:
    """Of n pixels the one before each of a part of m, and how far behind it that lies, in pixels."""
    at = np.clip((np.arange(part.start, part.stop) + 0.5) * (n / m) - 0.5, 0, n - 1)
    before = np.minimum(at.astype(np.intp), max(n - 2, 0))
    return before, (at - before).astype(np.float32)


def _needed(n: int, m: int, part: slice, smooth: bool) -> slice:
    if n == m:
        return part
    before, _ = _neighbours(n, m, part)
    radius = int(TRUNCATE * _sigma(n, m, smooth) + 0.5)
    return slice(max(int(before[0]) - radius, 0), min(int(before[-1]) + 2 + radius, n))


def _along(values: Floats, axis: int, n: int, m: int, part: slice, start: int, smooth: bool) -> Floats:
    if n == m:
        return values
    sigma = _sigma(n, m, smooth)
    if sigma:
        # At the ends of what was read it is wrong, unless they are the array's: that far nothing is taken.
        values = ndimage.gaussian_filter1d(values, sigma, axis, mode="nearest", truncate=TRUNCATE)
    before, behind = _neighbours(n, m, part)
    low = np.take(values, before - start, axis)
    high = np.take(values, np.minimum(before + 1, n - 1) - start, axis)
    high -= low
    high *= behind.reshape([-1 if k == axis % values.ndim else 1 for k in range(values.ndim)])
    low += high
    return low


class Resampled:
    """An image's pixels (C, *spatial) on another grid, same dtype; resampled where it is sliced, lazily.

    Parameters
    ----------
    source : (C, *spatial), anything that slices
    spatial : the shape in which it is seen
    """

    def __init__(self, source: Any, spatial: Sequence[int]) -> None:
        self._source = source
        self.shape: tuple[int, ...] = (int(source.shape[0]), *spatial)
        self.dtype: np.dtype[Any] = np.dtype(source.dtype)
        self.ndim = len(self.shape)

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        """Pixels in slices of step 1; what is not named is whole."""
        keys = [part for part in (key if isinstance(key, tuple) else (key,)) if part is not Ellipsis]
        keys += [slice(None)] * (self.ndim - len(keys))
        channels, *box = (slice(*part.indices(n)[:2]) for part, n in zip(keys, self.shape, strict=True))

        def read(window: Slices) -> npt.NDArray[Any]:
            return np.asarray(self._source[(channels, *window)])

        values = resample_part(read, self._source.shape[1:], self.shape[1:], tuple(box), smooth=True)
        if self.dtype.kind in "ui":
            # The dtype carries the range of a colour picture (`IntensityRule` "range").
            limits = np.iinfo(self.dtype)
            np.rint(values, out=values)
            return np.clip(values, limits.min, limits.max, out=values).astype(self.dtype)
        return values.astype(self.dtype, copy=False)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[...], dtype)


def seen_as(image: ImageVolume, shape: Sequence[int]) -> ImageVolume:
    """The image at another spatial shape, same dtype and extent; lazy."""
    pixel_size = image.pixel_size_um and tuple(
        um * old / new for um, old, new in zip(image.pixel_size_um, image.spatial_shape, shape, strict=True)
    )
    return replace(image, data=Resampled(image.data, shape), pixel_size_um=pixel_size, levels=())


def resample_image(image: ImageVolume, shape: Sequence[int]) -> ImageVolume:
    """The image at another spatial shape, in memory.

    Raises
    ------
    InputError
        If it is too large for that.
    """
    n_bytes = 4 * image.n_channels * max(math.prod(shape), math.prod(image.spatial_shape))
    if n_bytes > MAX_RESAMPLED_BYTES:
        raise InputError(
            f"image {image.name!r} is too large to resample in memory ({n_bytes / 1e9:.0f} GB); save it as OME-Zarr, "
            "which is segmented block by block, or take the --level of its pyramid that is nearest"
        )
    seen = seen_as(image, shape)
    return seen.with_data(np.asarray(seen.data))


def resample_probability(probability: Floats, shape: Sequence[int]) -> Floats:
    """Probability (K, *spatial) at another spatial shape, linear; it still sums to 1."""
    out = np.empty((len(probability), *shape), np.float32)
    box = tuple(slice(0, n) for n in shape)
    for plane, resized in zip(probability, out, strict=True):
        resized[...] = resample_part(plane.__getitem__, plane.shape, shape, box, smooth=False)
    return out


def resample_labels(
    read: Callable[[Slices], npt.NDArray[Any]], old: Sequence[int], new: Sequence[int], box: Slices
) -> npt.NDArray[Any]:
    """A part of labels (*old) seen as (*new): each pixel takes the label under its centre.

    read, box : as `resample_part`
    """
    indices = [_under(n, m, part) for n, m, part in zip(old, new, box, strict=True)]
    window = tuple(slice(int(i[0]), int(i[-1]) + 1) for i in indices)
    return np.asarray(read(window)[np.ix_(*(i - i[0] for i in indices))])


def _under(n: int, m: int, part: slice) -> npt.NDArray[np.intp]:
    at: npt.NDArray[np.intp] = ((np.arange(part.start, part.stop) + 0.5) * n / m).astype(np.intp)
    return at


def missing(n: int, pieces: Iterable[npt.NDArray[np.integer]]) -> npt.NDArray[np.int64]:
    """Which of the numbers 1..n are in none of the pieces, rising."""
    absent = np.ones(n + 1, bool)
    absent[0] = False
    for piece in pieces:
        absent[piece.ravel()] = False
    return np.flatnonzero(absent)


def close_gaps(labels: npt.NDArray[np.integer], lost: npt.NDArray[np.integer], n: int) -> npt.NDArray[np.integer]:
    """Labels 0..n without the numbers `lost`, which rise and label no pixel: numbered 1..n - len(lost)."""
    return np.asarray(labels - np.searchsorted(lost, labels), label_dtype(n - len(lost)))
