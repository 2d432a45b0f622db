"""Accuracy from strokes at equal budget: every method, Otsu, and a random forest on pixel features.

    python benchmarks/accuracy.py DATA --set dsb_fluo --strokes 10 30 --minutes 1 5 --seeds 0 1 2 \\
        --methods scribble2label partial_cross_entropy --out results.csv
    python benchmarks/accuracy.py DATA --device cuda --network resnet34 --epochs 200 --out results.csv

Without --set, --strokes and --methods: all of them. The sets and their layout are in sets.py. Training and scoring are
those of `cellscribble compare`: masks are read after training, for scoring only, but by full_supervision;
each model is scored with its edge level on and off. The seconds run from the opened files to the written model. With
--pace FILE, the paces of an undisturbed machine (paces.csv), budgets are numbers of steps (see pace.py). Rows that
--out has already are not made again; with --keep a run that was stopped or killed goes on from its last state, and
where its budget is one of steps (--pace, --epochs) it ends as if nothing had happened. write_table.py makes the
tables of README.md from the CSV.
"""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # as `cellscribble train` sets it

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import machine
from pace import pace_of, paced
from sets import SETS, Places, places_of
from table import append_rows, read_rows

from cellscribble.baselines.registry import BASELINES
from cellscribble.compare import results
from cellscribble.compare.exam import Exam, exam_on_training_images, exam_on_unseen_images
from cellscribble.compare.scoring import score, views_of
from cellscribble.compare.trained import Trained, open_network, train_baseline, train_network
from cellscribble.config import TrainConfig, load_config
from cellscribble.core.errors import CellScribbleError
from cellscribble.methods.registry import METHODS, get_method
from cellscribble.train.checkpoint import LAST
from cellscribble.train.inputs import TrainingSet, open_training_set
from cellscribble.train.run import split_samples
from cellscribble.train.start import resumed_config

KEY = ("set", "strokes", "method", "network", "minutes", "epochs", "seed")
COLUMNS = (*KEY, "paced", "machine", "date", *(c for c in results.COLUMNS if c not in KEY))
SHOWN = ("set", "strokes", "method", "minutes", "epochs", "seed", "edge", "holdout_score", "iou", "ap_50", "seconds")


class Quiet:
    """Hears a run and says nothing."""

    def say(self, text: str) -> None:
        pass

    def tick(self, tick: Any) -> None:
        pass

    def part(self, what: str, done: float, total: float) -> None:
        pass


@dataclass(frozen=True)
class Run:
    """One method on one set; `minutes` and `epochs` are "" for the baselines, which take what they need."""

    set: str
    strokes: str
    method: str
    network: str
    minutes: str
    epochs: str
    seed: int

    @property
    def key(self) -> tuple[str, ...]:
        return tuple(str(getattr(self, name)) for name in KEY)

    @property
    def folder(self) -> str:
        budget = f"{self.minutes}min" if self.minutes else f"{self.epochs}epochs_{self.network}"
        return f"{self.set}_{self.strokes}_{self.method}_{budget}_{self.seed}"


def runs_of(arguments: argparse.Namespace) -> Iterator[Run]:
    budgets = [("", f"{n}") for n in arguments.epochs] or [(f"{m:g}", "") for m in arguments.minutes]
    for name in arguments.set:
        for strokes in arguments.strokes or SETS[name].strokes:
            for seed in arguments.seeds:
                for method in arguments.methods:
                    for minutes, epochs in budgets if method in METHODS else [("", "")]:
                        network = arguments.network if method in METHODS else ""
                        yield Run(name, strokes, method, network, minutes, epochs, seed)


def open_set(places: Places, needs_masks: bool) -> tuple[TrainingSet, Exam]:
    training_set = open_training_set(places.images, places.scribbles, places.labels if needs_masks else None)
    if places.unseen:
        return training_set, exam_on_unseen_images(training_set, places.test_images, places.test_labels)
    return training_set, exam_on_training_images(training_set, places.images, places.labels)


def config_of(run: Run, arguments: argparse.Namespace) -> TrainConfig:
    flags: dict[str, Any] = {"seed": run.seed, "device": arguments.device}
    if run.method in METHODS:
        flags |= {"network": run.network, **dict(map(_setting, arguments.set_flag))}
        flags |= {"minutes": float(run.minutes)} if run.minutes else {"epochs": int(run.epochs)}
        flags["method_settings"] = dict(map(_setting, arguments.method_setting))
    return load_config(None, {**flags, "method": run.method})


