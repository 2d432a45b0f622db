"""Texture and the distribution of intensity in each object: cp_measure's, of images that fit in memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from skimage.segmentation import relabel_sequential

from cellscribble.core.errors import InputError, MissingExtraError
from cellscribble.core.volume import ImageVolume
from cellscribble.measure.blockwise import check_pair, label_numbers
from cellscribble.measure.features import Columns

Array = npt.NDArray[Any]
Feature = Callable[[Array, Array], dict[str, Array]]

TEXTURE, DISTRIBUTION = "texture", "distribution"
GROUPS = (TEXTURE, DISTRIBUTION)

RADIAL = "RadialDistribution"
"""How cp_measure's names of the distribution begin; those of textures begin with the feature."""

MAX_PIXELS = 1 << 24
"""Of an image: cp_measure holds it several times, in 64 bits and more."""


def check_groups(groups: Sequence[str]) -> None:
    """Raise MissingExtraError if these groups are wanted and cp_measure is not installed."""
    if groups:
        _features(groups)


def appearance_table(
    labels: ImageVolume,
    image: ImageVolume,
    channels: Sequence[str],
    full_scale: float,
    groups: Sequence[str],
    progress: Callable[[float], None] = lambda done: None,
) -> tuple[Array, Columns]:
    """What MeasureTexture and MeasureObjectIntensityDistribution of CellProfiler measure, computed by cp_measure.

    Munoz et al. 2025, arXiv:2507.01163. Texture: Haralick's 13 features at a distance of 3 px, 256 grey levels, in
    each direction. Distribution: shares, means and variation in four rings from the middle to the rim, and magnitudes
    and phases of Zernike moments to order 9.

    Parameters
    ----------
    labels : one channel, (Y, X) or (Z, Y, X) whole numbers, 0 background
    image : (C, ...) of the same shape
    channels : names of the C channels
    full_scale : the value that becomes 1
    groups : of `GROUPS`
    progress : called with the share that is done

    Returns
    -------
    (n,) labels, ascending, and name to (n,) float64; as in CellProfiler textures of objects too small for one are 0.

    Raises
    ------
    InputError
        If image and labels do not belong together, or the image is larger than `MAX_PIXELS`, a stack where a
        distribution is wanted, or not of whole numbers or fractions.
    MissingExtraError
        If cp_measure is not installed.
    """
    check_pair(labels, image)
    wanted = "--also " + ",".join(groups)
    if labels.n_pixels > MAX_PIXELS:
        raise InputError(
            f"{labels.name} has {labels.n_pixels / 1e6:.1f} megapixels; {wanted} needs an image whole in memory, "
            f"up to {MAX_PIXELS / 1e6:.1f} megapixels: measure a coarser level (--level) or leave it out"
        )
    if DISTRIBUTION in groups and labels.ndim == 3:
        raise InputError(f"{labels.name} is a stack; the distribution is defined for planes, as in CellProfiler")
    # In its own type relabel_sequential fails where an object has the type's largest number.
    numbers, _, originals = relabel_sequential(  # type: ignore[no-untyped-call]
        label_numbers(labels.data[0], labels.name).astype(np.int64)
    )
    ids, numbers = np.asarray(originals)[1:], numbers.astype(np.int32)
    columns: Columns = {}
    features = _features(groups)
    for k, channel in enumerate(channels):
        values = np.asarray(image.data[k]) / full_scale
        if not (values.min() >= -1 and values.max() <= 1):
            raise InputError(
                f"{image.name} has values from {values.min():g} to {values.max():g}; {wanted} is defined for "
                "whole numbers, or fractions from 0 to 1"
            )
        for n, feature in enumerate(features):
            progress((k + n / len(features)) / len(channels))
            columns |= {_column(name, channel): found for name, found in _measured(feature, numbers, values)}
    return ids, columns


def _measured(feature: Feature, numbers: Array, values: Array) -> Iterator[tuple[str, Array]]:
    n = int(numbers.max(initial=0))
    if not n:
        # The names are those of an image with an object.
        numbers, values = np.ones((8,) * numbers.ndim, np.int32), np.ones((8,) * numbers.ndim)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of objects with empty wedges or rings
        found = feature(numbers, values)
    for name, measured in found.items():
        column = np.asarray(measured, np.float64)[:n]
        yield name, column if name.startswith(RADIAL) else np.where(np.isfinite(column), column, 0.0)


def _column(name: str, channel: str) -> str:
    """CellProfiler's name: the channel comes after the feature, before its numbers."""
    parts = name.split("_")
    if parts[0] != RADIAL:
        parts = ["Texture", *parts]
    return "_".join([*parts[:2], channel, *parts[2:]])


def _features(groups: Sequence[str]) -> list[Feature]:
    try:
        from cp_measure.bulk import get_core_measurements
    except ImportError:
        raise MissingExtraError(
            f"--also {','.join(groups)} needs cp_measure: pip install 'cellscribble[appearance]'; or leave it out"
        ) from None
    found = get_core_measurements(sanitize=False)
    names = {TEXTURE: ["texture"], DISTRIBUTION: ["radial_distribution", "radial_zernikes"]}
    return [found[name] for group in groups for name in names[group]]
