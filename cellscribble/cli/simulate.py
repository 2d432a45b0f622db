"""`cellscribble simulate`: strokes from full label images, to compare methods."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from cellscribble.cli.output import emit, say
from cellscribble.core.errors import BatchError, CellScribbleError
from cellscribble.data.simulate import simulate_scribbles
from cellscribble.io.images import image_name, list_images
from cellscribble.io.label_images import read_labels
from cellscribble.io.scribbles import save_scribbles

EPILOG = """\b
Examples:
  cellscribble simulate labels -o scribbles
  cellscribble simulate labels -o scribbles_30 --share 0.3 --seed 1
"""


@click.command(epilog=EPILOG)
@click.argument("labels", metavar="LABELS", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, metavar="FOLDER", type=click.Path(path_type=Path))
@click.option("--share", type=click.FloatRange(0, 1), default=0.1, show_default=True, help="Of objects with a stroke.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace scribbles that exist.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines on stdout.")
def command(labels: Path, out: Path, share: float, seed: int, overwrite: bool, as_json: bool) -> list[Path]:
    """Draw strokes from full LABELS (a file or a folder), one object one number.

    Each drawn object gets its 1 px skeleton, and the background as many strokes. The same seed with
    a larger share draws the same strokes and more.
    """
    failures: dict[str, str] = {}
    written: list[Path] = []
    for path in list_images(labels):
        target = out / f"{image_name(path)}.tif"
        try:
            # A generator of its own for each file: one more image changes no other's strokes.
            rng = np.random.default_rng([seed, *image_name(path).encode()])
            scribbles = simulate_scribbles(read_labels(path), share, rng)
            save_scribbles(target, scribbles, overwrite)
        except CellScribbleError as error:
            failures[image_name(path)] = str(error)
            continue
        written.append(target)
        if as_json:
            emit("scribbles", scribbles=target, n_foreground_px=int((scribbles > 0).sum()))
    say(f"{len(written)} scribble files in {out}")
    if failures:
        raise BatchError(failures, len(written))
    return written
