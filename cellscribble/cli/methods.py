"""cellscribble methods"""

from __future__ import annotations

import click

from cellscribble.baselines.registry import BASELINES
from cellscribble.methods.registry import DEFAULT_METHOD, METHODS


@click.command()
def command() -> None:
    """List the training methods, each with its paper."""
    width = max(map(len, METHODS))
    for name, entry in {**METHODS, **BASELINES}.items():
        if name == next(iter(BASELINES)):
            click.echo("\nOnly beside them, in 'cellscribble compare':\n")
        mark = "*" if name == DEFAULT_METHOD else " "
        click.echo(f"{mark} {name:<{width}}  {entry.summary}\n  {'':<{width}}  {entry.paper}")
    click.echo("\n* default. Choose one with: cellscribble train IMAGES SCRIBBLES --method NAME")
