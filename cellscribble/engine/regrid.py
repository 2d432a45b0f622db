"""From the grid that the network sees to the image's own, where an image is resampled (`Task.shape`).

::

    Lost     numbers of objects -> those in a block     those between the centres of its pixels leave no gap
    Lay      numbers of objects -> labels
    Spread   probability        -> probability, uncertainty
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cellscribble.core.blocks import BlockGrid, Slices, overlap, relative
from cellscribble.engine.block_files import BlockFiles, numbered_path
from cellscribble.engine.journal import DONE, EMPTY
from cellscribble.engine.steps import Levels, write_levels
from cellscribble.infer.resample import close_gaps, missing, resample_labels, resample_part
from cellscribble.infer.uncertainty import uncertainty
from cellscribble.io.atomic import atomic_path


class Source(Protocol):
    """An array over the grid that the network sees."""

    @property
    def grid(self) -> BlockGrid:
        """Its blocks."""

    def read(self, window: Slices) -> npt.NDArray[Any]:
        """The values in a window."""


@dataclass(frozen=True, slots=True, eq=False)
class Numbered:
    """The number of the object of each pixel: `table` has, for block k, that of each of the block's own `numbers`."""

    numbers: BlockFiles
    table: Callable[[int], npt.NDArray[np.int64]]

    @property
    def grid(self) -> BlockGrid:
        return self.numbers.grid

    def read(self, window: Slices) -> npt.NDArray[np.int64]:
        out = np.zeros([s.stop - s.start for s in window], np.int64)
        for k in self.grid.numbers_meeting(window):
            common = overlap(self.grid.box(k), window)
            own = self.numbers.read(common)
            if own.any():
                out[relative(common, window)] = self.table(k)[own]
        return out


def _on_image(source: Source, grid: BlockGrid, k: int) -> npt.NDArray[Any]:
    """The label under the centre of each pixel of block `k` of the image."""
    return resample_labels(source.read, source.grid.shape, grid.shape, grid.box(k))


@dataclass(frozen=True, slots=True, eq=False)
class Lost:
    """Note which objects of 1..n are found in a block of the image; `all` tells which were found in none."""

    source: Source
    folder: Path
    grid: BlockGrid

    def __call__(self, k: int) -> str:
        found = np.unique(_on_image(self.source, self.grid, k))
        if not found.any():
            return EMPTY
        with (
            atomic_path(numbered_path(self.folder, k, ".npy"), overwrite=True) as temporary,
            temporary.open("wb") as file,
        ):
            np.save(file, found)
        return DONE

    def all(self, n: int) -> npt.NDArray[np.int64]:
        """The numbers of 1..n that are in no block, rising."""
        paths = (numbered_path(self.folder, k, ".npy") for k in range(len(self.grid)))
        return missing(n, (np.load(path) for path in paths if path.exists()))


@dataclass(frozen=True, slots=True, eq=False)
class Lay:
    """Give the pixels of a block of the image the labels under their centres.

    Those of 1..n that are `lost` leave no gap.
    """

    source: Source
    levels: Levels
    lost: npt.NDArray[np.int64]
    n: int
    grid: BlockGrid

    def __call__(self, k: int) -> str:
        labels = _on_image(self.source, self.grid, k)
        if not labels.any():
            return EMPTY
        dtype = self.levels[0][0].dtype
        write_levels(self.levels, self.grid.box(k), close_gaps(labels, self.lost, self.n).astype(dtype, copy=False))
        return DONE


class Exact:
    """Probability (K, *spatial) float32 block by block, as it is: its bits are kept as whole numbers."""

    def __init__(self, folder: Path, grid: BlockGrid, n: int) -> None:
        self.grid = grid
        self.files = [BlockFiles(folder / str(c), grid, np.uint32) for c in range(n)]

    def write(self, k: int, probability: npt.NDArray[np.float32]) -> None:
        """Write block `k`."""
        for files, plane in zip(self.files, probability, strict=True):
            files.write(k, np.ascontiguousarray(plane, np.float32).view(np.uint32))

    def read(self, window: Slices) -> npt.NDArray[np.float32]:
        """(K, *window)."""
        return np.stack([files.read(window).view(np.float32) for files in self.files])


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """Write a block of the image: probability (K, *spatial) and uncertainty (1, *spatial), 255 for 1.

    Each may be None.
    """

    source: Exact
    probability: Any
    uncertainty: Any
    grid: BlockGrid

    def __call__(self, k: int) -> str:
        box = self.grid.box(k)
        found = resample_part(self.source.read, self.source.grid.shape, self.grid.shape, box, smooth=False)
        if self.probability is not None:
            self.probability[(slice(None), *box)] = np.rint(found * 255).astype(np.uint8)
        if self.uncertainty is not None:
            self.uncertainty[(0, *box)] = uncertainty(found)
        return DONE


def may_lose(seen: Sequence[int], image: Sequence[int]) -> bool:
    """Whether a pixel of the `seen` shape may lie under no pixel's centre."""
    return any(n > m for n, m in zip(seen, image, strict=True))
