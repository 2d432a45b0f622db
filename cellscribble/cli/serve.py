"""`cellscribble serve`: `predict` for programs that segment many images, without starting anew for each."""

from __future__ import annotations

import contextlib
import io
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from cellscribble.cli.main import INTERRUPTED, TERMINATED, run
from cellscribble.core.interrupt import Terminated
from cellscribble.engine.serve import only_one, serve


@click.command()
@click.argument("place", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--idle-minutes",
    type=click.FloatRange(0, 10_000, min_open=True),
    default=10.0,
    show_default=True,
    metavar="N",
    help="End when nothing was asked for so long.",
)
def command(place: Path, idle_minutes: float) -> None:
    """Keep models in memory, and do what "predict" does for programs of this computer that ask.

    FILE will say how to ask; it must lie in a folder that only you can read. A second server of the same FILE ends at
    once. CellProfiler's module RunCellScribble starts this by itself.
    """
    with only_one(place) as alone:
        if not alone:
            click.echo(f"{place} has a server already", err=True)
            return
        # Of several that are started at once only this one loads the libraries.
        from cellscribble.engine.warm import WarmRunners

        runners = WarmRunners()
        click.echo(f"{place} says how to ask; ends after {idle_minutes:g} minutes in which nobody does", err=True)
        serve(place, lambda arguments: predict(arguments, runners), 60 * idle_minutes)


def predict(arguments: list[str], runners: Any) -> dict[str, Any]:
    """Exit code and words of `cellscribble predict` with these arguments.

    Raises
    ------
    KeyboardInterrupt
        If this process was told to end meanwhile.
    """
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(said):
        try:
            # Beside its results stands the command that made them.
            sys.argv[1:] = ["predict", *arguments]
            code = run(runners=runners)
        except Exception:  # noqa: BLE001 - a bug ends this request as it would end the command, and no other
            traceback.print_exc()
            code = 1
    if code in (INTERRUPTED, TERMINATED):
        raise Terminated if code == TERMINATED else KeyboardInterrupt
    return {"code": code, "said": said.getvalue()}
