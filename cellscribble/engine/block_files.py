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

_CODEC = Blosc("lz4", clevel=1, shuffle=Blosc.NOSHUFFLE)
"""The fastest both ways: shuffled, numbers of objects take twice the time and half as much again of the disk."""

_BITS = b"1"
"""Before a block of 0 and 1, a bit a pixel: many of them are read for a few pixels at their faces."""

_PACKED = b"B"
"""Before a block that the codec has packed."""


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
        with atomic_path(numbered_path(self.folder, k), overwrite=True) as temporary, temporary.open("wb") as file:
            highest = int(values.max(initial=0))
            if highest <= 1:
                file.write(_BITS)
                file.write(np.packbits(values.astype(np.uint8, copy=False), axis=-1).tobytes())
            else:
                file.write(_PACKED)
                file.write(_CODEC.encode(np.ascontiguousarray(values, np.min_scalar_type(highest))))

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
            common = overlap(box, window)
            block = self._read(k, tuple(s.stop - s.start for s in box), relative(common, box))
            if block is not None:
                out[relative(common, window)] = block
        return out

    def block(self, k: int) -> npt.NDArray[Any] | None:
        """Block `k` in as few bytes a pixel as it was stored in, None if it was not written. Raises as `read`."""
        shape = tuple(s.stop - s.start for s in self.grid.box(k))
        return self._read(k, shape, tuple(slice(0, n) for n in shape))

    def _read(self, k: int, shape: tuple[int, ...], part: Slices) -> npt.NDArray[Any] | None:
        """A part of block `k`, which has this shape."""
        path = numbered_path(self.folder, k)
        try:
            stored = path.read_bytes()
            if stored[:1] == _BITS:
                lines = np.frombuffer(stored, np.uint8, offset=1).reshape(*shape[:-1], -(-shape[-1] // 8))
                *across, along = part
                first = along.start // 8
                bits = np.unpackbits(lines[(*across, slice(first, -(-along.stop // 8)))], axis=-1)
                return bits[..., along.start - 8 * first : along.stop - 8 * first]
            if stored[:1] != _PACKED:
                raise ValueError("it is no block")
            unpacked = _CODEC.decode(memoryview(stored)[1:])
            return np.frombuffer(unpacked, f"u{len(unpacked) // math.prod(shape)}").reshape(shape)[part]
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
