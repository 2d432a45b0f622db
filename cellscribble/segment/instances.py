"""Probability -> objects: a seeded watershed whose settings are lengths and areas in pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cellscribble.core.errors import InputError
from cellscribble.core.labels import label_dtype
from cellscribble.segment import watershed as steps

QUANTUM = 1024
"""Probability is rounded to 1/1024 before any decision, see `foreground`."""


@dataclass(frozen=True, slots=True)
class InstanceParameters:
    """Settings of the segmenter "instances"; stored in the model, chosen by `fit_instance_parameters`.

    threshold : a pixel is foreground where 1 - p(background) exceeds this, 0..1
    seed_distance_px : two objects' centres are at least this far apart
    smoothing_px : Gaussian on the distance map; raise it when ragged cells fall into pieces
    neck_ratio : two parts are one object when the neck between them is wider than this share of
        the smaller part, 0..1; lower it to cut less, 1 cuts every summit apart
    smallest_object_px : smaller objects are dropped, pixels (voxels)
    largest_hole_px : enclosed holes up to this size are filled, pixels (voxels)
    spacing : relative size of a pixel on each axis, as (5.0, 1.0, 1.0) for thick sections; None
        for square pixels. Lengths are in units of it, so give the finest axis 1.

    Raises
    ------
    InputError
        If a value is out of range.
    """

    threshold: float = 0.5
    seed_distance_px: float = 6.0
    smoothing_px: float = 1.0
    neck_ratio: float = 0.85
    smallest_object_px: int = 16
    largest_hole_px: int = 16
    spacing: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("threshold", "neck_ratio"):
            _check(name, getattr(self, name), 0.0, 1.0)
        for name in ("seed_distance_px", "smoothing_px", "smallest_object_px", "largest_hole_px"):
            _check(name, getattr(self, name), 0.0, math.inf)
        for value in self.spacing or ():
            if not 0 < value < math.inf:
                raise InputError(f"spacing is {self.spacing}; expected positive numbers")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(self)
        values["spacing"] = None if self.spacing is None else list(self.spacing)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> InstanceParameters:
        """Read what `to_dict` wrote; absent names take their default.

        Raises
        ------
        InputError
            If a name is unknown or a value out of range.
        """
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise InputError(f"unknown segmenter parameters {unknown}; expected {', '.join(known)}")
        spacing = values.get("spacing")
        given = {**values, "spacing": None if spacing is None else tuple(float(s) for s in spacing)}
        return cls(**given)


def _check(name: str, value: Any, low: float, high: float) -> None:
    # Spelled so that NaN fails too.
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(f"{name} is {value!r}; expected a number from {low:g} to {high:g}")


def segment_instances(
    probability: npt.NDArray[np.floating[Any]], parameters: Mapping[str, Any]
) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Separate the foreground into objects.

    Parameters
    ----------
    probability : (K, *spatial) float, background first, sums to 1 over K
    parameters : an `InstanceParameters` as a mapping

    Returns
    -------
    (*spatial) uint16 (uint32 above 65,535 objects) : 0 background, objects 1..N in raster order of
    their first pixel, so that equal masks give equal files.

    Raises
    ------
    InputError
        If there is no foreground channel, or the spacing has another length than the space.

    Notes
    -----
    Classes are not kept apart here: two cells of different class that touch are separated by shape
    alone. `object_classes` names each object's class afterwards.

    Source: the distance-transform watershed of L. Vincent and P. Soille, "Watersheds in digital
    spaces", IEEE TPAMI 13, 1991. We choose summits by distance and relative dynamics.
    """
    settings = InstanceParameters.from_dict(parameters)
    return segment_mask(foreground(probability, settings), settings)


def segment_mask(mask: npt.NDArray[np.bool_], settings: InstanceParameters) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Separate a foreground mask (*spatial) bool into objects, as `segment_instances` does."""
    spacing = spacing_of(settings, mask.ndim)
    parts, _ = ndimage.label(mask)
    height = steps.height_map(mask, settings.smoothing_px, spacing)
    seeds = steps.find_seeds(height, parts, settings.seed_distance_px, spacing)
    basins = steps.flood(height, seeds, mask)
    joined = steps.join_wide_necks(basins, height, settings.neck_ratio)
    labels, n = steps.keep_large(joined, settings.smallest_object_px)
    return labels.astype(label_dtype(n))


def foreground(probability: npt.NDArray[np.floating[Any]], settings: InstanceParameters) -> npt.NDArray[np.bool_]:
    """The mask that is cut into objects: above the threshold, small holes filled.

    Blocks of another size change a probability by about 1e-6. No rounding can make a threshold
    blind to that everywhere, but it can move the edge away from where values pile up: after
    rounding to 1/1024 the edge lies half a step above the threshold, so that the many pixels at
    exactly 0.5 (a network that knows nothing, symmetric logits) fall on one side for certain. Only
    a pixel within 1e-6 of that edge can still flip. Everything after the mask is made of whole
    numbers or of the mask itself and adds no noise.
    """
    if probability.ndim < 2 or probability.shape[0] < 2:
        raise InputError(
            f"probability has shape {probability.shape}; expected (K, *spatial) with background "
            "first and at least one class"
        )
    steps_of_probability = np.rint((1.0 - probability[0]) * QUANTUM)
    mask = steps_of_probability > settings.threshold * QUANTUM
    return steps.fill_small_holes(mask, int(settings.largest_hole_px))


def spacing_of(settings: InstanceParameters, ndim: int) -> tuple[float, ...]:
    """The spacing for `ndim` axes; all 1 where none is set.

    Raises
    ------
    InputError
        If the spacing was given for another number of axes.
    """
    if settings.spacing is None:
        return (1.0,) * ndim
    if len(settings.spacing) != ndim:
        raise InputError(f"spacing is {settings.spacing} but the image has {ndim} spatial axes")
    return settings.spacing


def object_classes(
    labels: npt.NDArray[np.integer[Any]], probability: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[np.int64]:
    """The class of each object: the foreground class that most of its pixels favour.

    Parameters
    ----------
    labels : (*spatial) int, 0 background, 1..N
    probability : (K, *spatial) float, background first

    Returns
    -------
    (N,) int64 : 1..K-1; of classes with equal votes the first
    """
    n, n_classes = int(labels.max(initial=0)), probability.shape[0] - 1
    inside = labels > 0
    favourite = np.argmax(probability[1:, inside], axis=0)
    votes = np.bincount((labels[inside].astype(np.int64) - 1) * n_classes + favourite, minlength=n * n_classes)
    return np.asarray(np.argmax(votes.reshape(n, n_classes), axis=1) + 1) if n else np.zeros(0, np.int64)
