"""Write docs/cli.md from the commands' own help: python docs/write_cli.py (--print shows it only)"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cellscribble.cli.main import COMMANDS, cli

PAGE = Path(__file__).with_name("cli.md")
WIDTH = 92

INTRODUCTION = """# The command line

This page is what `cellscribble COMMAND --help` prints.

What holds for all commands:

- Results are files. Words and progress go to stderr; with `--json` each event is one line of JSON on stdout, for
  programs that call CellScribble.
- Exit code 0: done. 1: could not; the last lines on stderr say what is wrong and what to do. 2: the command was typed
  wrongly. 130: interrupted. 143: ended by SIGTERM.
- Nothing is overwritten unless you say `--overwrite`, and a file that is there is whole: everything is written under a
  temporary name first.
- `cellscribble --macro COMMAND` is for macros and programs that read one line: [Fiji](fiji.md) tells how it answers.
- In a batch, a file that fails is reported and the others go on; the end lists what failed, and the exit code is 1.
"""


def help_of(name: str | None = None) -> str:
    """The help of one command, or of the program itself."""
    top = click.Context(cli, info_name="cellscribble", terminal_width=WIDTH, **cli.context_settings)
    if name is None:
        return cli.get_help(top)
    command = cli.get_command(top, name)
    assert command is not None
    return command.get_help(click.Context(command, info_name=name, parent=top, **command.context_settings))


def render() -> str:
    """The whole page."""
    parts = [INTRODUCTION, f"```text\n{help_of()}\n```\n"]
    parts += [f"## {name}\n\n```text\n{help_of(name)}\n```\n" for name in COMMANDS]
    return "\n".join(parts)


if __name__ == "__main__":
    if "--print" in sys.argv:
        click.echo(render(), nl=False)
    else:
        PAGE.write_text(render(), encoding="utf-8")
