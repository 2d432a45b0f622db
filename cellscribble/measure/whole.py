"""Measurements for which an object must be seen whole: hull, widths, radii, Zernike features, surface, quartiles.

Each object is looked at in its own bounding box; neighbours are read together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.measure import marching_cubes, mesh_surface_area

from cellscribble.core.blocks import Slices
from cellscribble.core.volume import ImageVolume
from cellscribble.measure.blockwise import label_numbers, spacing_of
from cellscribble.measure.features import Columns
from cellscribble.measure.hull import feret_diameters, hull_corners, hull_pixels
from cellscribble.measure.sums import Sums
from cellscribble.measure.zernike import INDICES, zernike_features

Array = npt.NDArray[Any]

MAX_BOX_PIXELS = 1 << 26
"""Of larger objects these measurements are nan: they would have to be in memory whole."""

_ROUND = ("ConvexArea", "Solidity", "MaximumRadius", "MeanRadius", "MedianRadius")
_WIDTHS = ("MinFeretDiameter", "MaxFeretDiameter")
_ZERNIKE = tuple(f"Zernike_{n}_{m}" for n, m in INDICES)
_SHAPE = {2: (*_ROUND, *_WIDTHS, *_ZERNIKE), 3: ("SurfaceArea",)}
_GREY = ("LowerQuartileIntensity", "MedianIntensity", "UpperQuartileIntensity", "MADIntensity")


def whole_names(ndim: int, channels: Sequence[str]) -> list[str]:
    """What `whole_object_table` gives."""
    grey = [f"Intensity_{name}_{channel}" for channel in channels for name in _GREY]
    return [f"AreaShape_{name}" for name in _SHAPE[ndim]] + grey


def whole_object_table(
    labels: ImageVolume,
    image: ImageVolume | None,
    sums: Sums,
    channels: Sequence[str],
    full_scale: float,
    block_px: Sequence[int],
) -> Columns:
    """The features of each object, name to (n,) float64, as CellProfiler defines them.

    Quartiles and median stand at n * q in the n sorted values, counted from 0, between two values in proportion.
    MAD is in 2D the median distance from the median, in 3D the distance that a third does not reach, as CellProfiler
    4.2 has it. Areas and lengths are in pixels; `SurfaceArea` in pixels as large as those along y.

    Parameters
    ----------
    labels, image : as `sum_objects` has them
    sums : of n objects that begin in one block
    channels : names of the image's channels
    full_scale : the value that becomes 1
    block_px : size of that block
    """
    names = whole_names(labels.ndim, channels)
    out = np.full((len(names), len(sums)), np.nan)
    spacing = spacing_of(labels)
    boxes = _boxes(sums)
    for group in _apart([i for i in range(len(sums)) if _n_pixels(boxes[i]) <= MAX_BOX_PIXELS], boxes, block_px):
        window = _around([boxes[i] for i in group])
        numbers = label_numbers(labels.data[(0, *window)], labels.name)
        values = np.zeros((0, *numbers.shape))
        if image is not None:
            values = np.asarray(image.data[(slice(None), *window)])
        for i in group:
            box = tuple(slice(b.start - w.start, b.stop - w.start) for b, w in zip(boxes[i], window, strict=True))
            mask = numbers[box] == sums.ids[i]
            if labels.ndim == 2:
                found = _shape_2d(mask, sums.low[i])
            else:
                found = [_surface(numbers, int(sums.ids[i]), box, spacing)]
            for channel in values:
                found += _quartiles(channel[box][mask] / full_scale, labels.ndim)
            out[:, i] = found
    return dict(zip(names, out, strict=True))


def _boxes(sums: Sums) -> list[Slices]:
    return [
        tuple(slice(a, b) for a, b in zip(*corners, strict=True))
        for corners in zip(sums.low.tolist(), sums.high.tolist(), strict=True)
    ]


def _around(boxes: list[Slices]) -> Slices:
    """The window that holds all boxes and a pixel around them; it may end beyond the image, as slices may."""
    axes = list(zip(*boxes, strict=True))
    return tuple(slice(max(min(s.start for s in axis) - 1, 0), max(s.stop for s in axis) + 1) for axis in axes)


def _apart(objects: list[int], boxes: Sequence[Slices], block_px: Sequence[int]) -> list[list[int]]:
    """Objects of one block that are read together; one that is wider than a block is read alone."""
    together: list[int] = []
    alone: list[list[int]] = []
    for i in objects:
        wide = any(b.stop - b.start > n for b, n in zip(boxes[i], block_px, strict=True))
        if wide:
            alone.append([i])
        else:
            together.append(i)
    return [*alone, together] if together else alone


def _n_pixels(box: Slices) -> int:
    return int(np.prod([b.stop - b.start for b in box], dtype=float))


def _shape_2d(mask: npt.NDArray[np.bool_], start: Array) -> list[float]:
    """`_SHAPE` of an object; its box begins at `start` in the image."""
    # A pixel's distance to the outside of the object, whose box ends at it.
    inside = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1][mask]
    radii = [float(inside.max()), float(inside.mean()), float(np.median(inside))]
    corners = hull_corners(mask)
    convex = hull_pixels(corners)
    patterns = zernike_features(np.argwhere(mask) + start, corners + start)
    return [convex, len(inside) / convex, *radii, *feret_diameters(corners), *patterns.tolist()]


def _surface(numbers: Array, own: int, box: Slices, spacing: tuple[float, ...]) -> float:
    volume = numbers[tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)] == own
    try:
        mesh = marching_cubes(volume, method="lewiner", spacing=spacing, level=0)  # type: ignore[no-untyped-call]
    except (ValueError, RuntimeError):
        # It fills its box up to the image's border: no surface inside the image.
        return float("nan")
    return float(mesh_surface_area(*mesh[:2]))  # type: ignore[no-untyped-call]


def _quartiles(values: Array, ndim: int) -> list[float]:
    ordered = np.sort(values.astype(float))
    lower, median, upper = (_quantile(ordered, share) for share in (0.25, 0.5, 0.75))
    return [lower, median, upper, _quantile(np.sort(abs(ordered - median)), 1 / ndim)]


def _quantile(ordered: Array, share: float) -> float:
    at = len(ordered) * share
    k = int(at)
    if k >= len(ordered) - 1:
        return float(ordered[k])
    return float(ordered[k] * (1 - (at - k)) + ordered[k + 1] * (at - k))
