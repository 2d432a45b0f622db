"""The command line's front door. Commands are named by strings and imported when they are called.

Exit code 0: done. 1: could not, the last line on stderr says what to do. 2: wrong usage.
130: interrupted. 143: ended by SIGTERM. With --macro: see cli/macro.py.
"""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from cellscribble._version import __version__
from cellscribble.core.errors import CellScribbleError
from cellscribble.core.interrupt import Terminated, end_as_at_ctrl_c

COMMANDS: dict[str, tuple[str, str]] = {
    "annotate": ("cellscribble.cli.annotate:command", "Draw strokes in Fiji."),
    "train": ("cellscribble.cli.train:command", "Train a network from strokes and export model.onnx."),
    "predict": ("cellscribble.cli.predict:command", "Segment images, folders or OME-Zarr with a model."),
    "adapt": ("cellscribble.cli.adapt:command", "Fit a model to one volume or image by strokes on it."),
    "stitch": ("cellscribble.cli.stitch:command", "Finish what shards of predict have begun."),
    "measure": ("cellscribble.cli.measure:command", "Measure objects: tables as CellProfiler exports them."),
    "evaluate": ("cellscribble.cli.evaluate:command", "Score labels against labels drawn by hand."),
    "rois": ("cellscribble.cli.rois:command", "Labels to ImageJ ROIs, and ROIs to labels or scribbles."),
    "suggest": ("cellscribble.cli.suggest:command", "Mark where a model is least sure."),
    "info": ("cellscribble.cli.info:command", "Show what a model says about itself."),
    "simulate": ("cellscribble.cli.simulate:command", "Make strokes from full label images."),
    "compare": ("cellscribble.cli.compare:command", "Which method suits my images? Several on the same strokes."),
    "export": ("cellscribble.cli.export:command", "Write model.onnx again from a run folder."),
    "methods": ("cellscribble.cli.methods:command", "List the training methods and their papers."),
    "demo": ("cellscribble.cli.demo:command", "Train and segment real nuclei in two minutes."),
    "fiji-install": ("cellscribble.cli.fiji_install:command", "Put CellScribble into Fiji's menu."),
    "serve": ("cellscribble.cli.serve:command", "Keep models loaded for a program that calls predict often."),
    "doctor": ("cellscribble.cli.doctor:command", "Check this installation; says what to repair."),
}

INTERRUPTED, TERMINATED = 130, 143

EPILOG = """\b
Draw a few strokes on some images, then:
  cellscribble train ./imgs ./scribbles
  cellscribble predict slide.zarr
"""


class LazyGroup(click.Group):
    """A group whose help needs no command to be imported, so that it answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name][0].split(":")
        # What is imported stays: looking through it for garbage takes a third of the time of importing it.
        gc.disable()
        try:
            command: click.Command = getattr(importlib.import_module(module), name)
            gc.freeze()
        finally:
            gc.enable()
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"there is no command {args[0]!r}; commands are {', '.join(COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="cellscribble")
@click.option(
    "--macro", is_flag=True, expose_value=False, help="For macros: no stderr, and a last line OK PATH or ERROR WHY."
)
def cli() -> None:
    """Draw a few strokes on cells, train, and segment images of any size.

    "cellscribble COMMAND --help" explains a command.
    """


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    end_as_at_ctrl_c()
    sys.exit(run(args))


def run(args: Sequence[str] | None = None, runners: Any = None) -> int:
    """Run the command line; the exit code. An exception that leaves here is a bug of ours.

    runners : what "predict" takes its networks from (`cellscribble.engine.warm`); None to load them
    """
    given = list(sys.argv[1:] if args is None else args)
    if "--macro" in given:
        from cellscribble.cli.macro import answer_in_one_line

        given.remove("--macro")
        return answer_in_one_line(given, lambda: _call(given))
    try:
        result = _call(given, runners)
    except CellScribbleError as error:
        click.echo(f"error: {error}", err=True)
        return 1
    except (click.Abort, KeyboardInterrupt) as error:
        # click raises its own Abort from what interrupted.
        if isinstance(error.__cause__ or error, Terminated):
            click.echo("ended by SIGTERM", err=True)
            return TERMINATED
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return result if isinstance(result, int) else 0


def _call(args: list[str], runners: Any = None) -> Any:
    """What the command returns: an exit code, the paths of the files it made, or nothing."""
    return cli.main(args, prog_name="cellscribble", standalone_mode=False, obj=runners)
