"""What CellProfiler calls the measurements of objects, worked out of what was counted of them.

Names and definitions are those of CellProfiler 4.2 (MeasureObjectSizeShape, MeasureObjectIntensity): lengths in
pixels, angles in degrees, values of images divided by `full_scale`, bounding boxes without their upper end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.errors import InputError
from cellscribble.measure.outline import Outline
from cellscribble.measure.sums import Sums

Array = npt.NDArray[Any]
Columns = dict[str, Array]


def feature_table(sums: Sums, channels: Sequence[str], full_scales: Sequence[float]) -> Columns:
    """The features that follow from counts, name to (n,).

    Parameters
    ----------
    channels : names of the C channels, as in `Intensity_MeanIntensity_DNA`
    full_scales : the value of each channel that becomes 1

    Raises
    ------
    InputError
        If an object is so large that its sums pass 63 bits.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        shape, locations = _shape(sums)
        intensity: Columns = {}
        for k, (name, full) in enumerate(zip(channels, full_scales, strict=True)):
            grey, where = _grey(sums, k, float(full))
            intensity |= {f"Intensity_{key}_{name}": values for key, values in grey.items()}
            locations |= {f"Location_{key}_{name}": values for key, values in where.items()}
    named = {f"AreaShape_{key}": values for key, values in shape.items()}
    return named | intensity | locations | {"Number_Label": sums.ids}


def full_scale(dtype: Any, brightest: int | None = None) -> float:
    """What CellProfiler divides by when it reads a file: all that the bits hold, also of numbers with a sign.

    brightest : what the file itself says (`io.images.max_sample_value`), which is taken instead
    """
    if brightest:
        return float(brightest)
    return 2.0 ** (8 * dtype.itemsize) - 1 if dtype.kind in "iu" else 1.0


def _shape(sums: Sums) -> tuple[Columns, Columns]:
    n, ndim = sums.pixels, sums.low.shape[1]
    names = "XYZ"[:ndim]
    extent = sums.high - sums.low
    inertia = _inertia(_variance(sums))
    centre = sums.low + _from_corner(sums)[0] / n[:, np.newaxis]
    box = extent.prod(axis=1)
    size, box_name = ("Area", "BoundingBoxArea") if ndim == 2 else ("Volume", "BoundingBoxVolume")
    shape: Columns = {size: n, box_name: box, "Extent": n / box, "EulerNumber": sums.euler}
    locations: Columns = {"Location_Center_Z": np.zeros(len(n))}
    for name, axis in zip(names, reversed(range(ndim)), strict=True):
        shape |= {
            f"BoundingBoxMinimum_{name}": sums.low[:, axis],
            f"BoundingBoxMaximum_{name}": sums.high[:, axis],
            f"Center_{name}": centre[:, axis],
        }
        locations[f"Location_Center_{name}"] = centre[:, axis]
    largest = np.linalg.eigvalsh(inertia).clip(0)[:, ::-1]
    if ndim == 3:
        shape |= {
            "EquivalentDiameter": np.cbrt(6 * n / np.pi),
            "MajorAxisLength": np.sqrt(10 * (largest[:, 0] + largest[:, 1] - largest[:, 2]).clip(0)),
            "MinorAxisLength": np.sqrt(10 * (-largest[:, 0] + largest[:, 1] + largest[:, 2]).clip(0)),
        }
        return shape, locations
    perimeter = sums.border @ np.array(Outline.LENGTHS)
    xx, xy, yy = inertia[:, 0, 0], inertia[:, 0, 1], inertia[:, 1, 1]
    angle = np.where(xx == yy, np.where(xy < 0, np.pi / 4, -np.pi / 4), 0.5 * np.arctan2(0.0 - 2 * xy, yy - xx))
    shape |= {
        "EquivalentDiameter": np.sqrt(4 * n / np.pi),
        "MajorAxisLength": 4 * np.sqrt(largest[:, 0]),
        "MinorAxisLength": 4 * np.sqrt(largest[:, 1]),
        "Eccentricity": np.where(largest[:, 0] > 0, np.sqrt(1 - largest[:, 1] / largest[:, 0]), 0.0),
        "Orientation": np.degrees(angle),
        "Perimeter": perimeter,
        "FormFactor": 4 * np.pi * n / perimeter**2,
        "Compactness": perimeter**2 / np.maximum(4 * np.pi * n, 1),
    }
    return shape, locations


