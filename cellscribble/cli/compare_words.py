"""What `compare` says: the split, each result as it comes, and the table."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from cellscribble.cli.output import Bar, emit, format_seconds, say, warn
from cellscribble.compare.exam import TRAINED_ON, UNSEEN, Exam
from cellscribble.compare.results import TABLE, Result
from cellscribble.compare.run import SHEET, Comparison, Outcome
from cellscribble.compare.scoring import ON
from cellscribble.compare.table import over_seeds
from cellscribble.methods.registry import METHODS, get_method
from cellscribble.train.run import split_samples

TITLES = {
    "iou": "IoU",
    "mean_class_iou": "mIoU",
    "dice": "Dice",
    "mean_dice_per_truth": "mDice S2L",
    "mean_best_dice": "mDice ImP",
    "f1": "F1",
    "ap_50": "AP.50",
    "panoptic_quality": "PQ",
    "auc": "AUC",
}


def say_split(comparison: Comparison) -> None:
    """Say what is held out, and on what is scored."""
    for seed in dict.fromkeys(job.seed for job in comparison.jobs):
        config = comparison.config_of(next(job for job in comparison.jobs if job.seed == seed))
        _, holdout = split_samples(comparison.training_set.without_masks(), config)
        n = " + ".join(f"{a} of {b}" for a, b in zip(holdout.n_held, holdout.n_total, strict=True))
        say(f"held out of every method, seed {seed}: {n} strokes" + (f" ({holdout.reason})" if holdout.reason else ""))
    exam = comparison.exam
    if exam.kind == UNSEEN:
        say(f"scored on {len(exam.truths)} unseen images")
    if exam.kind == TRAINED_ON:
        of = len(comparison.training_set.pairs)
        say(f"scored on the masks of {len(exam.truths)} of the {of} images whose strokes are learnt from")
    for text in exam.without:
        warn(f"not scored: {text}")


class Listener:
    """Shows progress on the bar and each result as it comes."""

    bar: Bar

    def say(self, text: str) -> None:
        say(text)

    def progress(self, done: float, total: float, text: str) -> None:
        self.bar.update(done, total, text)

    def part(self, what: str, done: float, total: float) -> None:
        self.bar.part(what, done, total)

    def result(self, result: Result) -> None:
        row = result.rows[0]
        parts = [f"{result.job.method}, seed {result.job.seed}: {format_seconds(result.seconds)}"]
        for column, words in (("holdout_score", "held-out strokes"), ("iou", "IoU")):
            if row[column] == row[column]:
                parts.append(f"{words} {row[column]:.3f}")
        say(", ".join(parts))


def print_json(outcome: Outcome, folder: Path) -> None:
    """A line for each method, seed and edge, then one for the end."""
    for result in outcome.results:
        for row in result.rows:
            emit("scores", **{key: None if value != value else value for key, value in row.items()})
    emit("done", table=folder / TABLE, sheet=folder / SHEET, failures=outcome.failures)


def print_table(outcome: Outcome, exam: Exam) -> None:
    """Means over seeds, a line for each method and, where there are masks, one without the edge level."""
    means = over_seeds((row for result in outcome.results for row in result.rows), ("method", "edge"))
    scored = {key: title for key, title in TITLES.items() if any(m[key].n for m in means.values())}
    if all(m["mean_class_iou"].text() == m["iou"].text() for m in means.values()):
        scored.pop("mean_class_iou", None)  # of one class
    table = Table(box=None, pad_edge=False)
    columns = ["edge", *scored.values()] if scored else []
    for title in ("method", "minutes", "strokes right", "95 % interval", *columns):
        table.add_column(title, justify="left" if title in ("method", "edge") else "right", no_wrap=True)
    for (method, edge), mean in means.items():
        if edge != ON and not scored:
            continue
        low, high = mean["holdout_low"], mean["holdout_high"]
        interval = f"{low.mean:.3f} to {high.mean:.3f}" if low.n else "-"
        first = [method, f"{mean['seconds'].mean / 60:.1f}"] if edge == ON else ["", ""]
        masks = [edge, *(mean[key].text() for key in scored)] if scored else []
        table.add_row(*first, mean["holdout_score"].text(), interval, *masks)
    methods = dict.fromkeys(result.job.method for result in outcome.results)
    click.echo(_heading(exam, [name for name in methods if name in METHODS and get_method(name).needs_masks]))
    screen = Console(file=sys.stdout, highlight=False, markup=False)
    # A pipe has no width; rich would cut columns to 80.
    screen.width = max(screen.width, 160)
    screen.print(table)


def _heading(exam: Exam, taught: Sequence[str]) -> str:
    strokes = "Strokes right: of the held-out strokes, the same for all methods."
    if exam.kind == UNSEEN:
        return f"{strokes} Scores on the masks of {len(exam.truths)} unseen images."
    if exam.kind == TRAINED_ON:
        masks = "".join(f"\n{name} learnt from these very masks: the bound, not a rival." for name in taught)
        return (
            f"{strokes} Scores on the masks of {len(exam.truths)} images WHOSE STROKES WERE LEARNT FROM;\n"
            f"new images are harder: --test-images and --test-labels score on those.{masks}"
        )
    return strokes