def train_run(run: Run, training_set: TrainingSet, arguments: argparse.Namespace) -> tuple[Trained, float]:
    config = config_of(run, arguments)
    if run.method in BASELINES:
        return train_baseline(training_set, config)
    speed = pace_of(arguments.pace, arguments.data, run.set, training_set, run.method) if arguments.pace else None
    with tempfile.TemporaryDirectory(prefix="cellscribble_") as scratch, paced(speed):
        folder = arguments.keep / run.folder if arguments.keep else Path(scratch) / run.folder
        if (folder / LAST).exists():
            # The folder's name does not tell all settings: another run is not gone on with.
            resumed_config(folder, json.loads(json.dumps(config.to_json())))
        seconds = train_network(training_set, config, folder, folder / "model.onnx", Quiet())
        return open_network(folder / "model.onnx", arguments.device), seconds


def rows_of(run: Run, training_set: TrainingSet, exam: Exam, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    trained, seconds = train_run(run, training_set, arguments)
    n_classes = len(training_set.classes)
    samples, _ = split_samples(training_set.without_masks(), config_of(run, arguments))
    marks, _ = score(trained, views_of(samples, n_classes, exam, ()), n_classes, run.seed)
    found = results.make_result(results.Job(run.method, run.seed), seconds, trained.edge_level, marks, exam)
    date = time.strftime("%Y-%m-%d")
    about = {"paced": "yes" if arguments.pace else "", "machine": machine(arguments.device), "date": date}
    return [{**vars(run), **about, **{k: _plain(v) for k, v in row.items()}} for row in found.rows]


def _cell(value: Any) -> str:
    return f"{value:10.4f}" if isinstance(value, float) else f"{value!s:>10.21}"


def _plain(value: Any) -> Any:
    return "" if isinstance(value, float) and math.isnan(value) else value


def _setting(pair: str) -> tuple[str, Any]:
    key, _, text = pair.partition("=")
    if text in ("true", "false"):
        return key, text == "true"
    for kind in (int, float):
        try:
            return key, kind(text)
        except ValueError:
            continue
    return key, text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--set", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument(
        "--strokes", nargs="+", help="as in the folder's name: 10, 30, n100 ...; default: all of a set"
    )
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", nargs="+", type=float, default=[1.0, 5.0])
    budget.add_argument("--epochs", nargs="+", type=int, default=[])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=[*BASELINES, *METHODS], choices=[*BASELINES, *METHODS])
    parser.add_argument("--network", default="light")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--set-flag", nargs="*", default=[], metavar="KEY=VALUE", help="further settings of a run")
    parser.add_argument(
        "--method-setting",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="settings of the method itself; no row says so, so give these a CSV of their own",
    )
    parser.add_argument("--keep", type=Path, help="keep the run folders here")
    parser.add_argument("--pace", type=Path, help="budgets as steps at these paces (paces.csv)")
    parser.add_argument("--out", type=Path, help="append the rows to this CSV")
    arguments = parser.parse_args()
    done = {tuple(row[name] for name in KEY) for row in (read_rows(arguments.out) if arguments.out else [])}
    todo: dict[tuple[str, str], list[Run]] = {}
    for run in dict.fromkeys(runs_of(arguments)):
        if run.key not in done:
            todo.setdefault((run.set, run.strokes), []).append(run)
    print(f"{machine(arguments.device)}, {time.strftime('%Y-%m-%d %H:%M')}, {sum(map(len, todo.values()))} runs")
    print("  ".join(f"{c:>10.12}" for c in SHOWN))
    failures = []
    with tempfile.TemporaryDirectory(prefix="cellscribble_") as scratch:
        for (name, strokes), runs in todo.items():
            needs_masks = any(run.method in METHODS and get_method(run.method).needs_masks for run in runs)
            training_set, exam = open_set(places_of(arguments.data, name, strokes, Path(scratch)), needs_masks)
            for run in runs:
                try:
                    rows = rows_of(run, training_set, exam, arguments)
                except (CellScribbleError, RuntimeError, MemoryError) as error:
                    failures.append(f"{run.folder}: {error}")
                    print(failures[-1], flush=True)
                    continue
                for row in rows:
                    print("  ".join(_cell(row[c]) for c in SHOWN), flush=True)
                if arguments.out:
                    append_rows(arguments.out, COLUMNS, rows)
    if failures:
        sys.exit("\n".join([f"{len(failures)} runs failed:", *failures]))


if __name__ == "__main__":
    main()
