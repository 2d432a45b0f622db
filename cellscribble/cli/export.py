"""cellscribble export"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellscribble.bundle import MODEL_FILE
from cellscribble.cli.output import emit, holdout_words, say
from cellscribble.core.errors import InputError
from cellscribble.io.atomic import check_writable

if TYPE_CHECKING:
    from cellscribble.export.int8 import Exported

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)

EPILOG = """\b
Examples:
  cellscribble export runs/nuclei --name nuclei_mine --licence CC-BY-4.0
  cellscribble export runs/nuclei -o share/model.onnx --card "Nuclei in DAPI." --test-images new --test-labels drawn
"""


@click.command(epilog=EPILOG)
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Model file. [default: RUN/model.onnx]")
@click.option("--name", help="What the model is called. [default: as the run]")
@click.option("--licence", "license", metavar="TEXT", help="Under which others may use it, such as CC-BY-4.0.")
@click.option("--citation", metavar="TEXT", help="What its users are to cite. [default: the method's paper]")
@click.option("--card", metavar="TEXT", help="Also write README.md beside the model; TEXT says what it is for.")
@click.option("--test-images", metavar="FOLDER", type=FOLDER, help="For the card: images that training did not see.")
@click.option("--test-labels", metavar="FOLDER", type=FOLDER, help="For the card: labels of these, drawn by hand.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("--json", "as_json", is_flag=True, help="Report as one JSON line on stdout.")
def command(
    run: Path,
    out: Path | None,
    card: str | None,
    test_images: Path | None,
    test_labels: Path | None,
    overwrite: bool,
    as_json: bool,
    **about: str | None,
) -> list[Path]:
    """Write model.onnx from the best state in the folder RUN, and compare it with the trained network.

    Beside it model_int8.onnx, the same in 8 bits, which predict takes on processors; not of volumes, and not where it
    would decide more than .1 % of the pixels of RUN's tiles otherwise.
    """
    if (test_images or test_labels) and not (test_images and test_labels and card):
        raise InputError("--test-images and --test-labels belong together, and to --card: give all three")
    from cellscribble.export.card import CARD, test_pairs, write_card
    from cellscribble.export.int8 import export_both

    test = test_pairs(test_images, test_labels) if test_images and test_labels else []

    out = out or run / MODEL_FILE
    if card is not None:
        check_writable(out.parent / CARD, overwrite)
    said = {key: value for key, value in about.items() if value is not None}
    exported = export_both(run, out, about=said, overwrite=overwrite)
    model = exported.model
    for c in exported.comparisons:
        say(f"{c.size_px:5d} px: torch and ONNX Runtime differ by {c.largest_difference:.1e}")
    if words := int8_words(exported):
        say(words)
    say(f"model: {model.path}")
    if card is not None:
        holdout = model.metadata.holdout
        words = holdout_words(holdout) if holdout else "none: too few strokes"
        say(f"card: {write_card(model, words, card, test, overwrite)}")
    if as_json:
        differences = {str(c.size_px): c.largest_difference for c in exported.comparisons}
        int8 = exported.int8 and {"model": exported.int8.path, "changed_share": exported.changed_share}
        emit("done", model=model.path, differences=differences, int8=int8)
    return [model.path]


def int8_words(exported: Exported) -> str:
    """What became of the model in 8 bits; empty where there is nothing to say."""
    if exported.int8 is None:
        return exported.why_not
    return (
        f"in 8 bits, for processors: {exported.int8.path.name}; {exported.changed_share:.3%} of the pixels of the "
        "training tiles are decided otherwise"
    )
