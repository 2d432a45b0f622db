"""`cellscribble stitch`: one result from what shards have seen."""

from __future__ import annotations

from pathlib import Path

import click

from cellscribble.cli.output import progress_bar, say
from cellscribble.cli.predict import Reporter
from cellscribble.engine.finish import stitch
from cellscribble.engine.memory import keep_freed_memory

EPILOG = """\b
Examples:
  cellscribble stitch slide_labels.unfinished
  cellscribble stitch results
"""


@click.command(epilog=EPILOG)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace results that exist.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines on stdout.")
def command(out: Path, overwrite: bool, as_json: bool) -> list[Path]:
    """Finish what 'cellscribble predict --shard' has begun at OUT.

    OUT is the folder of the results, NAME_labels.unfinished in it, or the image. Where blocks
    are missing the shards to run again are named, and nothing is finished.
    """
    keep_freed_memory()
    with progress_bar("stitch") as bar:
        jobs = stitch(out, Reporter(bar, as_json=as_json), overwrite)
    if not jobs:
        say(f"nothing is left to stitch: the labels at {out} are finished")
    return [job.labels for job in jobs]
