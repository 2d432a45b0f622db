"""What a run keeps between its steps: an array in blocks, one file each."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numcodecs import Blosc

from cellscribble.core.blocks import BlockGrid, Slices, overlap, relative
from cellscribble.core.errors import FileFormatError
from cellscribble.io.atomic import atomic_path, explain_write_error

FOLDER_FILES = 1000
"""Some disks are slow where a million files lie in one folder."""

_CODEC = Blosc("lz4", clevel=1, shuffle=Blosc.BITSHUFFLE)


class BlockFiles:
    """An array that is written block by block and read anywhere; 0 where nothing was written.

    Not a Zarr array: nobody else reads it, and a block through Zarr's machinery costs several times as much as
    packing and writing it.

    Parameters
    ----------
    folder : where the files lie
    grid : the blocks
    dtype : of the array, unsigned; a block with small values is stored in fewer bytes
    """

    def __init__(self, folder: Path, grid: BlockGrid, dtype: npt.DTypeLike) -> None:
        self.folder, self.grid, self.dtype = folder, grid, np.dtype(dtype)

    def write(self, k: int, values: npt.NDArray[Any]) -> None:
        """Write block `k`; another thread or process sees all of it or nothing.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        with atomic_path(numbered_path(self.folder, k), overwrite=True) as temporary:
            smallest = np.min_scalar_type(int(values.max(initial=0)))
            temporary.write_bytes(_CODEC.encode(np.ascontiguousarray(values, smallest)))

    def read(self, window: Slices) -> npt.NDArray[Any]:
        """The values in a window of the image.

        Raises
        ------
        FileFormatError
            If a file is damaged.
        """
        out = np.zeros([s.stop - s.start for s in window], self.dtype)
        for k in self.grid.numbers_meeting(window):
            box = self.grid.box(k)
            block = self._read(k, tuple(s.stop - s.start for s in box))
            if block is None:
                continue
            common = overlap(box, window)
            out[relative(common, window)] = block[relative(common, box)]
        return out

    def _read(self, k: int, shape: tuple[int, ...]) -> npt.NDArray[Any] | None:
        path = numbered_path(self.folder, k)
        try:
            stored = _CODEC.decode(path.read_bytes())
            return np.frombuffer(stored, f"u{len(stored) // math.prod(shape)}").reshape(shape)
        except FileNotFoundError:
            return None
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            raise FileFormatError(f"{path} cannot be read ({error}); delete {self.folder.parent}") from error


def make_folders(folder: Path, n: int) -> None:
    """Make the folders of the files of numbers 0..n-1. Raises OutputError if that is refused."""
    for k in range(0, n, FOLDER_FILES):
        parent = numbered_path(folder, k).parent
        try:
            parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explain_write_error(error, parent) from error


def numbered_path(folder: Path, k: int, suffix: str = "") -> Path:
    """Where the file of number `k` lies."""
    return folder / str(k // FOLDER_FILES) / f"{k}{suffix}"
