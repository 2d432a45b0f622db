"""Which blocks look empty on a low level of a pyramid, before anything is read at full size.

First comes a mask of all blocks from the lowest level that shows blocks at all (`low_level`, `looks_empty`). A
forecast needs no more. But a faint cell may not show there, so in a run a block that the mask calls empty is left
unread only where a level on which the smallest cell shows says the same (`glass_level`, `Glance`).
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cellscribble.core.blocks import BlockGrid, Slices, relative
from cellscribble.core.errors import CellScribbleError
from cellscribble.core.intensity import Intensity
from cellscribble.core.reading import reading
from cellscribble.core.volume import ImageVolume
from cellscribble.engine.empty import CELL_PX, FEWEST_CELLS, FLAT, cell_means, flat_mean
from cellscribble.engine.options import PredictOptions
from cellscribble.io.images import open_image

MAX_PIXELS = 1 << 26
"""Of a level: reading a larger one takes longer than a forecast may."""

BLOCK_PX = 16
"""Of the level along a block's edge: in fewer, cells and the glass around them are one grey."""

CHEAPER = 16
"""Times fewer pixels a level must have than the image, to be looked at before it."""

MASK_PX = 1 << 24
"""Of a level: a larger one takes too much memory for a mask beside a run."""

GROUP_BYTES = 4 << 20
"""Of the level: what is read of it at once, for all blocks in there; where blocks are large, one."""

KEPT_GROUPS = 1024
"""Of which answers are kept: blocks come in raster order, and this is more than a row of groups."""


def low_level(shapes: Sequence[Sequence[int]], counts: Sequence[int]) -> int:
    """Which level of a pyramid to look at: the lowest that shows blocks in `BLOCK_PX` pixels; 0 if none is small.

    shapes : of the levels, the finest first
    counts : of the blocks along each axis
    """

    def is_fine(shape: Sequence[int]) -> bool:
        return all(n >= BLOCK_PX * count for n, count in zip(shape[-2:], counts[-2:], strict=True))

    small = [k for k, shape in enumerate(shapes) if k and math.prod(shape) <= MAX_PIXELS]
    fine = [k for k in small if is_fine(shapes[k])]
    return fine[-1] if fine else next(iter(small), 0)


