"""A time budget on a machine that is not alone: the steps that it makes when it is.

    python benchmarks/accuracy.py DATA --set dsb_fluo --strokes 30 --minutes 1 --seeds 0 --keep KEPT
    python benchmarks/pace.py KEPT --out paces.csv

A run of a time budget is a number of steps. How many a machine makes is measured by short runs while it does nothing
else; a long run then makes the steps of its budget at that pace, however long it takes beside other work. Steps draw
from generators made of seed, epoch and step, so the result is that of the undisturbed machine, and an
interrupted run is gone on with. paces.csv beside this file has the paces of the machine that it names: with
it a run on any machine makes the steps that this one makes in the time.

One set is measured, `SET`; the steps of another set take as long, since all have patches of one size, and ensembling
takes as much longer as it has more pixels. Volumes have other patches: their pace is that of runs on themselves.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch
from machine import machine
from sets import SETS
from table import append_rows, read_rows

from cellscribble.train.checkpoint import LAST, load_state
from cellscribble.train.inputs import TrainingSet, open_training_set
from cellscribble.train.loop import Fit
from cellscribble.train.plan import Schedule, Speed, budget_schedule
from cellscribble.train.run_folder import CONFIG
from cellscribble.train.timing import reserved_s

SET, STROKES = "dsb_fluo", "30"
PACES = Path(__file__).with_name("paces.csv")
COLUMNS = ("set", "method", "step_s", "refresh_s", "score_s", "opening_s", "machine", "date")


@dataclass(frozen=True, slots=True)
class RunPace(Speed):
    """How fast a method trains, and how long it takes until its first step.

    opening_s : opening the files, what a method makes of the strokes first, a first measurement
    """

    opening_s: float = 0.0


def measured_pace(folders: list[Path]) -> RunPace:
    """Medians over finished runs of one method.

    Raises
    ------
    ValueError
        If no epoch was without ensembling and score: the budget was too short to measure by.
    """
    steps, refreshes, scores, openings = [], [], [], []
    for folder in folders:
        facts = load_state(folder / LAST, torch.device("cpu"))[1]
        schedule = Schedule(**facts["schedule"])
        with open(folder / "history.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        ensembled = [bool(r.get("edge_level") or r.get("relabelled")) for r in rows]
        pairs = list(zip(rows, ensembled, strict=True))
        openings.append(facts["elapsed_s"] - sum(float(r["seconds"]) for r in rows))
        alone = [float(r["seconds"]) for r, e in pairs if not r["holdout_score"] and not e]
        if not alone:
            raise ValueError(f"{folder} has {len(rows)} epochs, none of steps alone; measure with a longer budget")
        plain = median(alone)
        steps.append(plain / schedule.steps_per_epoch)
        scores += [float(r["seconds"]) - plain for r, e in pairs if r["holdout_score"] and not e]
        whole = [r for r, e in pairs if e and not r["holdout_score"]]
        one_pass = schedule.refresh_part * schedule.passes
        refreshes += [(float(r["seconds"]) - plain) / one_pass for r in whole]
    refresh_s, score_s = max(1e-3, median(refreshes or [0.0])), max(0.0, median(scores))
    return RunPace(median(steps), refresh_s, score_s, max(0.0, median(openings)))


def pace_of(paces: Path, data: Path, name: str, training_set: TrainingSet, method: str) -> RunPace:
    """The pace at which a method trains on the set `name`, from a file that this script wrote.

    That of runs on the set itself where there are any, else of those on `SET`, scaled by pixels.
    """
    rows = {(r["set"], r["method"]): RunPace(*(float(r[c]) for c in COLUMNS[2:6])) for r in read_rows(paces)}
    if own := rows.get((name, method)):
        return own
    measured = rows.get((SET, method))
    if measured is None or training_set.pairs[0].image.ndim == 3:
        raise SystemExit(f"{paces} has no pace of {method}: on {name}, or on {SET} for planes")
    train = data / SET / "train"
    whole = open_training_set(train / "images", train / f"scribbles_{STROKES}")
    ratio = n_pixels(training_set) / n_pixels(whole)
    return replace(measured, refresh_s=measured.refresh_s * ratio, opening_s=measured.opening_s * ratio)


def n_pixels(training_set: TrainingSet) -> int:
    return sum(pair.image.n_pixels for pair in training_set.pairs)


@contextmanager
def paced(speed: RunPace | None) -> Iterator[None]:
    """Within, time budgets are planned by this pace and kept to, whatever the clock says; None changes nothing."""
    if speed is None:
        yield
        return

    def plan(fit: Fit, began: float) -> None:
        assert fit.config.minutes is not None
        left_s = fit.config.minutes * 60 - reserved_s(fit) - speed.opening_s
        method = fit.method
        fit.schedule = budget_schedule(left_s, speed, method.two_stages, method.n_refreshes(), method.most_passes())

    with patch("cellscribble.train.run.plan_run", plan):
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kept", type=Path, help="what accuracy.py kept (--keep) while the machine was alone")
    parser.add_argument("--out", type=Path, default=PACES, help="append the rows to this CSV")
    arguments = parser.parse_args()
    runs: dict[tuple[str, str], list[Path]] = {}
    for last in sorted(arguments.kept.glob(f"*/{LAST}")):
        method = json.loads((last.parent / CONFIG).read_text())["method"]
        (name,) = (name for name in SETS if last.parent.name.startswith(f"{name}_"))
        runs.setdefault((name, method), []).append(last.parent)
    about = {"machine": machine("cpu"), "date": time.strftime("%Y-%m-%d")}
    rows = []
    for (name, method), folders in runs.items():
        try:
            speed = {column: f"{seconds:.4g}" for column, seconds in asdict(measured_pace(folders)).items()}
        except ValueError as error:
            print(error)
            continue
        rows.append({"set": name, "method": method, **speed, **about})
        print("  ".join(rows[-1].values()))
    append_rows(arguments.out, COLUMNS, rows)


if __name__ == "__main__":
    main()
