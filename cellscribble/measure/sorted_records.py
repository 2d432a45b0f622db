"""More records than memory holds, put in order: sorted in parts, which wait on the disk and are merged."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from cellscribble.io.atomic import writing

Records = npt.NDArray[Any]

AT_ONCE = 1 << 15
"""Records in memory; of objects with all their measurements these are about 20 MB."""

_LEAST_READ = 64


def to_records(columns: Mapping[str, Records]) -> Records:
    """(n,) records whose fields are these arrays of length n; each may have more axes."""
    n = len(next(iter(columns.values())))
    records = np.empty(n, [(name, array.dtype, array.shape[1:]) for name, array in columns.items()])
    for name, array in columns.items():
        records[name] = array
    return records


class SortedRecords:
    """Records given in any order, and given back in ascending order of one of their fields.

    Up to `AT_ONCE` of them stay in memory. Beyond that they lie in a file without a name, which the system takes away
    however the program ends.

    Parameters
    ----------
    key : name of the field
    folder : where the file is, if there has to be one; by default the system's temporary folder
    """

    def __init__(self, key: str, folder: Path | None = None) -> None:
        self.dtype: np.dtype[Any] = np.dtype([])
        self._key = key
        self.folder = folder
        self._fresh: list[Records] = []
        self._n_fresh = 0
        self._file: IO[bytes] | None = None
        self._runs: list[int] = []

    def __len__(self) -> int:
        return sum(self._runs) + self._n_fresh

    def add(self, records: Records) -> None:
        """Take (n,) records of a structured dtype, the same at each call.

        Raises
        ------
        OutputError
            If the disk has no room for them.
        """
        self.dtype = records.dtype
        self._fresh.append(records)
        self._n_fresh += len(records)
        if self._n_fresh > AT_ONCE:
            self._write()

    def __iter__(self) -> Iterator[Records]:
        """Parts of about `AT_ONCE` records; those of one value of the key are in one part."""
        if not self._runs:
            if self._fresh:
                yield self._sorted()
            return
        if self._n_fresh:
            self._write()
        parts: list[Records] = []
        for part in self._merged():
            parts.append(part)
            if sum(map(len, parts)) >= AT_ONCE:
                yield np.concatenate(parts)
                parts = []
        if parts:
            yield np.concatenate(parts)

    def close(self) -> None:
        """Give the disk back."""
        if self._file is not None:
            # A full disk refuses what is still to be written, which nobody needs by now.
            with contextlib.suppress(OSError):
                self._file.close()

    def _sorted(self) -> Records:
        records = np.concatenate(self._fresh)
        return records[np.argsort(records[self._key], kind="stable")]

    def _write(self) -> None:
        folder = self.folder or Path(tempfile.gettempdir())
        records = self._sorted()
        with writing(folder / "records"):
            if self._file is None:
                folder.mkdir(parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open as long as the records live
            self._file.seek(0, 2)
            self._file.write(records.tobytes())
            self._file.flush()
        self._runs.append(len(records))
        self._fresh, self._n_fresh = [], 0

    def _merged(self) -> Iterator[Records]:
        n_read = max(AT_ONCE // len(self._runs), _LEAST_READ)
        begins = np.cumsum([0, *self._runs])
        at, ends = begins[:-1].tolist(), begins[1:].tolist()
        held = [np.empty(0, self.dtype) for _ in self._runs]
        while True:
            for k, (place, end) in enumerate(zip(at, ends, strict=True)):
                if len(held[k]) < n_read and place < end:
                    more = self._read(place, min(n_read, end - place))
                    held[k] = np.concatenate([held[k], more])
                    at[k] += len(more)
            unread = [k for k, end in enumerate(ends) if at[k] < end]
            # What a run has not shown yet is no less than the last that it showed.
            limit = min((held[k][self._key][-1] for k in unread), default=None)
            cuts = [len(h) if limit is None else int(np.searchsorted(h[self._key], limit)) for h in held]
            part = np.concatenate([h[:cut] for h, cut in zip(held, cuts, strict=True)])
            held = [h[cut:] for h, cut in zip(held, cuts, strict=True)]
            if len(part):
                yield part[np.argsort(part[self._key], kind="stable")]
            elif limit is not None:
                # One value fills all that was read.
                n_read *= 2
            if limit is None:
                return

    def _read(self, place: int, n: int) -> Records:
        assert self._file is not None
        self._file.seek(place * self.dtype.itemsize)
        return np.frombuffer(self._file.read(n * self.dtype.itemsize), self.dtype)
