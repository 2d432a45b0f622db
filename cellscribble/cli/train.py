"""cellscribble train"""

from __future__ import annotations

import os
import shlex
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cellscribble.bundle import MODEL_FILE
from cellscribble.cli.export import int8_words
from cellscribble.cli.output import Bar, emit, holdout_words, is_guessing, progress_bar, say, shorten, warn
from cellscribble.cli.shared_options import budget_options, training_options
from cellscribble.methods.registry import DEFAULT_METHOD, METHODS

if TYPE_CHECKING:
    from cellscribble.export.int8 import Exported


@click.command()
@click.argument("images", type=click.Path(exists=True, path_type=Path))
@click.argument("scribbles", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Run folder. [default: runs/<date>_<method>]")
@budget_options("Time budget; the stages are scaled to it.")
@click.option("--method", type=click.Choice(list(METHODS)), help=f"How to learn. [default: {DEFAULT_METHOD}]")
@click.option(
    "--labels", type=click.Path(exists=True, path_type=Path), help="Dense labels, for full_supervision only."
)
@click.option("--network", help="light, multi_field, resnet34 or resnet50. [default: light]")
@click.option(
    "--encoder-weights", type=click.Path(exists=True, dir_okay=False), help="ImageNet state dict, for ResNets."
)
@click.option("--seed", type=int, help="Of everything random. [default: 0]")
@training_options
@click.option("--resume", is_flag=True, help="Continue the run in --out, exactly.")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON lines on stdout.")
def command(
    images: Path, scribbles: Path, out: Path | None, as_json: bool, resume: bool, **options: Any
) -> list[Path]:
    """Train a network on IMAGES from the strokes in SCRIBBLES, and export model.onnx.

    An image and its strokes have the same name. Ctrl-C stops after the step and exports the best so far.
    """
    spin_briefly()
    from cellscribble.config import load_config
    from cellscribble.export.int8 import export_both
    from cellscribble.train.inputs import open_training_set
    from cellscribble.train.run import train
    from cellscribble.train.start import check_run, choose_run_folder, resumed_config
    from cellscribble.train.understood import save_understood

    labels, file = options.pop("labels"), options.pop("config")
    flags = {key: value for key, value in options.items() if value is not None}
    if resume and file is not None:
        raise click.UsageError("--resume goes on with the run's own settings; leave --config out")
    config = None if resume else load_config(file, flags)
    folder = choose_run_folder(out, None if config is None else config.method, datetime.now())
    config = config or resumed_config(folder, flags)
    check_run(config, folder, resume, labels is not None)
    training_set = open_training_set(images, scribbles, labels, **config.reading)
    report_understood(training_set)
    say(f"strokes as they were read: {save_understood(folder, training_set)}")
    reporter = BarReporter()
    try:
        with progress_bar("training") as reporter.bar:
            result = train(training_set, config, folder, reporter, resume=resume)
            exported = export_both(folder, folder / MODEL_FILE, overwrite=True, tell=reporter.part)
    except KeyboardInterrupt:
        say(how_to_go_on(folder, images, scribbles, labels))
        raise
    report_result(result, exported)
    model = exported.model
    if as_json:
        emit("done", model=model.path, run=folder, score=result.score, interrupted=result.interrupted)
    if training_set.failures:
        from cellscribble.core.errors import BatchError

        raise BatchError(training_set.failures, len(training_set.pairs))
    return [model.path]


def spin_briefly() -> None:
    """Let threads that wait for each other spin for a moment, then sleep; call before torch is imported.

    Where another program uses the same cores, threads that spin on (the default) wait for one that was
    put aside, at every operation; threads that sleep at once are slow to wake on an idle machine. Median
    of a training step on two cores, alone: 62 ms by default, 75 so, 105 asleep. Beside one busy program:
    2300 ms by default, 200 so, 140 asleep. Beside a second training: 5400 by default, 280 asleep.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")


class BarReporter:
    """Shows a run on the progress bar."""

    bar: Bar

    def say(self, text: str) -> None:
        say(text)

    def part(self, what: str, done: float, total: float) -> None:
        self.bar.part(what, done, total)

    def tick(self, tick: Any) -> None:
        terms = "  ".join(f"{name} {value:.3f}" for name, value in tick.terms.items())
        score = f"  held-out {tick.score.score:.3f}" if tick.score else ""
        self.bar.update(tick.done, tick.total, f"{tick.stage}  {terms}{score}")


def how_to_go_on(folder: Path, images: Path, scribbles: Path, labels: Path | None) -> str:
    """What to type after a run was ended at once."""
    from cellscribble.train.checkpoint import LAST

    if not (folder / LAST).exists():
        return f"stopped before anything was learnt; nothing of {folder} is needed, type the same command again"
    more = [] if labels is None else ["--labels", str(labels)]
    line = shlex.join(["cellscribble", "train", str(images), str(scribbles), *more, "--resume", "-o", str(folder)])
    return f"stopped; go on where it was: {line}"


def report_understood(training_set: Any) -> None:
    """Print what each image and its strokes were understood as."""
    from rich.table import Table

    from cellscribble.cli.output import console
    from cellscribble.core.volume import pixel_size_text
    from cellscribble.train.understood import describe

    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("image", "shape", "axes", "pixel size", *training_set.classes, "labelled"):
        table.add_column(title, no_wrap=True)
    rows = [describe(pair, training_set.classes) for pair in training_set.pairs]
    for row in rows[:MAX_ROWS]:
        counts = [str(n) for n in row["strokes"].values()]
        share = f"{100 * row['labelled_share']:.2f} %"
        size = pixel_size_text(row["pixel_size_um"])
        table.add_row(shorten(row["name"]), row["shape"], row["axes"], size, *counts, share)
    console().print(table)
    totals = {name: sum(row["strokes"][name] for row in rows) for name in training_set.classes}
    more = f" ({len(rows) - MAX_ROWS} more images not shown)" if len(rows) > MAX_ROWS else ""
    say(f"{len(rows)} images{more}; strokes: " + ", ".join(f"{name} {n}" for name, n in totals.items()))
    for what in ("read", "strokes_read"):
        for text, n in Counter(row[what] for row in rows).most_common():
            say(f"  {n} x {text}")
    for text in training_set.warnings:
        warn(text)
    for name, message in training_set.failures.items():
        warn(f"{name} is left out: {message}")


MAX_ROWS = 12


def report_result(result: Any, exported: Exported) -> None:
    """Print how it ended."""
    if result.interrupted:
        say(f"stopped after epoch {result.n_epochs}; the best state so far was exported (go on with --resume)")
    if result.score is None:
        say(f"no hold-out score: {result.holdout.reason or 'no state was scored before the end'}")
    else:
        say(f"held-out strokes: {holdout_words(result.score)}")
        if is_guessing(result.score):
            warn(
                "that is no better than guessing: the model has not learnt what the strokes mean. See "
                f"{result.folder / 'understood.png'} whether they were read as meant; train longer, or draw more"
            )
    say(f"edges lie at probability {result.calibration.edge_level:.2f} of the raw network; built into the model")
    worst, model = max(c.largest_difference for c in exported.comparisons), exported.model
    say(f"torch and ONNX Runtime differ by {worst:.1e} at most")
    if words := int8_words(exported):
        say(words)
    say(f"pictures: {result.folder / 'curves.png'}, {result.folder / 'seen.png'}")
    say(f"model: {model.path}")
    level = model.metadata.config["level"]
    # Elsewhere predict finds the level by its pixel size.
    more = f" --level {level}" if level and model.metadata.pixel_size_um is None else ""
    say(f"next: cellscribble predict YOUR_IMAGES{more}")
