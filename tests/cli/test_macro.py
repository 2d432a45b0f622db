"""The contract for programs that read one line: stderr empty, last line OK or ERROR."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import tifffile

from cellscribble.cli.main import COMMANDS
from cellscribble.io.ome_zarr import write_ome_zarr
from tests.infer.analytic import disks, write_model

PLUGINS = Path(__file__).parents[2] / "plugins" / "fiji"
BUG = """
import sys, click
from cellscribble.cli import main
@click.command()
def bug():
    print("before")
    raise ZeroDivisionError("no\\ncells")
main.COMMANDS["bug"] = ("__main__:bug", "")
sys.exit(main.run(["--macro", "bug"]))
"""


def call(*args, cwd, code=None):
    """Exit code and last line of stdout; stderr must be empty whatever happens."""
    start = ["-c", code] if code else ["-m", "cellscribble"]
    done = subprocess.run(
        [sys.executable, *start, *map(str, args)], capture_output=True, text=True, cwd=cwd, check=False, timeout=120
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()[-1]


def log_of(line: str) -> str:
    path = Path(re.search(r" \(log: (.+)\)$", line)[1])
    text = path.read_text(encoding="utf-8")
    path.unlink()
    return text


@pytest.fixture
def place(tmp_path):
    write_model(tmp_path / "model.onnx")
    (tmp_path / "imgs").mkdir()
    for name in ("a", "b c"):
        tifffile.imwrite(tmp_path / "imgs" / f"{name}.tif", disks()[0])
    return tmp_path


def test_paths_stand_in_one_line_with_tabs_between(place):
    code, line = call("--macro", "predict", "imgs", "-m", "model.onnx", cwd=place)
    assert code == 0
    assert line == f"OK {place}/cellscribble_out/a_labels.tif\t{place}/cellscribble_out/b c_labels.tif"


def test_the_flag_may_stand_anywhere_and_other_output_comes_before(place):
    code, line = call("info", "model.onnx", "--json", "--macro", cwd=place)
    assert (code, line) == (0, "OK")


def test_an_error_is_one_line_and_names_its_log(place):
    (place / "imgs" / "a.tif").write_bytes(b"II*\0")
    code, line = call("--macro", "predict", "imgs", "-m", "model.onnx", cwd=place)
    assert code == 1
    assert line.startswith("ERROR 1 of 2 files failed: imgs/a.tif: ")
    log = log_of(line)
    assert log.startswith("cellscribble predict imgs -m model.onnx\n")
    assert "b c_labels.tif" in log
    assert log.rstrip().endswith(line)
    # What failed left nothing, what did not is whole.
    made = sorted(p.name for p in (place / "cellscribble_out").iterdir())
    assert made == ["b c_labels.json", "b c_labels.tif"]


@pytest.mark.parametrize("args", [["segment"], ["predict"], ["predict", "imgs", "--level", "x"]])
def test_wrong_usage_says_what_and_where_to_look(place, args):
    code, line = call("--macro", *args, cwd=place)
    assert code == 2
    assert re.match(r"ERROR .+; see docs/cli.md", line)
    log_of(line)


def test_a_bug_of_ours_is_one_line_and_the_log_has_its_traceback(place):
    code, line = call(cwd=place, code=BUG)
    assert code == 1
    assert line.startswith("ERROR ZeroDivisionError: no cells; this is a bug of CellScribble")
    assert "Traceback" in log_of(line)


def test_no_command_says_a_word_on_stderr_when_it_is_called_wrongly(place):
    """All of them in one process, whose stderr is the log of one after the other."""
    code = (
        "from cellscribble.cli import main\nfor name in main.COMMANDS: main.run(['--macro', name, '--no-such-option'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=place, check=True)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) == len(COMMANDS)
    for line in lines:
        assert re.match(r"ERROR No such option.*--no-such-option.*; see docs/cli.md", line)
        log_of(line)


def test_each_command_answers_with_the_files_it_made(place):
    write_ome_zarr(place / "slide.zarr", disks(), "CYX", kind="image")
    (place / "Fiji" / "plugins").mkdir(parents=True)
    fiji = "Fiji/plugins/CellScribble"
    commands = {
        "predict imgs/a.tif -m model.onnx": ["cellscribble_out/a_labels.tif"],
        "rois cellscribble_out/a_labels.tif rois.zip": ["rois.zip"],
        "rois rois.zip back.tif --like imgs/a.tif --labels": ["back.tif"],
        "simulate back.tif -o strokes --share 1": ["strokes/back.tif"],
        "evaluate back.tif cellscribble_out/a_labels.tif": ["scores.csv"],
        "measure back.tif imgs/a.tif -o tables": ["tables/MyExpt_Cells.csv", "tables/MyExpt_Image.csv"],
        "suggest imgs/a.tif -m model.onnx --size 16 -o boxes.zip": ["boxes.zip"],
        "predict slide.zarr -m model.onnx --shard 1/1": [],
        "stitch slide_labels.unfinished": ["slide_labels.zarr"],
        "fiji-install Fiji": [f"{fiji}/{path.name}" for path in sorted(PLUGINS.glob("CellScribble_*.ijm"))]
        + [f"{fiji}/tools.txt"],
        "info model.onnx": [],
        "methods": [],
        "doctor": [],
        "--version": [],
        "--help": [],
    }
    for words, files in commands.items():
        code, line = call("--macro", *words.split(), cwd=place)
        assert (code, line) == (0, " ".join(["OK", "\t".join(str(place / file) for file in files)]).strip()), words
        assert all((place / file).exists() for file in files)


def test_without_a_temporary_folder_there_is_an_answer_and_no_log(place):
    code = (
        "import tempfile\n"
        "def full(*args, **named): raise OSError(28, 'No space left on device')\n"
        "tempfile.mkstemp = full\n"
        "from cellscribble.cli import main\n"
        "main.run(['--macro', 'info', 'gone.onnx'])\n"
        "raise SystemExit(main.run(['--macro', 'info', 'model.onnx']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=place, check=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith(("OK", "ERROR"))]
    assert done.stderr == ""
    assert lines[0].startswith("ERROR there is no model file")
    assert "log:" not in lines[0]
    assert lines[1:] == ["OK"]


def test_train_answers_with_the_model(place, disks_2d):
    from cellscribble.io.scribbles import save_scribbles

    tifffile.imwrite(place / "disk.tif", disks_2d.image.data[0])
    save_scribbles(place / "strokes.tif", disks_2d.scribbles)
    code, line = call("--macro", "train", "disk.tif", "strokes.tif", "--epochs", "2", "-o", "run", cwd=place)
    assert (code, line) == (0, f"OK {place}/run/model.onnx")
    code, line = call("--macro", "export", "run", "-o", "shared.onnx", cwd=place)
    assert (code, line) == (0, f"OK {place}/shared.onnx")
