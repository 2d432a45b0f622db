"""`cellscribble measure`: tables of objects as CellProfiler exports them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cellscribble.cli.output import emit, progress_bar, say, shorten
from cellscribble.cli.predict import parse_block
from cellscribble.core.errors import BatchError
from cellscribble.measure.by_cp_measure import APPEARANCE, MAX_PIXELS
from cellscribble.measure.table_files import CSV, FORMS
from cellscribble.measure.tables import Wanted, measure_files

EPILOG = """\b
Examples:
  cellscribble measure cellscribble_out ./imgs
  cellscribble measure slide_labels.zarr slide.zarr --channels DAPI,GFP
  cellscribble measure cellscribble_out ./imgs --also texture,distribution
"""


def _parse_names(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip())


def _parse_groups(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    groups = tuple(dict.fromkeys(_parse_names(ctx, param, value)))
    if unknown := [group for group in groups if group not in APPEARANCE]:
        raise click.BadParameter(f"{', '.join(unknown)} is not a group; there are {', '.join(APPEARANCE)}")
    return groups


@click.command(epilog=EPILOG)
@click.argument("labels", metavar="LABELS", type=click.Path(path_type=Path))
@click.argument("images", metavar="[IMAGES]", required=False, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    default="cellscribble_measurements",
    show_default=True,
    help="Folder of the tables.",
)
@click.option("--objects", metavar="NAME", default="Cells", show_default=True, help="What the objects are called.")
@click.option("--channels", metavar="NAMES", default="", callback=_parse_names, help="Such as DAPI,GFP.")
@click.option("--level", type=click.IntRange(0), default=0, metavar="N", help="Pyramid level, 0 is the finest.")
@click.option("--block", "block_px", metavar="PX", callback=parse_block, help="Block size, 2048 or z,y,x.")
@click.option("--format", "form", type=click.Choice(FORMS), default=CSV, show_default=True, help="Of the tables.")
@click.option("--quick", is_flag=True, help="Leave out hulls, radii and quartiles: for millions of objects.")
@click.option(
    "--also",
    metavar="GROUPS",
    default="",
    callback=_parse_groups,
    help=f"{','.join(APPEARANCE)}, or one of them, of images to {MAX_PIXELS / 1e6:.1f} megapixels; slow.",
)
@click.option("--overwrite", is_flag=True, help="Replace tables that exist.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines on stdout.")
def command(
    labels: Path,
    images: Path | None,
    out: Path,
    objects: str,
    channels: tuple[str, ...],
    level: int,
    block_px: tuple[int, ...] | None,
    form: str,
    quick: bool,
    also: tuple[str, ...],
    overwrite: bool,
    as_json: bool,
) -> list[Path]:
    """Measure the objects of LABELS, and the channels of IMAGES in them: two files, or two folders paired by name.

    Writes MyExpt_Cells.csv and MyExpt_Image.csv, or Parquet, with the columns of CellProfiler. Block by block, so an
    OME-Zarr may be of any size.
    """
    with progress_bar("measure") as bar:

        def report(event: str, /, **fields: Any) -> None:
            if event == "progress":
                bar.update(fields["done"], 1.0, shorten(fields["name"]))
                return
            if as_json:
                emit(event, **fields)
            say(f"{fields['image']}: {fields['n_objects']} objects")

        wanted = Wanted(objects, channels, level, block_px, quick, also)
        tables = measure_files(labels, images, out, wanted, report, form=form, overwrite=overwrite)
    if n_unknown := sum(not any(key.startswith("Size_") for key in row) for row in tables.rows):
        say(
            f"{n_unknown} of {len(tables.rows)} label images do not say their pixel size, so they have no density; "
            "set it in them (Fiji: Image > Properties)"
        )
    say(f"tables: {tables.objects}, {tables.images}")
    if tables.failures:
        raise BatchError(tables.failures, len(tables.rows))
    return [tables.objects, tables.images]
