"""The arrays a large run writes: those that are only its own, and those that become the result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from cellscribble.core.blocks import BlockGrid
from cellscribble.core.volume import ImageVolume
from cellscribble.io.atomic import atomic_path
from cellscribble.io.ome_zarr import CHUNK_PX, create_ome_zarr

FAST: dict[str, Any] = {"id": "blosc", "cname": "lz4", "clevel": 1, "shuffle": 2}
"""For what is read once and deleted: bitshuffled numbers pack well even so."""


def open_array(path: Path, grid: BlockGrid, dtype: npt.DTypeLike) -> Any:
    """An array for the run's own use with one chunk a block, 0 where nothing was written."""
    if not path.exists():
        with atomic_path(path) as temporary:
            zarr.create_array(
                str(temporary),
                shape=grid.shape,
                chunks=tuple(min(b, n) for b, n in zip(grid.block_px, grid.shape, strict=True)),
                dtype=np.dtype(dtype),
                fill_value=0,
                compressors=FAST,
                zarr_format=2,
                # Folders in folders: some disks are slow where a million files lie in one.
                chunk_key_encoding={"name": "v2", "separator": "/"},
            )
    return zarr.open_array(str(path), mode="r+")


def open_labels(
    path: Path,
    image: ImageVolume,
    block_px: Sequence[int],
    dtype: npt.DTypeLike,
    version: str,
) -> Any:
    """The group of the label pyramid, its levels empty where nothing was written."""
    if not path.exists():
        with atomic_path(path) as temporary:
            create_ome_zarr(
                temporary,
                image.spatial_shape,
                dtype,
                image.axes[1:],
                image.pixel_size_um,
                name=path.stem,
                version=version,
                chunk_px=chunk_px(block_px),
            )
    return zarr.open_group(str(path), mode="r+")


def open_probability(
    path: Path, image: ImageVolume, block_px: Sequence[int], classes: Sequence[str], version: str
) -> Any:
    """The group of the probability's pyramid (K, *spatial) uint8, 255 for certain."""
    if not path.exists():
        with atomic_path(path) as temporary:
            create_ome_zarr(
                temporary,
                (len(classes), *image.spatial_shape),
                np.uint8,
                image.axes,
                image.pixel_size_um,
                kind="image",
                name=path.stem,
                channel_names=classes,
                version=version,
                chunk_px=chunk_px(block_px),
            )
    return zarr.open_group(str(path), mode="r+")


def chunk_px(block_px: Sequence[int]) -> tuple[int, ...]:
    """Chunks that divide a block, so that nobody else writes into one: the usual ones where they do."""
    usual = CHUNK_PX[len(block_px)]
    return tuple(b if b % c else c for b, c in zip(block_px, usual, strict=True))
