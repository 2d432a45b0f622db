"""A Zarr array that is read where it is asked for, and says which of its files is damaged."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.core.sync import sync
from zarr.errors import BaseZarrError

from cellscribble.core.blocks import Slices, overlap, relative
from cellscribble.core.errors import CellScribbleError, FileFormatError
from cellscribble.io.zarr_chunks import read_chunks

# Broken JSON, missing arrays, chunks that do not unpack (codec errors are RuntimeErrors).
READ_ERRORS = (BaseZarrError, ValueError, KeyError, TypeError, IndexError, OSError, RuntimeError)

RIM_PX = 8
"""Of a coarser level: so far a pyramid that is smoothed or interpolated may show what lies beside a chunk."""

END_S = 10.0
"""So long what is read beside a damaged chunk is waited for."""

_ending = threading.Lock()
"""Two threads that wait for all that is read would wait for each other."""


class LazyZarr:
    """The stored array: `shape`, `dtype`, `chunks`, slicing.

    A chunk that is not in the store is background, as the standard has it: writers leave out what is empty. Where
    the next level of the pyramid shows something there, it was lost, and that is damage.

    Parameters
    ----------
    array : opened for reading
    path : of the store, for messages
    coarser : the next level of its pyramid, if there is one
    """

    def __init__(self, array: zarr.Array[Any], path: Path | str, coarser: zarr.Array[Any] | None = None) -> None:
        self._array, self._coarser = array, coarser
        self._name = "/".join(part for part in (str(path), array.path) if part)
        self.shape: tuple[int, ...] = tuple(int(n) for n in array.shape)
        self.dtype: np.dtype[Any] = np.dtype(array.dtype)
        self.ndim = len(self.shape)
        # What a read unpacks at least; of a shard single chunks are read.
        self.chunks: tuple[int, ...] = tuple(int(n) for n in array.chunks)

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        """Pixels. Raises FileFormatError if a chunk is damaged or lost, RemoteError if a connection is lost."""
        try:
            window = self._window(key)
            pixels = self._read(window)
            lost = self._lost(window, pixels)
        except CellScribbleError:
            raise
        except READ_ERRORS as error:
            with _ending:
                sync(_end_of_reading())
            where = self._damaged(self._window(key)) or self._name
            raise FileFormatError(f"{where} cannot be unpacked: {error}; copy it again") from error
        if lost:
            raise FileFormatError(f"{lost} is missing, but the next level shows something there; copy it again")
        return pixels

    def _read(self, window: Slices) -> npt.NDArray[Any]:
        if all(part.step == 1 for part in window):
            return read_chunks(self._array, window)
        return np.asarray(self._array[window])

    def _window(self, key: Any) -> Slices:
        keys = key if isinstance(key, tuple) else (slice(None),) * self.ndim
        return tuple(slice(*part.indices(n)) for part, n in zip(keys, self.shape, strict=True))

    def _files(self, window: Slices) -> Iterator[tuple[str, Slices]]:
        """The files (chunks, or shards) that a window meets: their names in the array, and where they lie."""
        sizes = self._array.shards or self._array.chunks
        ranges = [range(w.start // size, -(-w.stop // size)) for w, size in zip(window, sizes, strict=True)]
        for place in itertools.product(*ranges):
            box = tuple(slice(at * size, (at + 1) * size) for at, size in zip(place, sizes, strict=True))
            yield self._array.metadata.encode_chunk_key(place), box

    def _damaged(self, window: Slices) -> str:
        """The first file in a window that cannot be read; "" if all can be."""
        for name, box in self._files(window):
            try:
                self._array[box]
            except READ_ERRORS:
                return f"{self._name}/{name}"
        return ""

    def _lost(self, window: Slices, pixels: npt.NDArray[Any]) -> str:
        """The first file in a window that is not there although it should be; "" if there is none."""
        if self._coarser is None or any(part.step > 1 for part in window):
            return ""
        fill = self._array.fill_value or 0
        for name, box in self._files(window):
            part = overlap(box, window)
            own = pixels[relative(part, window)]
            if not own.size or own.flat[0] != fill or (own != fill).any() or not self._shown(part, fill):
                continue
            if not sync((self._array.store_path / name).exists()):
                return f"{self._name}/{name}"
        return ""

    def _shown(self, part: Slices, fill: Any) -> bool:
        """Whether the coarser level has anything but `fill` amid a part of this one."""
        assert self._coarser is not None
        there = []
        for own, n, m in zip(part, self.shape, self._coarser.shape, strict=True):
            rim = RIM_PX if m < n else 0
            there.append(slice(-(-own.start * m // n) + rim, own.stop * m // n - rim))
        if any(s.start >= s.stop for s in there):
            return False
        try:
            return bool((np.asarray(self._coarser[tuple(there)]) != fill).any())
        except READ_ERRORS:
            return False  # its own pixels are not wanted


async def _end_of_reading() -> None:
    """Wait for the chunks that are read beside a damaged one: at its end Python prints what has become of each."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.wait(others, timeout=END_S) if others else None
    for task in others:
        if task.done() and not task.cancelled():
            task.exception()
