"""Writing a TIFF of any size with its pyramid: tiled, packed, BigTIFF with OME metadata."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from cellscribble.io.atomic import atomic_path
from cellscribble.io.tiff import ome_metadata

TILE_PX = 512


def save_tiff_pyramid(
    path: str | Path,
    levels: Sequence[Any],
    axes: str,
    pixel_size_um: Sequence[float] | None = None,
    channel_names: Sequence[str] = (),
    overwrite: bool = False,
) -> None:
    """Write the levels of a pyramid tile by tile, so that memory does not grow with them.

    Parameters
    ----------
    path : file to write
    levels : arrays of one dtype with axes `axes` that slice, the finest first; of a volume those
        with all planes, since an OME-TIFF cannot halve the depth
    axes : "YX", "ZYX", "CYX" or "CZYX"
    pixel_size_um : of the finest level, micrometres per pixel, one for each spatial axis
    channel_names : one a channel

    Raises
    ------
    OutputError
        If `path` exists (without `overwrite`) or cannot be written.
    """
    planes = levels[0].shape[:-2]
    kept = list(itertools.takewhile(lambda level: level.shape[:-2] == planes, levels))
    with atomic_path(path, overwrite) as temporary, tifffile.TiffWriter(temporary, bigtiff=True, ome=True) as tiff:
        for number, level in enumerate(kept):
            if number == 0:
                own: dict[str, Any] = {
                    "subifds": len(kept) - 1,
                    "metadata": ome_metadata(axes, pixel_size_um, channel_names),
                }
            else:
                own = {"subfiletype": 1, "metadata": None}
            tiff.write(
                _tiles(level),
                shape=level.shape,
                dtype=level.dtype,
                tile=(TILE_PX, TILE_PX),
                photometric="minisblack",
                compression="zlib",
                **own,
            )


def _tiles(level: Any) -> Iterator[npt.NDArray[Any]]:
    """The tiles of all planes, row by row; those at the border are filled up with 0."""
    *planes, height, width = level.shape
    for plane in np.ndindex(*planes):
        for y, x in itertools.product(range(0, height, TILE_PX), range(0, width, TILE_PX)):
            tile = np.asarray(level[(*plane, slice(y, min(y + TILE_PX, height)), slice(x, min(x + TILE_PX, width)))])
            yield np.pad(tile, [(0, TILE_PX - n) for n in tile.shape])
