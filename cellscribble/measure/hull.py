"""The convex hull of an object in the plane, and what is measured of it: widths, and the smallest circle around it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def hull_corners(mask: npt.NDArray[np.bool_]) -> Array:
    """Corners (n, 2) int64 of the hull around the centres of an object's pixels.

    From the first pixel of the leftmost column along the smaller y to the right, and back; no corner lies on a line
    between two others.
    """
    (columns,) = np.nonzero(mask.any(axis=0))
    first = mask[:, columns].argmax(axis=0)
    last = len(mask) - 1 - mask[::-1, columns].argmax(axis=0)
    there = _turning_left(zip(first.tolist(), columns.tolist(), strict=True))
    back = _turning_left(zip(last[::-1].tolist(), columns[::-1].tolist(), strict=True))
    # Where a column has one pixel, both begin or end there.
    corners = there + [corner for corner in back if corner not in (there[0], there[-1])]
    return np.array(corners, np.int64)


def _turning_left(points: Any) -> list[tuple[int, int]]:
    """Of points (y, x) ordered by x those at which the way turns towards larger y when x grows."""
    kept: list[tuple[int, int]] = []
    for y, x in points:
        while len(kept) > 1:
            (y0, x0), (y1, x1) = kept[-2:]
            if (x1 - x0) * (y - y1) > (x - x1) * (y1 - y0):
                break
            kept.pop()
        kept.append((y, x))
    return kept


def hull_pixels(corners: Array) -> int:
    """Pixels whose centre lies in the hull around an object, here around the middles of its pixels' sides.

    So `ConvexArea` is counted in scikit-image and CellProfiler: never less than the object has.
    """
    columns = np.arange(corners[:, 1].min(), corners[:, 1].max() + 1)
    smallest = _lowest_y(corners, columns)
    largest = -_lowest_y(corners * (-1, 1), columns)
    # Of fractions: the next ones are farther from a whole number than this.
    return int((np.floor(largest + 1e-9) - np.ceil(smallest - 1e-9) + 1).sum())


def _lowest_y(corners: Array, columns: Array) -> Array:
    """Where the rim of that hull crosses the middle of each column at its smaller y."""
    lowest: dict[int, int] = {}
    # In half pixels, so that all is whole.
    for y, x in (2 * corners).tolist():
        for beside, above in ((x - 1, y), (x, y - 1), (x + 1, y)):
            lowest[beside] = min(above, lowest.get(beside, above))
    rim = np.array(_turning_left((y, x) for x, y in sorted(lowest.items())))
    return np.asarray(np.interp(2 * columns, rim[:, 1], rim[:, 0]) / 2)


def feret_diameters(corners: Array) -> tuple[float, float]:
    """Least and largest distance of two parallel lines that hold the hull with these corners between them."""
    places = corners.astype(float)
    apart = places[:, np.newaxis] - places
    widest = float(np.sqrt((apart**2).sum(axis=-1).max()))
    if len(corners) < 3:
        return 0.0, widest
    sides = np.roll(places, -1, axis=0) - places
    across = np.stack([-sides[:, 1], sides[:, 0]], axis=1) / np.linalg.norm(sides, axis=1)[:, np.newaxis]
    heights = places @ across.T
    return float(np.ptp(heights, axis=0).min()), widest


def enclosing_circle(corners: Array) -> tuple[Array, float]:
    """Centre (y, x) and radius of the smallest circle that holds the hull with these corners.

    Source: Chrystal, "On the problem to construct the minimum circle enclosing n given points in a plane", Proceedings
    of the Edinburgh Mathematical Society 3, 1884. The sums are those of centrosome, CellProfiler's library, in its
    order: whether a pixel on the circle counts as inside hangs on the last bit.
    """
    places = corners.astype(float)
    if len(places) < 3:
        centre = (places[0] + places[-1]) / 2
        return centre, _length(centre - places[0])
    a, b = 0, 1
    while True:
        others = [k for k in range(len(places)) if k not in (a, b)]
        side = places[a] - places[b]
        at_b = _angles(side, places[others] - places[b])
        at_a = _angles(-side, places[others] - places[a])
        opposite = np.pi - at_b - at_a
        k = int(opposite.argmin())
        if opposite[k] >= np.pi / 2:
            return (places[a] + places[b]) / 2, _length(side) / 2
        if at_a[k] <= np.pi / 2 and at_b[k] <= np.pi / 2:
            centre = _circumcentre(places[a], places[b], places[others[k]])
            return centre, _length(places[a] - centre)
        a, b = (others[k], b) if at_a[k] > np.pi / 2 else (a, others[k])


def _angles(side: Array, to: Array) -> Array:
    """Between one direction (2,) and several (n, 2)."""
    cosine = (side * to).sum(axis=1) / np.sqrt((side**2).sum() * (to**2).sum(axis=1))
    return np.asarray(np.abs(np.arccos(cosine)))


def _circumcentre(a: Array, b: Array, c: Array) -> Array:
    (ay, ax), (by, bx), (cy, cx) = a, b, c
    aa, bb, cc = ay**2 + ax**2, by**2 + bx**2, cy**2 + cx**2
    twice = 2 * (ax * (by - cy) + bx * (cy - ay) + cx * (ay - by))
    x = (aa * (by - cy) + bb * (cy - ay) + cc * (ay - by)) / twice
    y = (aa * (cx - bx) + bb * (ax - cx) + cc * (bx - ax)) / twice
    return np.array([y, x])


def _length(vector: Array) -> float:
    return float(np.sqrt((vector**2).sum()))
