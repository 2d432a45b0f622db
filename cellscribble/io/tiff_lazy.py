"""A TIFF that is unpacked where it is read, for slides and volumes beyond memory."""

from __future__ import annotations

import io
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
import zarr

from cellscribble.io.remote import is_url
from cellscribble.io.remote_file import RemoteFile


def open_file(path: Path | str) -> tifffile.TiffFile:
    """The TIFF at a path or URL. Raises what tifffile and `RemoteFile` raise."""
    return (
        tifffile.TiffFile(io.BufferedReader(RemoteFile(path)), name=path) if is_url(path) else tifffile.TiffFile(path)
    )


class LazyTiff:
    """The stored array of a packed TIFF: `shape`, `dtype`, slicing; opened at the first read.

    Only path and level are pickled, so a worker of a cluster opens the file itself.
    """

    def __init__(self, path: Path | str, level: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.path, self.level, self.shape, self.dtype = path, level, shape, dtype
        self.ndim = len(shape)
        self._lock = threading.Lock()
        self._array: Any = None

    @property
    def chunks(self) -> tuple[int, ...]:
        """What a read unpacks at least: a tile or strip, where strips are long the whole plane."""
        return tuple(self._opened().chunks)

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        return np.asarray(self._opened()[key])

    def _opened(self) -> Any:
        with self._lock:
            if self._array is None:
                tiff = open_file(self.path)
                self._array = zarr.open_array(tiff.series[0].aszarr(level=self.level), mode="r")
                weakref.finalize(self, tiff.close)
        return self._array

    def __reduce__(self) -> tuple[Any, ...]:
        return LazyTiff, (self.path, self.level, self.shape, self.dtype)


class MappedTiff:
    """The stored array of a TIFF that is not packed: `shape`, `dtype`, slicing.

    Mapped anew for each read: what was read of a map that stays counts as memory of the process for good.
    """

    def __init__(self, path: Path | str, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.path, self.offset, self.shape, self.dtype = Path(path), offset, shape, dtype
        self.ndim = len(shape)

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        return np.array(np.memmap(self.path, self.dtype, "r", self.offset, self.shape)[key])
