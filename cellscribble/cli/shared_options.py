"""Options that several commands have: the same words, the same meaning."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]


def model_option(command: Command) -> Command:
    """`--model`: which model is put to the images."""
    return click.option(
        "-m",
        "--model",
        metavar="MODEL",
        help="Model file, run folder or name of a shipped model. [default: the newest run below this folder]",
    )(command)


def reading_options(command: Command) -> Command:
    """How image files are read, and brought to what the model takes; names as in `engine.options.PredictOptions`."""
    return _in_order(
        click.option("--axes", help="Axes of the file where it does not say them, such as ZCYX."),
        click.option("--timepoint", type=click.IntRange(0), metavar="N", help="Which time point of a series, from 0."),
        click.option(
            "--level",
            type=click.IntRange(0),
            metavar="N",
            help="Pyramid level, 0 is the finest. [default: nearest to the model's pixel size]",
        ),
        click.option("--rescale", is_flag=True, help="Resample the image to the model's pixel size."),
        click.option("--ignore-pixel-size", is_flag=True, help="Go on although pixel sizes differ."),
    )(command)


def budget_options(minutes: str) -> Decorator:
    """`--minutes` and `--epochs`, how long to train; `minutes` says what the time is for."""
    return _in_order(
        click.option("--minutes", type=float, help=f"{minutes} [default: 10]"),
        click.option("--epochs", type=int, help="Train for this many passes over the images instead."),
    )


def training_options(command: Command) -> Command:
    """`--device` and `--config`, where and with which settings to train, and `axes_options`."""
    return _in_order(
        click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="Where to compute. [default: auto]"),
        click.option(
            "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Settings as TOML."
        ),
        axes_options("the image files"),
    )(command)


def axes_options(files: str) -> Decorator:
    """`--axes`, `--timepoint` and `--level` of images that are learnt from; `files` is what the axes belong to."""
    return _in_order(
        click.option("--axes", help=f"Axes of {files}, such as ZYX or CYX, where they are read wrongly."),
        click.option("--timepoint", type=click.IntRange(0), metavar="N", help="Which time point of a series, from 0."),
        click.option(
            "--level", type=click.IntRange(0), metavar="N", help="Pyramid level, 0 is the finest. [default: 0]"
        ),
    )


def _in_order(*options: Decorator) -> Decorator:
    # Decorators are applied from the last to the first, so that help lists them in this order.
    return lambda command: functools.reduce(lambda done, option: option(done), reversed(options), command)
