"""The stores that become the result of a large run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import zarr

from cellscribble.core.blocks import BlockGrid
from cellscribble.core.errors import OutputError
from cellscribble.core.volume import ImageVolume
from cellscribble.io.atomic import atomic_path
from cellscribble.io.ome_zarr import CHUNK_PX, create_ome_zarr

SHRINK_CHUNKS = (1, 2, 2)
"""Chunks along z, y, x of the piece of a pyramid's level that is made at once; where there are shards it is one."""


def open_store(
    path: Path,
    image: ImageVolume,
    block_px: Sequence[int],
    dtype: npt.DTypeLike,
    version: str,
    classes: Sequence[str] = (),
    source: str = "",
) -> Any:
    """The group of a pyramid over `image`, made if it is not there; 0 where nothing was written.

    Of labels (*spatial), or with `classes` of their probability (K, *spatial), with the levels of the image
    if it has some. `source` is the path from the labels to their image, where they become part of it. Several
    processes may call it at once.
    """
    if not path.exists():
        try:
            with atomic_path(path) as temporary:
                create_ome_zarr(
                    temporary,
                    (len(classes), *image.spatial_shape) if classes else image.spatial_shape,
                    dtype,
                    image.axes if classes else image.axes[1:],
                    image.pixel_size_um,
                    kind="image" if classes else "labels",
                    name=path.stem,
                    channel_names=classes,
                    levels=image.levels,
                    version=version,
                    chunk_px=chunk_px(block_px),
                    shard_px=block_px,
                    source=source,
                )
        except OutputError:
            if not path.exists():
                raise
            # Another process was first; the two are alike.
    return zarr.open_group(str(path), mode="r+")


def n_levels(group: Any) -> int:
    """Levels of a pyramid."""
    return sum(1 for key in group.array_keys() if key.isdecimal())


def owned_levels(group: Any, grid: BlockGrid) -> list[tuple[Any, tuple[int, ...]]]:
    """The levels of a label pyramid in which each block of a grid has files of its own, with their steps.

    These can be written at once with level 0, while the block is at hand.
    """
    owned: list[tuple[Any, tuple[int, ...]]] = []
    step, shape = (1,) * len(grid.shape), grid.shape
    for level in range(n_levels(group)):
        array = group[str(level)]
        # Sizes are rounded, so only those of neighbouring levels tell the step between them.
        between = [-(-n // m) for n, m in zip(shape, array.shape, strict=True)]
        if any(-(-n // s) != m for n, s, m in zip(shape, between, array.shape, strict=True)):
            break
        step, shape = tuple(a * b for a, b in zip(step, between, strict=True)), array.shape
        own_files = (
            block >= n or block % (s * size) == 0
            for block, n, s, size in zip(grid.block_px, grid.shape, step, array.shards or array.chunks, strict=True)
        )
        if not all(own_files):
            break
        owned.append((array, step))
    return owned


def chunk_px(block_px: Sequence[int]) -> tuple[int, ...]:
    """Chunks that divide a block, so that nobody else writes into one: the usual ones where they do."""
    usual = CHUNK_PX[len(block_px)]
    return tuple(b if b % c else c for b, c in zip(block_px, usual, strict=True))
