"""`cellscribble fiji-install`: the menu Plugins > CellScribble."""

from __future__ import annotations

from pathlib import Path

import click

from cellscribble.bridge.fiji import install
from cellscribble.cli.output import say


@click.command()
@click.argument("fiji", metavar="FIJI_DIR", type=click.Path(path_type=Path))
def command(fiji: Path) -> list[Path]:
    """Copy CellScribble's commands into a Fiji or ImageJ: menu Plugins > CellScribble.

    FIJI_DIR holds the folder 'plugins'. Type it again after CellScribble was moved or updated.
    """
    written = install(fiji)
    say(f"{len(written)} files in {written[0].parent}; start Fiji again, then look at Plugins > CellScribble")
    return written
