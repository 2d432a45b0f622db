"""Rows of results, kept as CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def append_row(path: Path, columns: Sequence[str], row: dict[str, Any]) -> None:
    """Append to a CSV; a new one gets its header."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", restval="")
        if new:
            writer.writeheader()
        writer.writerow(row)
