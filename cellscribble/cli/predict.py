"""`cellscribble predict`: labels from images and a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import click

from cellscribble.bundle import Model, open_model
from cellscribble.cli.output import Bar, emit, progress_bar, say, shorten, warn
from cellscribble.cli.plan_words import plan_lines
from cellscribble.cli.shared_options import model_option, reading_options
from cellscribble.core.errors import InputError
from cellscribble.engine.batch import predict_files
from cellscribble.engine.memory import keep_freed_memory, parse_bytes
from cellscribble.engine.options import PredictOptions
from cellscribble.engine.outputs import AUTO, FORMS
from cellscribble.engine.shards import Shard, parse_shard
from cellscribble.infer.find_model import find_model, open_for
from cellscribble.infer.fit import format_um
from cellscribble.infer.runner import Runner
from cellscribble.io.ome_zarr import VERSIONS

EPILOG = """\b
Examples:
  cellscribble predict ./imgs --overlay
  cellscribble predict slide.zarr -m runs/nuclei -o results
  cellscribble predict slide.zarr --max-memory 2GB --dry-run
"""


SHOWN = 6
"""Names of images in a list."""


def parse_block(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """The numbers of a block size, "512" or "64,256,256"."""
    if value is None:
        return None
    try:
        block = tuple(int(part) for part in value.split(","))
    except ValueError:
        block = (0,)
    if min(block) < 1 or len(block) > 3:
        raise click.BadParameter(f"{value!r} is no block size; give 512 or 64,256,256 (z,y,x)", ctx, param)
    return block


def _parse_memory(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    try:
        return None if value is None else parse_bytes(value)
    except InputError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def _parse_shard(ctx: click.Context, param: click.Parameter, value: str | None) -> Shard | None:
    try:
        return None if value is None else parse_shard(value)
    except InputError as error:
        raise click.BadParameter(str(error), ctx, param) from None


@click.command(epilog=EPILOG)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", type=click.Path())
@model_option
@click.option(
    "-o",
    "--out",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Folder of the results. [default: ./cellscribble_out; for a Zarr, beside it; for a URL, here]",
)
@click.option("--classes", "as_classes", is_flag=True, help="Label classes instead of single objects.")
@click.option("--probability", is_flag=True, help="Also write the probability of each class.")
@click.option("--uncertainty", is_flag=True, help="Also write how unsure the model is (0 to 255).")
@click.option("--overlay/--no-overlay", default=False, help="Also write a PNG with the outlines on the image.")
@click.option("--cellprofiler", is_flag=True, help="Also write a folder that CellProfiler measures as it stands.")
@click.option("--overwrite", is_flag=True, help="Replace results that exist.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines on stdout.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option(
    "--block", "block_px", metavar="PX", callback=parse_block, help="Block size, 512 or z,y,x: memory against speed."
)
@reading_options
@click.option("--planes", is_flag=True, help="Put a 2D model to each plane of a stack; objects are joined in 3D.")
@click.option(
    "--no-skip-empty",
    "skip_empty",
    is_flag=True,
    flag_value=False,
    default=True,
    help="Zarr: put empty blocks through the network too.",
)
@click.option(
    "--on-error",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="Zarr: what a block that cannot be read does.",
)
@click.option(
    "--ome-zarr", type=click.Choice(VERSIONS), default="0.4", show_default=True, help="Version that is written."
)
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Zarr: work in N processes of this computer.")
@click.option(
    "--scheduler", metavar="ADDRESS", help="Zarr: work on a dask.distributed cluster; or the scheduler's file."
)
@click.option(
    "--shard", callback=_parse_shard, metavar="I/N", help="Do part I of N only; 'cellscribble stitch' ends a Zarr."
)
@click.option(
    "--format",
    type=click.Choice(FORMS),
    default=AUTO,
    show_default=True,
    help="Of the results; auto: Zarr for a Zarr or a huge image, else TIFF.",
)
@click.option("--into-image", metavar="NAME", help="Zarr: put labels into the image itself, as labels/NAME.")
@click.option(
    "--max-memory",
    callback=_parse_memory,
    metavar="SIZE",
    help="Stay below this much memory, such as 2GB. [default: about half of what is free]",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done and needed; write nothing.")
@click.option(
    "--log",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Add a line a minute to this file: how far it is.",
)
@click.option("--float32", is_flag=True, help="Not the model in 8 bits that is faster on processors, if there is one.")
@click.option("--threshold", type=float, metavar="P", help="Decide at this probability, not at the model's.")
@click.pass_obj
def command(
    open_runner: Callable[[Model, str], Runner] | None,
    /,
    inputs: tuple[str, ...],
    model: str | None,
    out: Path | None,
    as_json: bool,
    log: Path | None,
    float32: bool,
    **settings: Any,
) -> list[Path]:
    """Segment images, folders of images, or OME-Zarr stores, also at a URL.

    Writes NAME_labels.tif (NAME_labels.zarr for a Zarr or a huge image) that Fiji, CellProfiler and napari open,
    and NAME_labels.json that says how it was made.
    """
    keep_freed_memory()
    path = find_model(model)
    options = PredictOptions(**settings)
    loaded = open_model(path) if float32 else open_for(options.device, path)
    say(f"model {path}{'' if model else ' (the newest run; choose another with -m)'}")
    if loaded.path != path:
        say(f"  in 8 bits for the processor, {loaded.path.name} (--float32 takes the other)")
    with progress_bar("predict", log=None if options.dry_run else log) as bar:
        report = Reporter(bar, as_json=as_json, dry_run=options.dry_run)
        jobs = predict_files(inputs, loaded, out, options, report, open_runner or Runner)
    if options.dry_run:
        say("this was a dry run: nothing was written")
        return []
    if options.shard is not None:
        jobs = [job for job in jobs if not job.by_blocks]
        if not jobs:
            return []
    folders = ", ".join(dict.fromkeys(str(job.labels.parent) for job in jobs))
    say(f"{_count(len(jobs), 'image')} done, results in {folders}")
    if len(jobs) > 1 and report.unlike:
        say(f"look first at those that are unlike the images the model learnt from: {_some(report.unlike)}")
    return [job.labels for job in jobs]


class Reporter:
    """Turns the batch's events into words and a bar on stderr, or JSON lines on stdout."""

    def __init__(self, bar: Bar, *, as_json: bool, dry_run: bool = False) -> None:
        self._bar = bar
        self._dry_run = dry_run
        self._as_json = as_json
        self._n_images = 1
        self._said: set[str] = set()
        self.unlike: list[str] = []

    def __call__(self, event: str, /, **fields: Any) -> None:
        if event == "progress":
            done = fields["index"] + fields["done"] / fields["total"]
            words = f": {fields['words']}" if fields["words"] else ""
            self._bar.update(done, self._n_images, shorten(fields["name"]) + words)
            return
        if self._as_json:
            emit(event, **fields)
        if event == "start":
            self._n_images = fields["n_images"]
            where = fields["provider"].removesuffix("ExecutionProvider")
            done = f", {fields['n_done']} of them done already" if fields["n_done"] else ""
            say(f"{_count(self._n_images, 'image')} on {where}{done}")
        elif event == "workers":
            known = f"{_count(fields['n'], 'worker')} with {_count(fields['n_threads'], 'thread')}"
            say(known if fields["n"] else "no workers yet: waiting for the first")
        elif event == "image":
            shape = " x ".join(str(n) for n in fields["shape"])
            size = format_um(fields["pixel_size_um"])
            say(f"{fields['image']}: {fields['axes']} {shape} {fields['dtype']}, pixels {size} ({fields['origin']})")
            if fields["why_level"]:
                say(f"  {fields['why_level']}")
        elif event == "plan":
            for line in plan_lines(fields, dry_run=self._dry_run):
                say(f"  {line}")
            for warning in fields["warnings"]:
                warn(warning)
        elif event == "done":
            for note in fields["notes"]:
                self._warn(note)
            if fields["unlike"]:
                self.unlike.append(shorten(PurePath(fields["image"]).name))
            found = "classes" if fields["n_objects"] is None else _count(fields["n_objects"], "object")
            say(f"  {found} -> {fields['labels']} ({fields['seconds']:.1f} s)")
        elif event == "shard":
            for note in fields["notes"]:
                self._warn(note)
            index, count = fields["shard"]
            say(f"  shard {index} of {count} is done; when all are: cellscribble stitch {fields['unfinished']}")
        elif event == "failed":
            warn(f"{fields['image']} failed: {fields['message']}")
        elif event == "cellprofiler":
            say(f"measure with CellProfiler: {fields['command']}")

    def _warn(self, note: str) -> None:
        """Once, although it may hold for many images."""
        if note not in self._said:
            warn(note)
            self._said.add(note)


def _some(names: list[str]) -> str:
    """The first few, and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more (unlike in the .json files)" if more > 0 else "")


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