def looks_empty(
    low: ImageVolume, intensity: Intensity, grid: BlockGrid, halo_px: Sequence[int]
) -> npt.NDArray[np.bool_]:
    """(len(grid),) bool: whether all that a low level shows of a block is of one brightness, as far as `FLAT`.

    Parameters
    ----------
    low : coarse pixels of the whole image
    intensity : the image's, or that of the level
    grid : over the image at full size
    halo_px : what the network sees around a block, which counts too

    Raises
    ------
    FileFormatError
        If it is damaged.
    """
    with reading(low):
        pixels = np.asarray(low.data)
    darkest = brightest = pixels
    for axis, n in enumerate(grid.shape, start=1):
        block, size = grid.block_px[axis - 1], pixels.shape[axis]
        starts = np.arange(grid.counts[axis - 1]) * block
        first = np.maximum(starts - halo_px[axis - 1], 0) * size // n
        last = np.minimum(starts + block + halo_px[axis - 1], n) - 1
        # A window that ends with the array has no index to end at.
        ends = np.stack([np.minimum(first, size - 1), np.minimum(last * size // n, size - 1) + 1], axis=1).ravel()
        room = [(0, int(a == axis)) for a in range(pixels.ndim)]
        darkest = np.minimum.reduceat(np.pad(darkest, room, mode="edge"), ends, axis)
        brightest = np.maximum.reduceat(np.pad(brightest, room, mode="edge"), ends, axis)
        windows = (slice(None),) * axis + (slice(None, None, 2),)
        darkest, brightest = darkest[windows], brightest[windows]
    return np.asarray((intensity.apply(brightest) - intensity.apply(darkest) <= FLAT).all(axis=0)).ravel()


def glass_level(image: ImageVolume, seen: Sequence[int]) -> int:
    """The lowest level of an image on which the smallest object shows as in the image itself; 0 if there is none.

    A pixel of it stands for no more than a cell of `CELL_PX` by `CELL_PX`, whose mean is looked at there.

    seen : spatial shape in which the network sees the image
    """

    def shows(shape: Sequence[int]) -> bool:
        steps = [n / m for n, m in zip(seen, shape, strict=True)]
        fine = max(steps[-2:]) <= CELL_PX * 1.01 and math.prod(steps) <= CELL_PX**2 * 1.01
        return fine and math.prod(shape) * CHEAPER <= image.n_pixels

    return max((k for k, level in enumerate(image.levels) if k and shows(level.shape)), default=0)


def open_below(path: Path | str, below: int, options: PredictOptions) -> ImageVolume | None:
    """So many levels below that of `options`, to be read piece by piece; None where it is the same.

    Raises
    ------
    CellScribbleError
        As `open_image`.
    """
    if not below:
        return None
    level = (options.level or 0) + below
    return open_image(path, axes=options.axes, timepoint=options.timepoint, level=level, lazy=True)


def glance_at(
    image: ImageVolume,
    open_level: Callable[[int], ImageVolume | None],
    grid: BlockGrid,
    around_px: Sequence[int],
    intensity: Intensity,
) -> Glance | None:
    """What is seen of blocks before they are read; None where no level serves, or the image is in memory.

    Parameters
    ----------
    open_level : `open_below` of the image
    grid, around_px, intensity : as of `Glance`
    """
    if isinstance(image.data, np.ndarray):
        return None
    shapes = [level.shape for level in image.levels]
    glass, lowest = glass_level(image, grid.shape), low_level(shapes, grid.counts)
    low = mask = None
    # What cannot be opened or read says nothing: the blocks themselves are looked at.
    with contextlib.suppress(CellScribbleError):
        low = open_level(glass)
    if low is None:
        return None
    if lowest > glass and math.prod(shapes[lowest]) <= MASK_PX:
        with contextlib.suppress(CellScribbleError):
            of_mask = open_level(lowest)
            mask = None if of_mask is None else looks_empty(of_mask, intensity, grid, around_px)
    return Glance(low, grid, around_px, intensity, mask)


class Glance:
    """What a coarser level shows of blocks: what is flat there need not be read at full size. Thread-safe.

    If the level was made by averaging, its pixels are the means that `EmptyTest` looks at. If it holds single pixels
    instead, noise keeps it from being flat, and blocks are read. What is one value all over may never have been
    written, on this level alone, so such a block is read too: it costs little.

    Parameters
    ----------
    low : as `glass_level` finds it
    grid : over the image as the network sees it
    around_px : what the network reads around a block
    intensity : the image's
    mask : (len(grid),) bool, False for blocks that plainly show something: these are not looked at
    """

    def __init__(
        self,
        low: ImageVolume,
        grid: BlockGrid,
        around_px: Sequence[int],
        intensity: Intensity,
        mask: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        self._low, self._grid, self._around_px, self._intensity, self._mask = low, grid, around_px, intensity, mask
        steps = [n / m for n, m in zip(grid.shape, low.spatial_shape, strict=True)]
        y, x = (max(1, round(CELL_PX / step)) for step in steps[-2:])
        self._cell_px = y, x
        alone = (1,) * (len(steps) - 2)
        n_planes = math.prod(-(-b // s) for b, s in zip(grid.block_px[:-2], steps[:-2], strict=True))
        edge_px = math.isqrt(int(GROUP_BYTES // (n_planes * low.n_channels * low.data.dtype.itemsize)))
        sizes = zip(steps[-2:], grid.block_px[-2:], strict=True)
        self._n_blocks = (*alone, *(max(1, int(edge_px * step) // block) for step, block in sizes))
        self._groups = BlockGrid(grid.shape, tuple(n * b for n, b in zip(self._n_blocks, grid.block_px, strict=True)))
        self._lock = threading.Lock()
        self._of_group = functools.lru_cache(maxsize=KEPT_GROUPS)(self._look)

    def __call__(self, k: int) -> npt.NDArray[np.float32] | None:
        """The mean (C,) of block `k` and what is around it, normalised, if all of it is flat; None otherwise."""
        if self._mask is not None and not self._mask[k]:
            return None
        group = [at // n for at, n in zip(self._grid.place(k), self._n_blocks, strict=True)]
        with self._lock:  # who comes second would only read the same
            return self._of_group(self._groups.number(group)).get(k)

    def _look(self, group: int) -> dict[int, npt.NDArray[np.float32]]:
        """Block to mean, of those in a group that are flat."""
        window = self._on_level(self._groups.window(group, self._around_px))
        found = {}
        try:
            with reading(self._low, window):
                pixels = np.asarray(self._low.data[(slice(None), *window)])
            for k in self._grid.numbers(self._grid.meeting(self._groups.box(group))):
                place = relative(self._on_level(self._grid.window(k, self._around_px)), window)
                part = pixels[(slice(None), *place)]
                if part.min() == part.max():
                    continue
                means = self._intensity.apply(cell_means(part, cell_px=self._cell_px))
                mean = flat_mean(means) if min(means.shape[-2:]) >= FEWEST_CELLS else None
                if mean is not None:
                    found[k] = mean
        except CellScribbleError:
            return {}  # damaged, or NaN: the blocks themselves are looked at
        return found

    def _on_level(self, window: Slices) -> Slices:
        """The pixels of the level that show a window of the image."""
        sizes = zip(window, self._grid.shape, self._low.spatial_shape, strict=True)
        return tuple(slice(s.start * m // n, -(-s.stop * m // n)) for s, n, m in sizes)
