"""Which level of a pyramid is segmented."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cellscribble.bundle import ModelMetadata
from cellscribble.engine.options import PredictOptions
from cellscribble.infer.fit import format_um
from cellscribble.io.images import level_pixel_sizes

Sizes = Sequence[tuple[float, ...] | None]


@dataclass(frozen=True, slots=True)
class Level:
    """The level that is taken.

    index : from 0, the finest
    pixel_sizes_um : of all levels, where they were looked at
    words : why this one; "" where there was nothing to choose
    """

    index: int
    pixel_sizes_um: Sizes
    words: str


def choose_level(path: Path | str, meta: ModelMetadata, options: PredictOptions) -> Level:
    """The level that was asked for, or else the one whose pixels are nearest to the model's.

    Labels that go into the image have all its levels (OME-NGFF 0.4, section "labels"), so they are of the finest.

    Raises
    ------
    FileFormatError, InputError
        As `open_image`.
    """
    if meta.pixel_size_um is None or options.ignore_pixel_size:
        return Level(options.level or 0, (), "")
    sizes = level_pixel_sizes(path, axes=options.axes, timepoint=options.timepoint)
    if options.level is not None or options.into_image is not None or len(sizes) == 1:
        return Level(options.level or 0, sizes, "")
    # Planes that are seen one by one may lie as far apart as they will.
    compared = [size and size[-2:] for size in sizes] if options.planes and meta.ndim == 2 else sizes
    index = nearest_level(compared, meta.pixel_size_um)
    size = compared[index]
    if size is None or len(size) != len(meta.pixel_size_um):
        return Level(0, sizes, "")
    words = f"level {index} of {len(sizes)} (from 0), {format_um(size)}"
    return Level(index, sizes, f"{words}, is nearest to the model's {format_um(meta.pixel_size_um)}")


def nearest_level(sizes: Sizes, want: tuple[float, ...]) -> int:
    """The level whose pixel size is nearest to `want` by ratio, the finer of equal ones; 0 if none has a size.

    sizes : of each level from the finest, one number in µm for each spatial axis, or None
    """

    def distance(size: tuple[float, ...] | None) -> float:
        if size is None or len(size) != len(want):
            return math.inf
        return sum(math.log(s / w) ** 2 for s, w in zip(size, want, strict=True))

    # Sizes are rounded in files: a hair nearer is not nearer.
    return min(range(len(sizes)), key=lambda level: (round(distance(sizes[level]), 9), level))
