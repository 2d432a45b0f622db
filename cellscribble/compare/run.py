"""Several methods on the same strokes, one after the other; what is done already is not done again."""

from __future__ import annotations

import json
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from cellscribble.baselines.registry import BASELINES
from cellscribble.compare.exam import Exam
from cellscribble.compare.results import Job, Result, load_drawn, load_result, make_result, save_result, save_tables
from cellscribble.compare.scoring import score, shown_images, views_of
from cellscribble.compare.setup import check_setup
from cellscribble.compare.sheet import save_sheet
from cellscribble.compare.trained import Trained, open_network, train_baseline, train_network
from cellscribble.config import TrainConfig
from cellscribble.core.errors import CellScribbleError
from cellscribble.io.atomic import save_json, save_text
from cellscribble.train.inputs import TrainingSet
from cellscribble.train.loop import Tick
from cellscribble.train.run import split_samples
from cellscribble.train.understood import save_understood

RUNS, RESULTS, SHEET = "runs", "results", "sheet.png"
TRAINED = "trained.json"
"""In a run folder, written after its model: training is over."""
BASELINE_S, EPOCHS_S = 20.0, 60.0
"""Guesses, for the time left: what a baseline takes, and a network that has no time budget."""
TRAINING_SHARE = 0.95
"""Of a job; the rest is scoring."""


class Listener(Protocol):
    """What the caller hears: words, how far it is of the work left at the start (seconds, about), how far a long part
    of a training is, and each result."""

    def say(self, text: str) -> None: ...
    def progress(self, done: float, total: float, text: str) -> None: ...
    def part(self, what: str, done: float, total: float) -> None: ...
    def result(self, result: Result) -> None: ...


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is compared, and where.

    training_set : with masks where a method needs them
    config : of all networks; each job puts in its own method and seed
    """

    training_set: TrainingSet
    config: TrainConfig
    jobs: tuple[Job, ...]
    exam: Exam
    folder: Path

    def config_of(self, job: Job) -> TrainConfig:
        return replace(self.config, method=job.method, seed=job.seed)

    def model_of(self, job: Job) -> Path:
        # Not model.onnx in the run folder: `predict` without -m would take the last one trained.
        return self.folder / f"{job.name}.onnx"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Results in the order of the jobs, and what went wrong, by job name, in words."""

    results: tuple[Result, ...]
    failures: dict[str, str]


def compare(comparison: Comparison, listener: Listener) -> Outcome:
    """Train and score all jobs; tables and sheet are in the folder after each.

    Raises
    ------
    InputError
        If the folder holds a comparison of other images, strokes or settings.
    OutputError
        If it holds something else, or cannot be written to.
    KeyboardInterrupt
        After Ctrl-C; the same call goes on.
    """
    check_setup(comparison.folder, comparison.training_set, comparison.config)
    listener.say(f"strokes as they were read: {save_understood(comparison.folder, comparison.training_set)}")
    places = comparison.folder / RESULTS
    results = {job: load_result(places, job, comparison.exam) for job in comparison.jobs}
    todo = [job for job in comparison.jobs if results[job] is None]
    total, done = sum(_work(comparison, job) for job in todo), 0.0
    failures: dict[str, str] = {}
    for job in todo:
        try:
            results[job] = _run(comparison, job, listener, done, total)
        except (CellScribbleError, MemoryError, RuntimeError) as error:
            # RuntimeError is what torch raises, out of memory too: the other methods may still run.
            failures[job.name] = _explain(comparison.folder / RUNS / job.name, error)
        else:
            result = results[job]
            assert result is not None
            listener.result(result)
            save_tables(comparison.folder, [r for r in results.values() if r])
        done += _work(comparison, job)
    finished = tuple(result for result in results.values() if result)
    if finished:
        save_tables(comparison.folder, finished)
        _save_sheet(comparison, finished)
    return Outcome(finished, failures)


def _run(comparison: Comparison, job: Job, listener: Listener, done: float, total: float) -> Result:
    config, work = comparison.config_of(job), _work(comparison, job)
    text = f"{job.method}, seed {job.seed}"
    listener.progress(done, total, text)
    if job.method in BASELINES:
        trained, seconds = train_baseline(comparison.training_set, config)
    else:
        trained, seconds = _network(comparison, job, _Ticks(listener, done, work, total, text))
    listener.progress(done + TRAINING_SHARE * work, total, f"{text}: scoring")
    n_classes = len(comparison.training_set.classes)
    samples, _ = split_samples(comparison.training_set.without_masks(), config)
    shown = shown_images(comparison.training_set, comparison.exam)
    marks, drawn = score(trained, views_of(samples, n_classes, comparison.exam, shown), n_classes, job.seed)
    result = make_result(job, seconds, trained.edge_level, marks, comparison.exam)
    save_result(comparison.folder / RESULTS, result, comparison.exam, [drawn[one] for one in shown])
    listener.progress(done + work, total, text)
    return result


def _network(comparison: Comparison, job: Job, ticks: _Ticks) -> tuple[Trained, float]:
    run, model = comparison.folder / RUNS / job.name, comparison.model_of(job)
    if not (run / TRAINED).exists():
        seconds = train_network(comparison.training_set, comparison.config_of(job), run, model, ticks)
        save_json(run / TRAINED, {"seconds": seconds}, overwrite=True)
    seconds = float(json.loads((run / TRAINED).read_text(encoding="utf-8"))["seconds"])
    return open_network(model, comparison.config.device), seconds


@dataclass(frozen=True, slots=True)
class _Ticks:
    """Hears a training as its part of the whole."""

    listener: Listener
    done: float
    work: float
    total: float
    text: str

    def say(self, text: str) -> None:
        if text.startswith("warning: "):
            self.listener.say(f"{self.text}: {text.removeprefix('warning: ')}")

    def tick(self, tick: Tick) -> None:
        part = TRAINING_SHARE * self.work * tick.done / tick.total
        self.listener.progress(self.done + part, self.total, f"{self.text}: {tick.stage}")

    def part(self, what: str, done: float, total: float) -> None:
        self.listener.part(what, done, total)


def _work(comparison: Comparison, job: Job) -> float:
    if job.method in BASELINES:
        return BASELINE_S
    minutes = comparison.config.minutes
    return EPOCHS_S if minutes is None else minutes * 60


def _explain(run: Path, error: Exception) -> str:
    if isinstance(error, CellScribbleError):
        return str(error)
    path = run / "error.txt"
    save_text(path, "".join(traceback.format_exception(error)), overwrite=True)
    first = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {first} (all of it in {path})"


def _save_sheet(comparison: Comparison, results: Sequence[Result]) -> None:
    drawn: dict[str, list[npt.NDArray[Any]]] = {}
    for result in sorted(results, key=lambda r: r.job.seed):
        if result.job.method not in drawn:
            drawn[result.job.method] = load_drawn(comparison.folder / RESULTS, result.job)
    order = dict.fromkeys(r.job.method for r in results)
    shown = shown_images(comparison.training_set, comparison.exam)
    path = comparison.folder / SHEET
    save_sheet(path, comparison.training_set, comparison.exam, shown, {method: drawn[method] for method in order})
