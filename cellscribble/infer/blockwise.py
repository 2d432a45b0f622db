"""The network over an image of any size, block by block, with the result of the whole."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from cellscribble.bundle import Model
from cellscribble.core.blocks import block_size, plan_blocks, read_padded
from cellscribble.core.errors import OutputError
from cellscribble.core.intensity import fit_intensity
from cellscribble.core.reading import reading
from cellscribble.core.volume import ImageVolume
from cellscribble.infer.planes import sees_planes
from cellscribble.infer.runner import Runner

DEFAULT_BLOCK_PX = {2: (1024, 1024), 3: (64, 192, 192)}
"""By number of spatial axes. Larger blocks spend less on halos and need more memory."""

PLANES_BLOCK_PX = (32, 384, 384)
"""Of a stack whose planes are seen one by one: the network's halo lies in the plane alone."""

MAX_BYTES_IN_MEMORY = 1 << 31
"""Probability beyond this lies in a temporary file that vanishes with the array."""


Progress = Callable[[int, int], None]
"""Called with (blocks done, blocks in all)."""


def predict_probability(
    image: ImageVolume,
    model: Model,
    runner: Runner,
    block_px: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> npt.NDArray[np.float32]:
    """Probability (K, *spatial) float32 of an image that fits the model (see `predict.check_fit`).

    Intensity is fitted once to the whole image, blocks lie on the network's stride and carry its
    halo, so the block size does not change the result (to 1e-5, the rounding of float32).

    Parameters
    ----------
    image : in memory or lazy; one block at a time is read
    block_px : size of what a block writes, px; by default `DEFAULT_BLOCK_PX`, at most the image

    Raises
    ------
    InputError
        If the block size is impossible, or the image holds NaN or is constant.
    FileFormatError
        If a lazy image turns out to be damaged.
    ModelError
        If the network fails on a block.
    OutputError
        If a large result does not fit into the temporary folder.
    """
    meta = model.metadata
    shape = image.spatial_shape
    if block_px is None:
        block_px = default_block_px(len(shape), sees_planes(meta))
    block = block_size(shape, block_px, meta.stride_multiple)
    with reading(image):
        intensity = fit_intensity(image, meta.intensity)
    blocks = list(plan_blocks(shape, block, meta.halo_px, meta.stride_multiple))
    out = allocate((len(meta.classes), *shape))
    for n_done, piece in enumerate(blocks, start=1):
        with reading(image, piece.read):
            pixels = read_padded(image.data, piece.read)
        out[(slice(None), *piece.write)] = runner(intensity.apply(pixels), piece.keep)
        if progress is not None:
            progress(n_done, len(blocks))
    return out


def allocate(shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """An empty float32 array; beyond `MAX_BYTES_IN_MEMORY` in a file without a name.

    Raises
    ------
    OutputError
        If the temporary folder has too little room.
    """
    n_bytes = math.prod(shape) * 4
    if n_bytes <= MAX_BYTES_IN_MEMORY:
        return np.empty(shape, np.float32)
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    # Writing to a mapped file on a full disk kills the process, so the room is taken beforehand.
    remedy = f"set TMPDIR to a folder with {n_bytes / 1e9:.0f} GB free"
    if free < n_bytes:
        raise OutputError(f"probability needs {n_bytes / 1e9:.1f} GB but {folder} has {free / 1e9:.1f}; {remedy}")
    with tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(file.fileno(), 0, n_bytes)
            except OSError as error:
                raise OutputError(f"{folder} cannot hold the probability ({error.strerror}); {remedy}") from None
        return np.memmap(file, np.float32, "w+", shape=shape)


def default_block_px(ndim: int, by_planes: bool) -> tuple[int, ...]:
    """The size of a block where memory does not matter; `by_planes` if the network sees one plane at a time."""
    return PLANES_BLOCK_PX if by_planes else DEFAULT_BLOCK_PX[ndim]
