"""`cellscribble evaluate`: predicted labels against labels drawn by hand."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from cellscribble.cli.output import emit, say, shorten
from cellscribble.core.errors import BatchError
from cellscribble.io.atomic import check_writable
from cellscribble.metrics.pairs import Evaluation, evaluate_files, save_csv
from cellscribble.metrics.scores import Mean, summarise

COLUMNS = {
    "iou": "IoU",
    "dice": "Dice",
    "auc": "AUC",
    "mean_dice_per_truth": "mDice S2L",
    "mean_best_dice": "mDice ImP",
    "f1": "F1",
    "ap_50": "AP.50",
    "ap_mean": "AP",
    "panoptic_quality": "PQ",
    "rand_error": "ARAND",
}

EPILOG = """\b
Examples:
  cellscribble evaluate cellscribble_out labels
  cellscribble evaluate a_labels.tif a.tif --csv a.csv
"""


@click.command(epilog=EPILOG)
@click.argument("predictions", metavar="PRED", type=click.Path(path_type=Path))
@click.argument("truth", metavar="LABELS", type=click.Path(path_type=Path))
@click.option(
    "--csv", "table", metavar="FILE", type=click.Path(path_type=Path), help="[default: scores.csv beside PRED]"
)
@click.option("--classes", is_flag=True, help="Numbers are classes, not objects.")
@click.option("--overwrite", is_flag=True, help="Replace a table that exists.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines on stdout.")
def command(
    predictions: Path, truth: Path, table: Path | None, classes: bool, overwrite: bool, as_json: bool
) -> list[Path]:
    """Score predicted labels PRED against true LABELS: two files, or two folders paired by name.

    NAME_labels.tif belongs to NAME.tif; NAME_probability.tif beside it gives the AUC. Where either
    image is a mask (0 and 255, or 0 and 1) only pixels are scored.
    """
    table = table or predictions.resolve().parent / "scores.csv"
    check_writable(table, overwrite)
    evaluation = evaluate_files(predictions, truth, semantic=classes or None)
    # Seed 0: the same files give the same interval.
    means = summarise(evaluation.scores.values(), np.random.default_rng(0))
    if evaluation.scores:
        save_csv(table, evaluation.scores, overwrite)
        show = _print_json if as_json else _print_table
        show(evaluation, means)
        n_masks = sum(score.semantic for score in evaluation.scores.values())
        if n_masks and not classes:
            say(f"{n_masks} of {len(evaluation.scores)} images are masks without single objects: pixels scored only")
        say(f"all scores in {table}")
    if evaluation.failures:
        raise BatchError(evaluation.failures, len(evaluation.scores))
    return [table]


def _print_json(evaluation: Evaluation, means: dict[str, Mean]) -> None:
    for name, score in evaluation.scores.items():
        emit("scores", image=name, **{key: _number(value) for key, value in score.as_row().items()})
    emit(
        "summary",
        n_images=len(evaluation.scores),
        means={name: {k: _number(v) for k, v in mean._asdict().items()} for name, mean in means.items()},
    )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _print_table(evaluation: Evaluation, means: dict[str, Mean]) -> None:
    shown = {name: title for name, title in COLUMNS.items() if name in means}
    table = Table("image", box=None, pad_edge=False)
    for title in shown.values():
        table.add_column(title, justify="right", no_wrap=True)
    for name, score in evaluation.scores.items():
        row = score.as_row()
        table.add_row(shorten(name), *(_text(row[column]) for column in shown))
    if len(evaluation.scores) > 1:
        for k, title in enumerate((f"mean of {len(evaluation.scores)}", "95 % from", "95 % to")):
            table.add_row(title, *(_text(means[column][k]) for column in shown))
    # A pipe has no width; rich would cut columns to 80.
    console = Console(file=sys.stdout, highlight=False, markup=False)
    console.width = max(console.width, 120)
    console.print(table)


def _text(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
