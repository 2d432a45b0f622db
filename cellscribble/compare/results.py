"""Results of single runs on disk, and the table of all of them."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.compare.exam import Exam
from cellscribble.compare.scoring import Marks
from cellscribble.io.atomic import atomic_path, save_json, save_text
from cellscribble.metrics.scores import Scores

SCORES = tuple(name for name in Scores(0, 0, False, 0, 0, 0, 0).as_row() if name != "semantic")
COLUMNS = (
    *("method", "seed", "edge", "edge_level", "seconds"),
    *("holdout_score", "holdout_low", "holdout_high", "holdout_strokes"),
    *("images", "n_images", *SCORES),
)
TABLE = "comparison.csv"
SCHEMA = 2


@dataclass(frozen=True, slots=True)
class Job:
    """One method with one seed."""

    method: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.method}_seed{self.seed}"


@dataclass(frozen=True, slots=True)
class Result:
    """What one job gave.

    seconds : of training, all its parts together
    rows : for the table, one with the edge level and one without, by `COLUMNS`; NaN where a score does not apply
    image_rows : the same for each scored image
    """

    job: Job
    seconds: float
    rows: tuple[dict[str, Any], ...]
    image_rows: tuple[dict[str, Any], ...]


def make_result(job: Job, seconds: float, edge_level: float, marks: Mapping[str, Marks], exam: Exam) -> Result:
    """Means over images, by `COLUMNS`."""
    rows, image_rows = [], []
    for edge, found in marks.items():
        key = {"method": job.method, "seed": job.seed, "edge": edge}
        scores = [s.as_row() for s in found.images.values()]
        holdout = {k: v for k, v in (found.holdout or {}).items() if v is not None}
        row = {
            **key,
            "edge_level": edge_level,
            "seconds": round(seconds, 1),
            **{f"holdout_{name}": holdout.get(name, math.nan) for name in ("score", "low", "high")},
            "holdout_strokes": "+".join(str(n) for n in holdout.get("n_strokes", ())),
            "images": exam.kind,
            "n_images": len(scores),
        }
        rows.append(row | {name: _mean([s[name] for s in scores]) for name in SCORES})
        image_rows += [{**key, "image": name, **s.as_row()} for name, s in found.images.items()]
    return Result(job, seconds, tuple(rows), tuple(image_rows))


def save_result(folder: Path, result: Result, exam: Exam, drawn: Sequence[npt.NDArray[Any]]) -> None:
    """Write one job's result; the objects of shown images first, so that a result is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / f"{result.job.name}.npz", overwrite=True) as temporary, temporary.open("wb") as file:
        # Numbers, not names: an image may be called as numpy's own argument is.
        np.savez_compressed(file, *drawn)
    facts = {
        "schema": SCHEMA,
        "exam": exam.hashes,
        "seconds": result.seconds,
        "rows": [_plain(row) for row in result.rows],
        "image_rows": [_plain(row) for row in result.image_rows],
    }
    save_json(folder / f"{result.job.name}.json", facts, overwrite=True)


def load_result(folder: Path, job: Job, exam: Exam) -> Result | None:
    """The result of a job, if it is there, readable, and of these images and masks."""
    try:
        found = json.loads((folder / f"{job.name}.json").read_text(encoding="utf-8"))
        if found["schema"] != SCHEMA or found["exam"] != exam.hashes:
            return None
        rows, image_rows = (tuple(map(_with_nan, found[key])) for key in ("rows", "image_rows"))
        return Result(job, float(found["seconds"]), rows, image_rows)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def load_drawn(folder: Path, job: Job) -> list[npt.NDArray[Any]]:
    """Objects of the shown images, in their order."""
    with np.load(folder / f"{job.name}.npz", allow_pickle=False) as stored:
        return [stored[f"arr_{i}"] for i in range(len(stored.files))]


def save_tables(folder: Path, results: Sequence[Result]) -> Path:
    """Write comparison.csv, whose path is returned, and images.csv where images were scored."""
    table = folder / TABLE
    save_csv(table, COLUMNS, [row for result in results for row in result.rows])
    image_rows = [row for result in results for row in result.image_rows]
    if image_rows:
        save_csv(folder / "images.csv", list(image_rows[0]), image_rows)
    return table


def save_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table anew, whole; NaN is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in _plain(row).items()} for row in rows)
    save_text(path, text.getvalue(), overwrite=True)


def _mean(values: Sequence[float]) -> float:
    there = [v for v in values if not math.isnan(v)]
    return float(np.mean(there)) if there else math.nan


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """NaN as None: JSON has no NaN."""
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}


def _with_nan(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: math.nan if v is None else v for k, v in row.items()}
