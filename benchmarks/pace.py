"""A time budget on a machine that is not alone: the steps that it makes when it is.

A run of a time budget is a number of steps. How many a machine makes is measured by short runs while it does nothing
else; a long run then makes the steps of its budget at that pace, however long it takes beside other work. Steps draw
from generators made of seed, epoch and step, so the result is that of the undisturbed machine, and an
interrupted run is gone on with.

One set is measured, `SET`; the steps of another set take as long, since all have patches of one size, and ensembling
takes as much longer as it has more pixels. Volumes have other patches: their pace is that of runs on themselves.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch

from cellscribble.train.checkpoint import LAST, load_state
from cellscribble.train.inputs import TrainingSet, open_training_set
from cellscribble.train.loop import Fit
from cellscribble.train.plan import Schedule, Speed, budget_schedule
from cellscribble.train.timing import reserved_s

SET, STROKES = "dsb_fluo", "30"
OPENING_S = 3.0
"""Until the first step: opening the files, the network, a first measurement."""


def measured_pace(folders: list[Path]) -> Speed:
    """Seconds of a step, an ensembling of all images, and a score: medians over finished runs of one method."""
    steps, refreshes, scores = [], [], []
    for folder in folders:
        schedule = Schedule(**load_state(folder / LAST, torch.device("cpu"))[1]["schedule"])
        with open(folder / "history.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        ensembled = [bool(r.get("edge_level") or r.get("relabelled")) for r in rows]
        pairs = list(zip(rows, ensembled, strict=True))
        plain = median(float(r["seconds"]) for r, e in pairs if not r["holdout_score"] and not e)
        steps.append(plain / schedule.steps_per_epoch)
        scores += [float(r["seconds"]) - plain for r, e in pairs if r["holdout_score"] and not e]
        whole = [r for r, e in pairs if e and not r["holdout_score"]]
        one_pass = schedule.refresh_part * schedule.passes
        refreshes += [(float(r["seconds"]) - plain) / one_pass for r in whole]
    return Speed(median(steps), max(1e-3, median(refreshes or [0.0])), max(0.0, median(scores)))


def pace_of(kept: Path, data: Path, name: str, training_set: TrainingSet, method: str) -> Speed:
    """The pace at which a method trains on the set `name`, from the runs that accuracy.py kept in `kept`.

    Of runs on the set itself where there are any, else of those on `SET`, scaled by pixels.
    """
    if own := sorted(kept.glob(f"{name}_*_{method}_*/{LAST}")):
        return measured_pace([path.parent for path in own])
    measured = sorted(kept.glob(f"{SET}_*_{method}_*/{LAST}"))
    if not measured or training_set.pairs[0].image.ndim == 3:
        raise SystemExit(f"{kept} has no runs of {method} to take the pace of: on {name}, or on {SET} for planes")
    speed = measured_pace([path.parent for path in measured])
    train = data / SET / "train"
    whole = open_training_set(train / "images", train / f"scribbles_{STROKES}")
    return replace(speed, refresh_s=speed.refresh_s * n_pixels(training_set) / n_pixels(whole))


def n_pixels(training_set: TrainingSet) -> int:
    return sum(pair.image.n_pixels for pair in training_set.pairs)


@contextmanager
def paced(speed: Speed | None) -> Iterator[None]:
    """Within, time budgets are planned by this pace and kept to, whatever the clock says; None changes nothing."""
    if speed is None:
        yield
        return

    def plan(fit: Fit, began: float) -> None:
        assert fit.config.minutes is not None
        left_s = fit.config.minutes * 60 - reserved_s(fit) - OPENING_S
        method = fit.method
        fit.schedule = budget_schedule(left_s, speed, method.two_stages, method.n_refreshes(), method.most_passes())

    with patch("cellscribble.train.run.plan_run", plan):
        yield