def _grey(sums: Sums, k: int, full: float) -> tuple[Columns, Columns]:
    n, edge = sums.pixels, sums.edge_pixels
    total, edge_total = sums.grey[:, k, 0], sums.edge_grey[:, k, 0]
    # An object that is the whole image has no edge; CellProfiler says 0 there.
    some_edge = edge > 0
    intensity: Columns = {
        "IntegratedIntensity": total / full,
        "MeanIntensity": total / n / full,
        "StdIntensity": _deviation(n, sums.grey[:, k]) / full,
        "MinIntensity": sums.lowest[:, k] / full,
        "MaxIntensity": sums.highest[:, k] / full,
        "IntegratedIntensityEdge": edge_total / full,
        "MeanIntensityEdge": np.where(some_edge, edge_total / edge, 0) / full,
        "StdIntensityEdge": np.where(some_edge, _deviation(edge, sums.edge_grey[:, k]), 0) / full,
        "MinIntensityEdge": np.where(some_edge, sums.edge_lowest[:, k], 0) / full,
        "MaxIntensityEdge": np.where(some_edge, sums.edge_highest[:, k], 0) / full,
    }
    ndim = sums.low.shape[1]
    mass = (sums.grey_first[:, k] - sums.low * total[:, np.newaxis]) / total[:, np.newaxis]
    apart = mass - _from_corner(sums)[0] / n[:, np.newaxis]
    intensity["MassDisplacement"] = np.sqrt((apart**2).sum(axis=1))
    where: Columns = {"CenterMassIntensity_Z": 0 * mass[:, 0], "MaxIntensity_Z": np.zeros(len(n))}
    for name, axis in zip("XYZ", reversed(range(ndim)), strict=False):
        where[f"CenterMassIntensity_{name}"] = sums.low[:, axis] + mass[:, axis]
        where[f"MaxIntensity_{name}"] = sums.highest_at[:, k, axis]
    return intensity, where


def _from_corner(sums: Sums) -> tuple[Array, Array]:
    """First (n, D) and second (n, D, D) sums of coordinates counted from the lower corner of each object's box."""
    n, low = sums.pixels[:, np.newaxis], sums.low
    extent = (sums.high - low).max(axis=1, initial=1).astype(float)
    if bool((sums.pixels * extent**2 >= 2.0**63).any()):
        raise InputError(
            f"an object has {int(sums.pixels.max()):,} pixels, too many for its moments; "
            "measure objects, not classes, or a coarser pyramid level"
        )
    first = sums.first - n * low
    cross = sums.first[:, :, np.newaxis] * low[:, np.newaxis, :]
    corner = low[:, :, np.newaxis] * low[:, np.newaxis, :]
    return first, sums.second - cross - cross.swapaxes(1, 2) + n[..., np.newaxis] * corner


def _variance(sums: Sums) -> Array:
    """(n, D, D) covariance of the coordinates of each object's pixels."""
    first, second = _from_corner(sums)
    n = sums.pixels[:, np.newaxis, np.newaxis]
    difference = _difference(n, second, first[:, :, np.newaxis], first[:, np.newaxis, :])
    return np.asarray(difference / n.astype(float) ** 2)


def _inertia(variance: Array) -> Array:
    ndim = variance.shape[-1]
    trace = np.trace(variance, axis1=1, axis2=2)
    return np.asarray(trace[:, np.newaxis, np.newaxis] * np.eye(ndim) - variance)


def _deviation(n: Array, sums: Array) -> Array:
    """Standard deviation of values from their number and (n, 2) the sums of them and of their squares."""
    return np.asarray(np.sqrt(_difference(n, sums[:, 1], sums[:, 0], sums[:, 0]).clip(0)) / n)


def _difference(n: Array, squares: Array, a: Array, b: Array) -> Array:
    """n * squares - a * b, as float; whole numbers without rounding before the end, since the two are nearly equal."""
    if squares.dtype.kind == "f":
        return np.asarray(n * squares - a * b)
    if (np.abs(n.astype(float) * squares) >= 2.0**62).any() or (np.abs(a.astype(float) * b) >= 2.0**62).any():
        n, squares, a, b = (array.astype(object) for array in (n, squares, a, b))
    return np.asarray(n * squares - a * b).astype(float)
