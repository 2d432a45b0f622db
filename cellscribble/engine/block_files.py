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
from cellscribble.core.runs import Runs
from cellscribble.io.atomic import atomic_path, explain_write_error

FOLDER_FILES = 1000
"""Some disks are slow where a million files lie in one folder."""

_CODEC = Blosc("lz4", clevel=1, shuffle=Blosc.NOSHUFFLE)
"""The fastest both ways: shuffled, small whole numbers take twice the time and half as much again of the disk."""

_BITS = b"1"
"""Before a block of 0 and 1, a bit a pixel: many of them are read for a few pixels at their faces."""

_PACKED = b"B"
"""Before a block that the codec has packed."""

_RUNS = b"R"
"""Before a block of runs: the bytes of a length and of a value, then all lengths, then all values."""


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

    def write(self, k: int, values: npt.NDArray[Any] | Runs) -> None:
        """Write block `k`; another thread or process sees all of it or nothing.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        with atomic_path(numbered_path(self.folder, k), overwrite=True) as temporary, temporary.open("wb") as file:
            if isinstance(values, Runs):
                lengths, numbers = _few_bytes(values.lengths), _few_bytes(values.values)
                file.write(_RUNS + bytes([lengths.itemsize, numbers.itemsize]))
                file.write(lengths.tobytes() + numbers.tobytes())
                return
            highest = int(values.max(initial=0))
            if highest <= 1:
                file.write(_BITS)
                file.write(np.packbits(values.astype(np.uint8, copy=False), axis=-1).tobytes())
            else:
                file.write(_PACKED)
                file.write(_CODEC.encode(_few_bytes(values)))

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

    def through(self, k: int, table: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
        """What a table has for each value of block `k`, None if that was not written. Raises as `read`."""
        shape = tuple(s.stop - s.start for s in self.grid.box(k))
        return self._read(k, shape, tuple(slice(0, n) for n in shape), table)

    def _read(
        self, k: int, shape: tuple[int, ...], part: Slices, table: npt.NDArray[Any] | None = None
    ) -> npt.NDArray[Any] | None:
        """A part of block `k`, which has this shape; with a table what that has for each value."""
        path = numbered_path(self.folder, k)
        try:
            stored = path.read_bytes()
            if stored[:1] == _RUNS:
                runs = _unpack_runs(stored, shape)
                return (runs if table is None else runs.through(table)).array()[part]
            if stored[:1] == _BITS:
                lines = np.frombuffer(stored, np.uint8, offset=1).reshape(*shape[:-1], -(-shape[-1] // 8))
                *across, along = part
                first = along.start // 8
                bits = np.unpackbits(lines[(*across, slice(first, -(-along.stop // 8)))], axis=-1)
                block = bits[..., along.start - 8 * first : along.stop - 8 * first]
            elif stored[:1] == _PACKED:
                unpacked = _CODEC.decode(memoryview(stored)[1:])
                block = np.frombuffer(unpacked, f"u{len(unpacked) // math.prod(shape)}").reshape(shape)[part]
            else:
                raise ValueError("it is no block")
            return block if table is None else table.take(block)
        except FileNotFoundError:
            return None
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            raise FileFormatError(f"{path} cannot be read ({error}); delete {self.folder.parent}") from error


def _few_bytes(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.ascontiguousarray(values, np.min_scalar_type(int(values.max(initial=0))))


def _unpack_runs(stored: bytes, shape: tuple[int, ...]) -> Runs:
    n_head = len(_RUNS) + 2
    of_length, of_value = stored[n_head - 2 : n_head]
    n = (len(stored) - n_head) // (of_length + of_value)
    lengths = np.frombuffer(stored, f"u{of_length}", n, n_head)
    return Runs(shape, lengths, np.frombuffer(stored, f"u{of_value}", n, n_head + n * of_length))


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
