"""Rows of results, kept as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def print_rows(rows: Iterable[dict[str, Any]], width: int, out: Path | None) -> None:
    """Print rows as they come, in columns so wide, and append each to a CSV where there is one."""
    for number, row in enumerate(rows):
        if number == 0:
            print("".join(f"{name:>{width}}" for name in row))
        print("".join(f"{value!s:>{width}}" for value in row.values()), flush=True)
        if out is not None:
            append_row(out, list(row), row)


def append_row(path: Path, columns: Sequence[str], row: dict[str, Any]) -> None:
    """Append to a CSV; a new one gets its header."""
    append_rows(path, columns, [row])


def append_rows(path: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """Append rows that belong together, in one go; a file with other columns is refused."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", restval="")
    if not path.exists():
        writer.writeheader()
    elif (found := path.read_text().splitlines()[0].split(",")) != list(columns):
        raise SystemExit(f"{path} has the columns {found}, not {list(columns)}; give another --out")
    writer.writerows(rows)
    with path.open("a", newline="") as file:
        file.write(text.getvalue())


def read_rows(path: Path) -> list[dict[str, str]]:
    """All rows of a CSV; none where it is not there."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
