"""`cellscribble doctor`: what is installed, what is broken, and how to repair it."""

from __future__ import annotations

import click

from cellscribble.cli.output import emit
from cellscribble.core.errors import CellScribbleError

MARKS = {"ok": "ok  ", "optional": "-   ", "warning": "warn", "problem": "FAIL"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines on stdout.")
def command(as_json: bool) -> None:
    """Check this installation, one line a part; where something is wrong the line says what to do.

    Exit code 0: CellScribble can work. 1: something that it needs is broken.
    """
    from cellscribble import doctor

    problems = []
    for check in doctor.examine():
        if check.status == doctor.PROBLEM:
            problems.append(check)
        if as_json:
            emit("check", name=check.name, status=check.status, found=check.found, remedy=check.remedy)
        else:
            remedy = f" -> {check.remedy}" if check.remedy else ""
            click.echo(f"{MARKS[check.status]}  {check.name:<13} {check.found}{remedy}")
    if as_json:
        emit("summary", usable=not problems, problems=[check.name for check in problems])
    if problems:
        raise CellScribbleError("; ".join(f"{p.name} is broken: {p.remedy}" for p in problems))
    if not as_json:
        click.echo("CellScribble can work here.")
