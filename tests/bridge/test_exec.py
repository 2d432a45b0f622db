"""The command line through ImageJ's own exec(), which drops stderr and the exit code."""

import sys

import pytest
import tifffile

from cellscribble.bridge.macro_text import quote
from tests.infer.analytic import disks, write_model

pytestmark = pytest.mark.imagej

CHATTER = """
import os, sys
from pathlib import Path
import click
from cellscribble.cli import main

@click.command()
@click.argument("path", type=click.Path(path_type=Path))
def chatter(path):
    for _ in range(3000):
        print("x" * 49, file=sys.stderr)
        os.write(2, b"y" * 49 + bytes([10]))
    path.write_text("done")
    return [path]

main.COMMANDS["chatter"] = ("__main__:chatter", "")
sys.exit(main.run(sys.argv[1:]))
"""


def through_exec(imagej, *args) -> str:
    """The last line that exec() gives a macro."""
    answer = imagej.folder / "answer.txt"
    imagej.run(f"answer = exec({', '.join(map(quote, args))}); File.saveString(answer, {quote(answer)});")
    return answer.read_text(encoding="utf-8").splitlines()[-1]


def test_300_kb_of_chatter_do_not_hang_imagej(imagej):
    """From Python and from below it, as progress bars and native libraries write."""
    script = imagej.folder / "chatter.py"
    script.write_text(CHATTER, encoding="utf-8")
    made = imagej.folder / "made.txt"
    assert through_exec(imagej, sys.executable, script, "--macro", "chatter", made) == f"OK {made}"
    assert made.read_text() == "done"


def test_predict_answers_with_the_labels(imagej):
    image = imagej.folder / 'it\'s "quoted" ä.tif'
    tifffile.imwrite(image, disks()[0])
    model = write_model(imagej.folder / "model.onnx")
    program = (sys.executable, "-m", "cellscribble", "--macro", "predict")
    answer = through_exec(imagej, *program, image, "-m", model, "-o", imagej.folder / "out")
    labels = imagej.folder / "out" / 'it\'s "quoted" ä_labels.tif'
    assert answer == f"OK {labels}"
    assert tifffile.imread(labels).max() == 2
    again = through_exec(imagej, *program, image, "-m", model, "-o", imagej.folder / "out")
    assert again.startswith(f"ERROR {imagej.folder}/out/")
    assert "exists already; give --overwrite" in again
