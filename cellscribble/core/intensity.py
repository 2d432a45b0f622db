"""Intensity normalisation: fitted once per image, applied to any part of it.

Statistics of a tile would differ from tile to tile and leave seams, so `fit` sees the whole image
(or a fixed, seeded sample of it when it is huge) and `Intensity.apply` is a plain affine map. The
same code runs in training and in prediction.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.blocks import Slices
from cellscribble.core.errors import InputError
from cellscribble.core.volume import ImageVolume

KINDS = ("percentile", "range")
MAX_SAMPLED_VALUES = 1 << 24
"""Pixels a channel that an image is fitted to; beyond, slabs from all over it stand for it."""

N_SLABS = 16

ROWS_APART = 7
"""Has no divisor in common with `N_SLABS`: the rows of one plane after the other, which lie far apart."""

SEED = 0
"""Of where in its share of the image each slab lies: evenly spaced ones would all meet the same row of wells."""


Unreadable = tuple[type[Exception], ...]


@dataclass(frozen=True, slots=True)
class IntensityRule:
    """How an image's values become network input; stored in the model.

    kind "percentile" maps the `low_percent` and `high_percent` percentiles of each channel of each
    image to 0 and 1: fluorescence and grey images, whose brightness differs from image to image.
    kind "range" maps the full range of the dtype to 0..1: RGB pictures, whose colours mean the same
    in all images, also where a picture is mostly empty glass.
    """

    kind: str = "percentile"
    low_percent: float = 0.5
    high_percent: float = 99.8

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"intensity kind is {self.kind!r}; expected one of {', '.join(KINDS)}")
        if not 0 <= self.low_percent < self.high_percent <= 100:
            raise InputError(
                f"intensity percentiles are {self.low_percent} and {self.high_percent}; "
                "expected 0 <= low < high <= 100"
            )


@dataclass(frozen=True, slots=True)
class Intensity:
    """The affine map of one image: (value - low) / (high - low), a pair for each channel."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    def apply(self, block: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Normalise a block (C, *spatial) of any dtype to float32; about 0..1, clipped to -1..4.

        The clip keeps one hot pixel from reaching the network as a value of thousands.

        Raises
        ------
        InputError
            If the block holds NaN or infinite values: a network spreads them over all that sees them.
        """
        _check_finite(block, "the image")
        shape = (len(self.low),) + (1,) * (block.ndim - 1)
        low = np.asarray(self.low, np.float32).reshape(shape)
        scale = 1.0 / (np.asarray(self.high, np.float32).reshape(shape) - low)
        out = block.astype(np.float32)
        out -= low
        out *= scale
        return np.clip(out, -1.0, 4.0, out=out)


def fit_intensity(image: ImageVolume, rule: IntensityRule, without: Unreadable = ()) -> Intensity:
    """Fit `rule` to one whole image.

    without : parts of the image that raise one of these when they are read are left out

    Raises
    ------
    InputError
        If the image holds NaN or infinite values, or every channel is constant.
    """
    sample = _sample(image, without)
    _check_finite(sample, f"image {image.name!r}")
    flat = sample.reshape(sample.shape[0], -1)
    if _is_flat(sample).all():
        raise InputError(
            f"image {image.name!r} is constant (every pixel is {flat[0, 0]}): nothing to segment; "
            "check that the right channel was exported"
        )
    if rule.kind == "range":
        high = _dtype_maximum(sample)
        return Intensity((0.0,) * len(flat), (high,) * len(flat))
    low, high_values = np.percentile(flat, [rule.low_percent, rule.high_percent], axis=1)
    return Intensity(*_widen(flat, low, high_values))


def _check_finite(pixels: npt.NDArray[Any], whose: str) -> None:
    if pixels.dtype.kind == "f" and not (finite := np.isfinite(pixels)).all():
        raise InputError(
            f"{whose} holds {pixels.size - np.count_nonzero(finite)} NaN or infinite pixels; "
            "replace them (Fiji: Process > Math > NaN Background) and save it again"
        )


def _widen(flat: npt.NDArray[Any], low: Any, high: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    # Where few pixels are bright (sparse spots) both percentiles are the background: use the full
    # range then. A constant channel beside a varying one becomes all 0.
    lows, highs = [], []
    for values, a, b in zip(flat, low, high, strict=True):
        if b <= a:
            a, b = float(values.min()), float(values.max())
        lows.append(float(a))
        highs.append(float(b) if b > a else float(a) + 1.0)
    return tuple(lows), tuple(highs)


def _dtype_maximum(sample: npt.NDArray[Any]) -> float:
    if sample.dtype.kind in "ui":
        return float(np.iinfo(sample.dtype).max)
    if sample.dtype.kind == "b":
        return 1.0
    return 1.0 if float(sample.max()) <= 1.0 else float(sample.max())


def _sample(image: ImageVolume, without: Unreadable) -> npt.NDArray[Any]:
    """(C, n) or (C, *spatial) pixels: all, or some of everywhere, and never more than `MAX_SAMPLED_VALUES` at once."""
    n_pixels, shape = image.n_pixels, image.spatial_shape
    if n_pixels <= MAX_SAMPLED_VALUES:
        try:
            return np.asarray(image.data)
        except without:
            pass
    slabs = {str(slab): slab for slab in (_slab(shape, n_pixels, k) for k in range(N_SLABS))}
    sample = _read(image, slabs.values(), 1, without)
    if n_pixels <= MAX_SAMPLED_VALUES or not _is_flat(sample).any():
        return sample
    # On an almost empty slide they may lie beside all that there is: then every so-manieth pixel of the whole.
    step = math.ceil((n_pixels / MAX_SAMPLED_VALUES) ** (1 / image.ndim))
    return _read(image, _all_of(shape, step), step, without)


def _slab(shape: Sequence[int], n_pixels: int, k: int) -> Slices:
    """A seeded place in the k-th of `N_SLABS` shares: whole along all but the first axis, where that is not too much.

    They are contiguous in every file layout we read. Of a volume whose planes are too large a part is some rows of one
    plane, elsewhere in each.
    """
    length, inner = shape[0], math.prod(shape[1:])
    at_most = min(MAX_SAMPLED_VALUES, n_pixels) // N_SLABS
    thickness = max(1, at_most // inner)
    share = length / N_SLABS
    start = int(k * share + np.random.default_rng((SEED, len(shape), k)).random() * max(share - thickness, 0))
    rest = tuple(slice(0, n) for n in shape[1:])
    if inner > at_most and len(shape) > 1:
        rest = _slab(shape[1:], at_most * N_SLABS, k * ROWS_APART % N_SLABS)
    return slice(start, start + thickness), *rest


def _all_of(shape: Sequence[int], step: int) -> Iterator[Slices]:
    """Parts that hold every `step`-th pixel along each axis, counted from their own corner."""
    inner, at_most = math.prod(shape[1:]), MAX_SAMPLED_VALUES // N_SLABS
    if step * inner > at_most and len(shape) > 1:
        for start in range(0, shape[0], step):
            for rest in _all_of(shape[1:], step):
                yield slice(start, start + 1), *rest
        return
    height = max(1, at_most // inner // step) * step
    for start in range(0, shape[0], height):
        yield slice(start, start + height), *(slice(0, n) for n in shape[1:])


def _read(image: ImageVolume, parts: Iterable[Slices], step: int, without: Unreadable) -> npt.NDArray[Any]:
    """(C, n): every `step`-th pixel of some parts of an image, one after the other; damaged parts are left out."""
    found: list[npt.NDArray[Any]] = []
    error: Exception | None = None
    thinned = (slice(None), *(slice(None, None, step),) * image.ndim)
    for part in parts:
        try:
            pixels = np.asarray(image.data[(slice(None), *part)])[thinned]
            found.append(pixels.reshape(len(pixels), -1).copy())
        except without as damage:
            error = damage
    if not found and error is not None:
        raise error
    return np.concatenate(found, axis=1)


def _is_flat(pixels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """(C,) bool: whether all of a channel (C, *spatial) is one value."""
    flat = pixels.reshape(len(pixels), -1)
    return np.asarray(flat.min(axis=1) == flat.max(axis=1))
