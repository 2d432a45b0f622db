"""`cellscribble annotate`: draw strokes in Fiji."""

from __future__ import annotations

from pathlib import Path

import click

from cellscribble.bridge.annotate import annotate
from cellscribble.cli.output import say
from cellscribble.io.rois import read_rois

EPILOG = """\b
Examples:
  cellscribble annotate ./imgs ./scribbles --classes nucleus
  cellscribble annotate ./imgs ./scribbles --fiji ~/Fiji
"""


@click.command(epilog=EPILOG)
@click.argument("images", type=click.Path(exists=True, path_type=Path))
@click.argument("scribbles", type=click.Path(file_okay=False, path_type=Path))
@click.option("--classes", default="cell", show_default=True, metavar="A,B", help="Names, without background.")
@click.option("--width", "width_px", type=click.IntRange(1), default=3, show_default=True, help="Of a stroke, px.")
@click.option(
    "--fiji",
    metavar="FIJI_DIR",
    type=click.Path(exists=True, path_type=Path),
    help="Folder of Fiji or ImageJ. [default: the one that 'cellscribble doctor' finds]",
)
def command(images: Path, scribbles: Path, classes: str, width_px: int, fiji: Path | None) -> list[Path]:
    """Open Fiji on IMAGES to draw strokes, saved in the folder SCRIBBLES as you draw.

    Waits until Fiji is closed; what was drawn is there whatever happens to Fiji. Then train:
    cellscribble train IMAGES SCRIBBLES
    """
    say("Fiji starts; draw, n is the next image, and close Fiji when you are done")
    annotate(images, scribbles, [name.strip() for name in classes.split(",")], width_px, fiji)
    drawn = sorted(scribbles.glob("*_rois.zip"))
    n_strokes = sum(len(read_rois(path)) for path in drawn)
    say(f"{n_strokes} stroke(s) on {len(drawn)} image(s), in {scribbles}")
    if drawn:
        say(f"next: cellscribble train {images} {scribbles}")
    return drawn
