"""A TIFF that is unpacked where it is read, for slides and volumes beyond memory."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
import zarr


class LazyTiff:
    """The stored array of a packed TIFF: `shape`, `dtype`, slicing; opened at the first read.

    Only path and level are pickled, so a worker of a cluster opens the file itself.
    """

    def __init__(self, path: Path, level: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.path, self.level, self.shape, self.dtype = Path(path), level, shape, dtype
        self.ndim = len(shape)
        self._lock = threading.Lock()
        self._array: Any = None

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        with self._lock:
            if self._array is None:
                tiff = tifffile.TiffFile(self.path)
                self._array = zarr.open_array(tiff.series[0].levels[self.level].aszarr(), mode="r")
                weakref.finalize(self, tiff.close)
        return np.asarray(self._array[key])

    def __reduce__(self) -> tuple[Any, ...]:
        return LazyTiff, (self.path, self.level, self.shape, self.dtype)
