"""Tables in files, CSV or Parquet, written a part at a time."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cellscribble.core.errors import MissingExtraError

CSV, PARQUET = "csv", "parquet"
FORMS = (CSV, PARQUET)

LINES_AT_ONCE = {CSV: 1 << 14, PARQUET: 1 << 17}
"""Lines that become Python's numbers, or a group of a Parquet file, at once."""

Values = npt.NDArray[Any] | Sequence[Any]


class Table(Protocol):
    """A file that grows."""

    def add(self, columns: Mapping[str, Values]) -> None:
        """Write columns of one length below what is there; all calls have the same names in the same order."""


@contextmanager
def open_table(path: Path, form: str) -> Iterator[Table]:
    """A new file for a table, whole when the block ends.

    Raises
    ------
    MissingExtraError
        If it is Parquet and pyarrow is not installed.
    """
    if form == PARQUET:
        parquet = _Parquet(path)
        try:
            yield parquet
        finally:
            parquet.close()
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            yield _Csv(file)


def check_form(form: str) -> None:
    """Raise MissingExtraError if what this form needs is not installed."""
    if form == PARQUET:
        _import_pyarrow()


class _Csv:
    def __init__(self, file: Any) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        self._begun = False

    def add(self, columns: Mapping[str, Values]) -> None:
        if not self._begun:
            self._writer.writerow(columns)
            self._begun = True
        for part in _parts(columns, LINES_AT_ONCE[CSV]):
            plain = [values.tolist() if isinstance(values, np.ndarray) else values for values in part.values()]
            self._writer.writerows(zip(*plain, strict=True))


class _Parquet:
    def __init__(self, path: Path) -> None:
        self._arrow, self._parquet = _import_pyarrow()
        self._path = path
        self._file: Any = None

    def add(self, columns: Mapping[str, Values]) -> None:
        for part in _parts(columns, LINES_AT_ONCE[PARQUET]):
            table = self._arrow.table({name: _widened(values) for name, values in part.items()})
            if self._file is None:
                self._file = self._parquet.ParquetWriter(self._path, table.schema)
            self._file.write_table(table)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _parts(columns: Mapping[str, Values], n_lines: int) -> Iterator[Mapping[str, Values]]:
    n = len(next(iter(columns.values())))
    # A table without lines still has its names.
    for begin in range(0, max(n, 1), n_lines):
        yield {name: values[begin : begin + n_lines] for name, values in columns.items()}


def _widened(values: Values) -> Values:
    """The same in 64 bits: what a column is must not hang on the image."""
    if isinstance(values, np.ndarray):
        return values.astype(np.float64 if values.dtype.kind == "f" else np.int64, copy=False)
    return values


def _import_pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError(
            "--format parquet needs pyarrow: pip install 'cellscribble[parquet]'; or leave it out for CSV"
        ) from None
    return pyarrow, pyarrow.parquet
