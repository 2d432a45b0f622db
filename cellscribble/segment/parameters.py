"""The settings of the segmenter "instances", and how far around a pixel they make it look."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cellscribble.core.errors import InputError
from cellscribble.segment.basins import RIM_PX
from cellscribble.segment.height import reach_px
from cellscribble.segment.holes import widest_px
from cellscribble.segment.settings import check_names, check_number

MAX_RADIUS_PX = 4096.0
"""No cell is that large; heights must fit beside a code into 32 bits."""


@dataclass(frozen=True, slots=True)
class InstanceParameters:
    """Settings of the segmenter "instances"; stored in the model, chosen by `fit_instance_parameters`.

    threshold : a pixel is foreground where 1 - p(background) exceeds this, 0..1
    seed_distance_px : two objects' centres are at least this far apart
    smoothing_px : Gaussian on the distance map; raise it when ragged cells fall into pieces
    neck_ratio : two parts are one object when the neck between them is wider than this share of
        the smaller part, 0..1; lower it to cut less, 1 cuts every summit apart
    smallest_object_px : smaller objects are dropped, pixels (voxels)
    largest_hole_px : enclosed compact holes up to this size are filled, pixels (voxels)
    plane_holes : holes of a volume are those of each of its planes, as a model of planes knows them
    largest_radius_px : the shape of a cell is seen up to this distance from its border. A larger
        one stays whole, but where two such touch they may stay one. Larger values cost time where
        an image is cut into blocks: each must see that much around it.
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
    largest_radius_px: float = 64.0
    spacing: tuple[float, ...] | None = None
    plane_holes: bool = False

    def __post_init__(self) -> None:
        for name in ("threshold", "neck_ratio"):
            check_number(name, getattr(self, name), 0.0, 1.0)
        for name in ("seed_distance_px", "smoothing_px", "smallest_object_px", "largest_hole_px"):
            check_number(name, getattr(self, name), 0.0, math.inf)
        check_number("largest_radius_px", self.largest_radius_px, 1.0, MAX_RADIUS_PX)
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
        check_names(values, cls, "segmenter parameters")
        spacing = values.get("spacing")
        given = {**values, "spacing": None if spacing is None else tuple(float(s) for s in spacing)}
        return cls(**given)


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


def halo_px(settings: InstanceParameters, ndim: int) -> tuple[int, ...]:
    """What a block must see around it, so that its objects are those of the whole image; px a side.

    A hole, the distance to the background, the Gaussian, and the basins' view over the face.
    """
    reach = reach_px(settings.smoothing_px, settings.largest_radius_px, spacing_of(settings, ndim))
    hole = [widest_px(int(settings.largest_hole_px), ndim) + 1] * ndim
    if settings.plane_holes and ndim == 3:
        hole = [0, *[widest_px(int(settings.largest_hole_px), 2) + 1] * 2]
    return tuple(h + r + RIM_PX for h, r in zip(hole, reach, strict=True))
