"""`cellscribble demo`: the commands in a row, on the nuclei that ship with CellScribble."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from cellscribble.cli.output import emit, say
from cellscribble.cli.train import spin_briefly

DEFAULT_MINUTES = 2.0
SHOWN = {"iou": "IoU", "dice": "Dice", "mean_dice_per_truth": "mDice", "f1": "F1", "ap_50": "AP.50", "ap_mean": "AP"}

EPILOG = """\b
Examples:
  cellscribble demo
  cellscribble demo --minutes 10 -o demo_10
"""


@click.command(epilog=EPILOG)
@click.option(
    "-o",
    "--out",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Folder of everything made. [default: ./cellscribble_demo, or the next free cellscribble_demo_2 ...]",
)
@click.option("--minutes", type=float, default=DEFAULT_MINUTES, show_default=True, help="Time to train.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of everything random.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace the results of an earlier demo in this folder.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines on stdout.")
def command(out: Path | None, minutes: float, seed: int, device: str, overwrite: bool, as_json: bool) -> list[Path]:
    """Train on shipped images of nuclei, segment images that training never saw, and score the result.

    Runs `train`, `predict` and `evaluate` as you would type them, and shows each line.
    """
    spin_briefly()
    from cellscribble import demo
    from cellscribble.metrics.pairs import evaluate_files

    example = demo.find_example()
    place = demo.choose_place(out, overwrite=overwrite)
    run, results = str(place.run), str(place.results)
    json = ["--json"] if as_json else []
    again = ["--overwrite"] if overwrite else []
    settings = ["--minutes", f"{minutes:g}", "--seed", str(seed), "--device", device]
    _run("train", str(example.images), str(example.scribbles), "-o", run, *settings, *json)
    wanted = ["--probability", "--overlay", "--device", device]
    _run("predict", str(example.test_images), "-m", run, "-o", results, *wanted, *again, *json)
    _run("evaluate", results, str(example.test_labels), *again, *json)
    ours = demo.mean_scores(evaluate_files(place.results, example.test_labels).scores, list(SHOWN))
    otsu = demo.mean_scores(demo.otsu_scores(example), list(SHOWN))
    demo.save_sheet(place.sheet, example, place.results)
    if as_json:
        emit("demo", folder=place.folder, sheet=place.sheet, means=ours, otsu_means=otsu)
    else:
        _print_comparison(ours, otsu)
    say(f"pictures: {place.sheet} (all of it), {place.results / '*_overlay.png'} (one an image)")
    say(f"labels, for Fiji, CellProfiler and napari: {place.results / '*_labels.tif'}")
    say(f"the strokes it learnt from: {example.scribbles}")
    return [place.sheet]


def _run(name: str, *args: str) -> None:
    from cellscribble.cli.main import cli

    say(f"\n$ cellscribble {shlex.join([name, *args])}")
    cli.main([name, *args], prog_name="cellscribble", standalone_mode=False)


def _print_comparison(ours: dict[str, float], otsu: dict[str, float]) -> None:
    rows = [("mean over the unseen images", list(SHOWN.values()))]
    for title, means in (("CellScribble, from strokes", ours), ("Otsu's threshold, no training", otsu)):
        rows.append((title, [f"{means[name]:.3f}" for name in SHOWN]))
    click.echo()
    for title, values in rows:
        click.echo(f"{title:<30}" + "".join(f"{value:>8}" for value in values))
