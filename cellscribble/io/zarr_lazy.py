"""A Zarr array that is read where it is asked for, and says which of its files is damaged."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.errors import BaseZarrError

from cellscribble.core.errors import CellScribbleError, FileFormatError

# Broken JSON, missing arrays, chunks that do not unpack (codec errors are RuntimeErrors).
READ_ERRORS = (BaseZarrError, ValueError, KeyError, TypeError, IndexError, OSError, RuntimeError)


class LazyZarr:
    """The stored array: `shape`, `dtype`, `chunks`, slicing.

    Parameters
    ----------
    array : opened for reading
    path : of the store, for messages
    """

    def __init__(self, array: zarr.Array[Any], path: Path | str) -> None:
        self._array = array
        self._name = "/".join(part for part in (str(path), array.path) if part)
        self.shape: tuple[int, ...] = tuple(int(n) for n in array.shape)
        self.dtype: np.dtype[Any] = np.dtype(array.dtype)
        self.ndim = len(self.shape)
        # What a read unpacks at least; of a shard single chunks are read.
        self.chunks: tuple[int, ...] = tuple(int(n) for n in array.chunks)

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        """Pixels. Raises FileFormatError if a chunk is damaged, RemoteError if a connection is lost."""
        try:
            return np.asarray(self._array[key])
        except CellScribbleError:
            raise
        except READ_ERRORS as error:
            where = self._damaged(key) or self._name
            raise FileFormatError(f"{where} cannot be unpacked: {error}; copy it again") from error

    def _damaged(self, key: Any) -> str:
        """The first chunk in what was asked for that cannot be read; "" if all can be."""
        array, sizes = self._array, self._array.shards or self._array.chunks
        keys = key if isinstance(key, tuple) else (slice(None),) * self.ndim
        ranges = []
        for part, n, size in zip(keys, self.shape, sizes, strict=True):
            start, stop, _ = part.indices(n)
            ranges.append(range(start // size, -(-stop // size)))
        for place in itertools.product(*ranges):
            try:
                array[tuple(slice(at * size, (at + 1) * size) for at, size in zip(place, sizes, strict=True))]
            except READ_ERRORS:
                return "/".join(part for part in (self._name, array.metadata.encode_chunk_key(place)) if part)
        return ""
