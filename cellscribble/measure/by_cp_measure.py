"""What cp_measure measures of objects, of images that fit in memory (Munoz et al. 2025, arXiv:2507.01163).

Sizes, shapes and intensities are its own; `whole` and `features` have the same to 1e-6, for images of any size and for
computers that it has no wheels for. Texture and the distribution of intensity are defined here only.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from skimage.segmentation import relabel_sequential

from cellscribble.core.errors import InputError, MissingExtraError
from cellscribble.core.volume import ImageVolume
from cellscribble.measure.blockwise import check_pair, label_numbers, spacing_of
from cellscribble.measure.features import Columns

Array = npt.NDArray[Any]
Feature = Callable[[Array, Array | None], dict[str, Array]]

SHAPE, INTENSITY, TEXTURE, DISTRIBUTION = "shape", "intensity", "texture", "distribution"
APPEARANCE = (TEXTURE, DISTRIBUTION)
"""The groups that are measured only when they are asked for."""

# Of several pixels that are brightest it takes any; ours is the last.
_OWN = "Location_MaxIntensity"

MAX_PIXELS = 1 << 24
"""Of an image: cp_measure holds it several times, in 64 bits and more."""


def check_groups(groups: Sequence[str]) -> None:
    """Raise MissingExtraError if these groups are wanted and cp_measure is not installed."""
    if groups and not _is_installed():
        raise MissingExtraError(
            f"--also {','.join(groups)} needs cp_measure, which comes with CellScribble where there are wheels of it "
            "(not for Python 3.14 and Linux on ARM): take an earlier Python, or, with a C compiler, "
            "pip install cp-measure; or leave --also out"
        )


def measures(labels: ImageVolume) -> bool:
    """Whether cp_measure is installed and these labels are not too many pixels for it."""
    return labels.n_pixels <= MAX_PIXELS and _is_installed()


def cp_measure_table(
    labels: ImageVolume,
    image: ImageVolume | None,
    channels: Sequence[str],
    full_scale: float,
    groups: Sequence[str],
    progress: Callable[[float], None] = lambda done: None,
) -> tuple[Array, Columns]:
    """Features of CellProfiler's modules, computed by cp_measure.

    Shape: those of MeasureObjectSizeShape without the advanced ones. Intensity: MeasureObjectIntensity, but the place
    of the maximum, which is not one where several pixels are brightest. Texture: Haralick's 13 features at a distance
    of 3 px, 256 grey levels, in each direction. Distribution: shares, means and variation in four rings from the
    middle to the rim, and magnitudes and phases of Zernike moments to order 9.

    Parameters
    ----------
    labels : one channel, (Y, X) or (Z, Y, X) whole numbers, 0 background
    image : (C, ...) of the same shape; not needed for shapes
    channels : names of the C channels
    full_scale : the value that becomes 1
    groups : `SHAPE`, `INTENSITY` and of `APPEARANCE`
    progress : called with the share that is done

    Returns
    -------
    (n,) labels, ascending, and name to (n,) float64; as in CellProfiler textures of objects too small for one are 0.

    Raises
    ------
    InputError
        If image and labels do not belong together, or a group of `APPEARANCE` is wanted of an image larger than
        `MAX_PIXELS`, of a stack where it is a distribution, or of other values than whole numbers or fractions.
    """
    check_pair(labels, image)
    wanted = [group for group in groups if group in APPEARANCE]
    also = "--also " + ",".join(wanted)
    if wanted and labels.n_pixels > MAX_PIXELS:
        raise InputError(
            f"{labels.name} has {labels.n_pixels / 1e6:.1f} megapixels; {also} needs an image whole in memory, "
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
    features = [found for found in _features(spacing_of(labels)) if found[0] in groups]
    shapes = [found for found in features if found[0] == SHAPE]
    others = [found for found in features if found[0] != SHAPE]
    if labels.ndim == 3 and len(ids) == 1 and numbers.all():
        # It finds no surface where nothing of a stack is outside, and then measures none of the rest.
        shapes = []
    n_done, n_steps = 0, len(shapes) + len(others) * len(channels)
    # Shapes once; then each channel, which is read once.
    for k, channel in enumerate(("", *channels)):
        values = None
        if k and image is not None and others:
            values = np.asarray(image.data[k - 1]) / full_scale
            if wanted and not (values.min() >= -1 and values.max() <= 1):
                raise InputError(
                    f"{image.name} has values from {values.min():g} to {values.max():g}; {also} is defined for "
                    "whole numbers, or fractions from 0 to 1"
                )
        for group, feature in others if k else shapes:
            for name, found in _measured(feature, numbers, values):
                if group == TEXTURE:
                    found = np.where(np.isfinite(found), found, 0.0)
                if not name.startswith(_OWN):
                    columns[_column(group, name, channel)] = found
            n_done += 1
            progress(n_done / n_steps)
    return ids, columns


def _measured(feature: Feature, numbers: Array, values: Array | None) -> Iterator[tuple[str, Array]]:
    n = int(numbers.max(initial=0))
    if not n:
        # The names are those of an image with an object.
        numbers = np.zeros((8,) * numbers.ndim, np.int32)
        numbers[(slice(2, 6),) * numbers.ndim] = 1
        values = None if values is None else np.ones(numbers.shape)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of empty wedges and rings, and of the hulls of flat objects in stacks
        found = feature(numbers, values)
    for name, measured in found.items():
        yield name, np.asarray(measured, np.float64)[:n]


def _column(group: str, name: str, channel: str) -> str:
    """CellProfiler's name of a feature; the channel comes before its numbers, if it has any."""
    if group == SHAPE:
        return f"AreaShape_{name}"
    if group == INTENSITY:
        return f"{name}_{channel}"
    parts = ["Texture", *name.split("_")] if group == TEXTURE else name.split("_")
    return "_".join([*parts[:2], channel, *parts[2:]])


def _is_installed() -> bool:
    try:
        import cp_measure.bulk  # noqa: F401
    except ImportError:
        return False
    return True


def _features(spacing: tuple[float, ...]) -> list[tuple[str, Feature]]:
    """cp_measure's functions and the group of each; distances of planes are `spacing`."""
    from cp_measure.core import measureobjectintensitydistribution as distribution
    from cp_measure.core import measureobjectsizeshape as shape
    from cp_measure.core.measureobjectintensity import get_intensity
    from cp_measure.core.measuretexture import get_texture

    # Without what CellProfiler leaves out too; quartiles by CellProfiler's rule (legacy).
    sizes = partial(shape.get_sizeshape, calculate_advanced=False, new_features=False, spacing=spacing)
    return [
        (SHAPE, sizes),
        (SHAPE, shape.get_zernike),
        (SHAPE, shape.get_feret),
        (INTENSITY, partial(get_intensity, legacy=True)),
        (TEXTURE, get_texture),
        (DISTRIBUTION, distribution.get_radial_distribution),
        (DISTRIBUTION, distribution.get_radial_zernikes),
    ]
