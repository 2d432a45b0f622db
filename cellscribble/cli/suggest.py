"""`cellscribble suggest`: where a model is least sure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cellscribble.bundle import open_model
from cellscribble.cli.output import progress_bar, say, shorten, warn
from cellscribble.cli.shared_options import model_option, reading_options
from cellscribble.engine.options import PredictOptions
from cellscribble.engine.suggest import suggest_files
from cellscribble.infer.find_model import find_model
from cellscribble.io.images import image_name

EPILOG = """\b
Examples:
  cellscribble suggest ./imgs -m runs/nuclei
  cellscribble suggest slide.zarr -n 20 --size 256 -o rois.zip
"""


@click.command(epilog=EPILOG)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", type=click.Path())
@model_option
@click.option(
    "-o",
    "--out",
    metavar="OUT",
    type=click.Path(path_type=Path),
    help="ROIS.zip for one image, or a folder for NAME_suggestions.zip. [default: ./cellscribble_out]",
)
@click.option("-n", "n", type=click.IntRange(1), default=10, show_default=True, help="Boxes, in all images together.")
@click.option("--size", "size_px", type=click.IntRange(8), default=96, show_default=True, help="Side of a box, px.")
@click.option("--overwrite", is_flag=True, help="Replace results that exist.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@reading_options
@click.option("--planes", is_flag=True, help="Put a 2D model to each plane of a stack.")
def command(
    inputs: tuple[str, ...], model: str | None, out: Path | None, n: int, size_px: int, **settings: Any
) -> list[Path]:
    """Mark the boxes where a model is least sure, as ImageJ ROIs: look there, and correct it by strokes.

    The boxes are ranked (suggest_01 first), do not overlap, and differ in look and place. Of a slide
    a sample of blocks is looked at. With a model in its run folder, places of training images where it
    disagrees with its own average during training count as unsure too.
    """
    path = find_model(model)
    say(f"model {path}{'' if model else ' (the newest run; choose another with -m)'}")
    with progress_bar("suggest") as bar:
        found = suggest_files(
            inputs,
            open_model(path),
            out,
            PredictOptions(**settings),
            n=n,
            size_px=size_px,
            say=lambda done, name: bar.update(done, None, shorten(name)),
        )
    for note in found.notes:
        warn(note)
    for one in found.suggestions:
        place = f"y {one.corner[0]}, x {one.corner[1]}"
        plane = "" if one.plane is None else f"plane {one.plane + 1}, "
        say(f"{one.rank:3d}  {shorten(image_name(one.image))}  {plane}{place}  doubt {one.score:.3f}")
    if not found.suggestions:
        say("nothing to suggest: the model is sure of every place that it looked at")
    elif len(found.suggestions) < n:
        say(f"{len(found.suggestions)} boxes, not {n}: elsewhere the model is sure")
    say("\n".join(f"boxes -> {file}" for file in found.files))
    return found.files
