"""`--macro`: the command line for a program that can read one line and nothing else.

ImageJ's exec() gives a macro what the program wrote to stdout. It drops stderr and the exit code, and
waits for ever once 64 kB lie unread on stderr. So nothing goes there, and the answer is a line.
"""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from cellscribble.core.errors import CellScribbleError


def answer_in_one_line(args: Sequence[str], work: Callable[[], Any]) -> int:
    """Do `work` with stderr in a log file; print its answer as the last line of stdout; the exit code.

    ``OK PATH``, several paths with tabs between them, or ``ERROR what is wrong, what was found, what to do``.
    Until the process ends nothing appears on stderr, whatever library writes there. The log is deleted
    if all went well; an error names it.

    work : raises, or returns the paths that it made, an exit code, or None
    """
    handle, path = _open_log()
    os.dup2(handle, 2)
    os.close(handle)
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    click.echo(shlex.join(["cellscribble", *args]), err=True)
    if hasattr(sys.stdout, "reconfigure"):
        # A file name that the system's code page lacks must not break the answer.
        sys.stdout.reconfigure(errors="backslashreplace")
    code, answer = _do(work)
    if code and path:
        answer += f" (log: {path})"
    click.echo(answer, err=True)
    click.echo(answer)
    if not code and path:
        _forget(path)
    return code


def _open_log() -> tuple[int, str]:
    """Nowhere, with no path, where no temporary folder can be written to: the work may do without."""
    try:
        return tempfile.mkstemp(prefix="cellscribble-", suffix=".log")
    except OSError:
        return os.open(os.devnull, os.O_WRONLY), ""


def _do(work: Callable[[], Any]) -> tuple[int, str]:
    try:
        made = work()
    except CellScribbleError as error:
        return 1, _error(str(error))
    except (click.Abort, KeyboardInterrupt):
        return 130, _error("interrupted")
    except click.ClickException as error:
        return error.exit_code, _error(error.format_message().rstrip(".") + "; see docs/cli.md for what may be typed")
    except Exception as error:  # noqa: BLE001 - the caller would see nothing of it
        traceback.print_exc()
        return 1, _error(f"{type(error).__name__}: {error}; this is a bug of CellScribble, please send the log")
    if isinstance(made, int):
        return made, "OK" if made == 0 else _error(f"ended with code {made}")
    return 0, "\t".join(["OK", *(str(Path(one).absolute()) for one in made or ())]).replace("\t", " ", 1)


def _error(message: str) -> str:
    return "ERROR " + " ".join(message.split())


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        # Windows keeps a file that is open.
        return
