"""What happened in each epoch: one CSV row."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path

from cellscribble.io.atomic import save_text

COLUMNS = (
    "epoch",
    "stage",
    "learning_rate",
    "loss",
    "loss_strokes",
    "loss_pseudo",
    "holdout_score",
    "holdout_low",
    "holdout_high",
    "edge_level",
    "n_epochs_planned",
    "seconds",
)


@dataclass
class History:
    """Rows in order; a row lacks the columns that did not arise in its epoch."""

    rows: list[dict[str, float | str]] = field(default_factory=list)

    def add(self, row: dict[str, float | str]) -> None:
        self.rows.append(row)

    def columns(self) -> list[str]:
        """The columns that every run has, then those of this one, such as a method's own terms."""
        return [*COLUMNS, *sorted({key for row in self.rows for key in row} - set(COLUMNS))]

    def series(self, column: str) -> tuple[list[float], list[float]]:
        """Epochs and values of one column, where it has any."""
        rows = [r for r in self.rows if r.get(column) not in (None, "")]
        return [float(r["epoch"]) for r in rows], [float(r[column]) for r in rows]

    def save(self, path: Path) -> None:
        """Write the CSV anew, whole."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns(), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        save_text(path, text.getvalue(), overwrite=True)
