"""Files of ROIs for images beyond ImageJ's coordinates: a zip for each tile."""

from __future__ import annotations

import re
from pathlib import Path

from cellscribble.core.errors import InputError

MAX_SIDE_PX = 60_535
"""The largest coordinate that ImageJ's 16 bits hold: it takes what is above for negative numbers."""

TILE_PX = 16_384
_TILE = re.compile(r"_y(\d+)_x(\d+)\.zip")


def tiles_of(path: Path, height: int, width: int) -> dict[Path, tuple[int, int]]:
    """The zips of an image's ROIs, each with the first pixel (y, x) that its coordinates count from.

    `path` alone, or, with a side above `MAX_SIDE_PX`, NAME_y0_x16384.zip and so on for tiles of `TILE_PX`.
    """
    if max(height, width) <= MAX_SIDE_PX:
        return {path: (0, 0)}
    starts = [(y, x) for y in range(0, height, TILE_PX) for x in range(0, width, TILE_PX)]
    return {path.with_name(f"{path.stem}_y{y}_x{x}.zip"): (y, x) for y, x in starts}


def find_tiles(path: Path) -> list[tuple[Path, tuple[int, int]]]:
    """The zips that are there, `path` or its tiles, each with the pixel (y, x) that its coordinates count from.

    Raises
    ------
    InputError
        If there is none.
    """
    if path.is_file():
        return [(path, (0, 0))]
    beside = path.parent.glob("*.zip") if path.parent.is_dir() else ()
    parts = {p: _TILE.fullmatch(p.name[len(path.stem) :]) for p in beside if p.name.startswith(path.stem)}
    found = [(p, (int(part[1]), int(part[2]))) for p, part in sorted(parts.items()) if part]
    if not found:
        raise InputError(f"no ROI file {path}; save one from the ROI Manager (More > Save)")
    return found
