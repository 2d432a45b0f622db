"""Options that several commands have: the same words, the same meaning."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

Command = Callable[..., Any]


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
    options = (
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
    )
    # Decorators are applied from the last to the first, so that help lists them in this order.
    return functools.reduce(lambda done, option: option(done), reversed(options), command)
