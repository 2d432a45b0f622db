"""cellscribble compare"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from cellscribble.baselines.registry import BASELINES
from cellscribble.cli.output import progress_bar, say, warn
from cellscribble.cli.shared_options import budget_options, training_options
from cellscribble.cli.train import report_understood, spin_briefly
from cellscribble.methods.registry import METHODS

DEFAULT_METHODS = ("otsu", "random_forest", "partial_cross_entropy", "scribble2label")
DEFAULT_OUT = "cellscribble_compare"
EPILOG = """\b
Examples:
  cellscribble compare imgs scribbles --minutes 5
  cellscribble compare imgs scribbles --test-images new --test-labels new_masks --seeds 0,1,2
"""


def _names(context: click.Context, option: click.Parameter, given: Sequence[str]) -> tuple[str, ...]:
    """Names given apart or with commas between, each once."""
    names = tuple(dict.fromkeys(name.strip() for text in given for name in text.split(",") if name.strip()))
    for name in names:
        if name not in METHODS and name not in BASELINES:
            raise click.BadParameter(f"{name!r} is unknown; choose of {', '.join([*BASELINES, *METHODS])}")
    return names


def _seeds(context: click.Context, option: click.Parameter, given: Sequence[str]) -> tuple[int, ...]:
    names = [name.strip() for text in given for name in text.split(",") if name.strip()]
    if not names or not all(name.isdecimal() for name in names):
        raise click.BadParameter(f"{', '.join(given)!r}; expected whole numbers from 0, such as 0,1,2")
    return tuple(dict.fromkeys(int(name) for name in names))


FOLDER = click.Path(exists=True, path_type=Path)


@click.command(epilog=EPILOG)
@click.argument("images", type=FOLDER)
@click.argument("scribbles", type=FOLDER)
@click.option(
    "--methods",
    multiple=True,
    callback=_names,
    metavar="NAME,...",
    help=f"Also baselines: {', '.join(BASELINES)}. [default: {','.join(DEFAULT_METHODS)}]",
)
@budget_options("Time budget of each method and seed.")
@click.option("--seeds", multiple=True, default=["0"], callback=_seeds, metavar="N,...", help="[default: 0]")
@click.option("--labels", type=FOLDER, help="Masks of IMAGES: to score on them, and for full_supervision.")
@click.option("--test-images", type=FOLDER, help="Score on these images instead, which no method trains on ...")
@click.option("--test-labels", type=FOLDER, help="... with these masks.")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=DEFAULT_OUT,
    show_default=True,
    help="Folder of all results.",
)
@click.option("--network", help="light, resnet34 or resnet50. [default: light]")
@training_options
@click.option("--json", "as_json", is_flag=True, help="Report as JSON lines on stdout.")
def command(
    images: Path, scribbles: Path, methods: tuple[str, ...], seeds: tuple[int, ...], out: Path, **options: Any
) -> list[Path]:
    """Train several methods on the same strokes in the same time, and tell which suits IMAGES.

    All hold the same strokes out and are scored on these; with masks also on masks. Stopped or killed, the same
    command goes on; a finished method is not trained again.
    """
    spin_briefly()
    from cellscribble.cli.compare_words import Listener, print_json, print_table, say_split
    from cellscribble.compare.results import TABLE
    from cellscribble.compare.run import SHEET, Comparison, compare
    from cellscribble.core.errors import BatchError, TrainingError
    from cellscribble.methods.registry import get_method
    from cellscribble.train.inputs import open_training_set

    if (options["test_images"] is None) != (options["test_labels"] is None):
        raise click.UsageError("give both --test-images and --test-labels, or neither")
    config = _checked_config(options, methods)
    needs_masks = any(get_method(name).needs_masks for name in methods if name in METHODS)
    labels = options["labels"] if needs_masks else None
    training_set = open_training_set(images, scribbles, labels, **config.reading)
    chosen = methods or default_methods(len(training_set.classes))
    exam = _exam(training_set, images, options, config.reading)
    if exam.is_of_classes(len(training_set.classes)):
        say(f"masks: numbers to {exam.largest} are taken for classes, in the order of those of the strokes")
    comparison = Comparison(training_set, config, _jobs(chosen, seeds), exam, out)
    report_understood(training_set)
    say_split(comparison)
    listener = Listener()
    try:
        with progress_bar("comparing") as listener.bar:
            outcome = compare(comparison, listener)
    except KeyboardInterrupt:
        say("stopped; the same command goes on")
        raise
    if outcome.results:
        if options["as_json"]:
            print_json(outcome, out)
        else:
            print_table(outcome, exam)
        say(f"all scores, of every seed: {out / TABLE}")
        say(f"side by side: {out / SHEET}")
        for job in [r.job for r in outcome.results if r.job.method in METHODS][:1]:
            say(f"models: {out / '*.onnx'}; next: cellscribble predict YOUR_IMAGES -m {comparison.model_of(job)}")
    if outcome.failures:
        listed = "\n".join(f"  {name}: {message}" for name, message in outcome.failures.items())
        n = f"{len(outcome.failures)} of {len(comparison.jobs)}"
        raise TrainingError(f"{n} runs failed; the same command tries them again:\n{listed}")
    if training_set.failures:
        raise BatchError(training_set.failures, len(training_set.pairs))
    return [out / TABLE]


def default_methods(n_classes: int) -> tuple[str, ...]:
    """What is compared where nothing is said: of the default, what can run here."""
    left_out = {}
    if n_classes > 2:
        left_out["otsu"] = f"a threshold tells two classes apart, the strokes have {n_classes}"
    if importlib.util.find_spec("sklearn") is None:
        left_out["random_forest"] = "it needs scikit-learn: pip install 'cellscribble[compare]'"
    for name, why in left_out.items():
        warn(f"{name} is left out: {why}")
    return tuple(name for name in DEFAULT_METHODS if name not in left_out)


def _checked_config(options: dict[str, Any], methods: Sequence[str]) -> Any:
    """The settings of all networks; what cannot run is refused before any image is read."""
    from cellscribble.config import load_config
    from cellscribble.core.errors import InputError
    from cellscribble.methods.registry import get_method
    from cellscribble.train.start import check_settings

    names = ("minutes", "epochs", "network", "device", "axes", "timepoint", "level")
    config = load_config(options["config"], {k: options[k] for k in names if options[k] is not None})
    if config.method_settings:
        raise InputError(
            f"{options['config']} has [method_settings], which belong to one method; compare takes each with its own "
            "defaults, so leave them out"
        )
    for name in methods or DEFAULT_METHODS:
        if name in METHODS:
            masks = get_method(name).needs_masks and options["labels"] is not None
            check_settings(replace(config, method=name), masks)
    return config


def _exam(training_set: Any, images: Path, options: dict[str, Any], reading: dict[str, Any]) -> Any:
    from cellscribble.compare.exam import Exam, exam_on_training_images, exam_on_unseen_images

    test_images, test_labels = options["test_images"], options["test_labels"]
    if test_images is not None:
        return exam_on_unseen_images(training_set, test_images, test_labels, **reading)
    if options["labels"] is not None:
        return exam_on_training_images(training_set, images, options["labels"])
    return Exam()


def _jobs(methods: Sequence[str], seeds: Sequence[int]) -> tuple[Any, ...]:
    from cellscribble.compare.results import Job

    return tuple(Job(method, seed) for seed in seeds for method in methods)
