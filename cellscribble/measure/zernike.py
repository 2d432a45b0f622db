"""Zernike features: the shape of an object written as a sum of patterns on the disk around it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.measure.hull import enclosing_circle

Array = npt.NDArray[Any]

ORDER = 9
"""The highest that CellProfiler measures."""

INDICES = tuple((n, m) for n in range(ORDER + 1) for m in range(n % 2, n + 1, 2))
"""Order n and how often the pattern repeats around the disk, m."""

PIXELS_AT_ONCE = 1 << 16
"""Of a large object: each takes 250 bytes meanwhile."""


def _radial(n: int, m: int) -> list[float]:
    """Coefficients of 1, r^2, r^4 ... in the radial polynomial of (n, m) over r^m, as many as any of them needs."""
    f, half, rest = math.factorial, (n + m) // 2, (n - m) // 2
    found = [(-1) ** k * f(n - k) / (f(k) * f(half - k) * f(rest - k)) for k in range(rest, -1, -1)]
    return found + [0.0] * (ORDER // 2 + 1 - len(found))


_RADIAL = np.array([_radial(n, m) for n, m in INDICES])
_TURNS = [m for _, m in INDICES]


def zernike_features(places: Array, corners: Array) -> Array:
    """The magnitudes (30,) of an object at `INDICES`, over the area of the smallest circle around it.

    nan for an object of one pixel, whose circle has none. Source: Boland et al., "Automated recognition of patterns
    characteristic of subcellular structures in fluorescence microscopy images", Cytometry 33, 1998; as in CellProfiler
    of the mask, not of grey values.

    Parameters
    ----------
    places : (n, 2) pixels (y, x) in the image
    corners : of their hull, as `hull_corners` gives them, in the image. A pixel on the circle counts if it lies inside
        by the last bit, as in CellProfiler, and the last bit hangs on where the object lies.
    """
    centre, radius = enclosing_circle(corners)
    if radius == 0:
        return np.full(len(INDICES), np.nan)
    sums = np.zeros((ORDER + 1, ORDER // 2 + 1), complex)
    for begin in range(0, len(places), PIXELS_AT_ONCE):
        y, x = ((places[begin : begin + PIXELS_AT_ONCE] - centre) / radius).T
        squares = x**2 + y**2
        inside = squares <= 1
        turns, squares = y[inside] + 1j * x[inside], squares[inside]
        sums += _powers(turns, ORDER) @ _powers(squares, ORDER // 2).T
    area = radius**2 * math.pi
    return np.asarray(abs((sums[_TURNS] * _RADIAL).sum(axis=1)) / area)


def _powers(values: Array, highest: int) -> Array:
    """Rows of values^0, values^1 ... values^highest."""
    out = np.ones((highest + 1, len(values)), values.dtype)
    for k in range(highest):
        np.multiply(out[k], values, out=out[k + 1])
    return out
