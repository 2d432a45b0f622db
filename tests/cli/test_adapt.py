import json

import numpy as np
import pytest
import tifffile

from cellscribble.bundle import open_model
from cellscribble.cli.main import run
from cellscribble.config import TrainConfig
from cellscribble.io.scribbles import save_scribbles
from cellscribble.train.run import train
from tests.conftest import make_balls, make_disks
from tests.infer.analytic import write_model
from tests.train.runs import Quiet, training_set


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run folder with a 2D model."""
    folder = tmp_path_factory.mktemp("runs") / "disks"
    config = TrainConfig(minutes=None, epochs=3, patch_px=32, batch_size=2, device="cpu", seed=4)
    train(training_set(make_disks(0)), config, folder, Quiet())
    assert run(["export", str(folder)]) == 0
    return folder


@pytest.fixture
def files(tmp_path):
    """A stack of dark balls and strokes on three of its sections."""
    balls = make_balls(3)
    data = np.asarray(balls.image.data)[0]
    tifffile.imwrite(tmp_path / "dark.tif", data.max() - data, metadata={"axes": "ZYX"})
    save_scribbles(tmp_path / "strokes.tif", balls.scribbles)
    return tmp_path


def test_a_run_a_volume_and_strokes_give_a_model_that_predict_takes(trained, files, capsys):
    assert run(["adapt", str(trained), str(files / "dark.tif"), str(files / "strokes.tif"), "--json"]) == 0
    captured = capsys.readouterr()
    out = files / "dark_model.onnx"
    done = json.loads(captured.out)
    assert (done["event"], done["model"]) == ("done", str(out))
    assert f"next: cellscribble predict {files / 'dark.tif'} -m {out} --planes" in captured.err
    assert "stroked pixels: background 72, cell 60" in captured.err
    assert open_model(out).metadata.graph_cut["strength"] == 0.9
    assert (
        run(["predict", str(files / "dark.tif"), "-m", str(out), "-o", str(files / "out"), "--classes", "--planes"])
        == 0
    )
    found = tifffile.imread(files / "out" / "dark_labels.tif") > 0
    true = make_balls(3).mask > 0
    assert (found & true).sum() / (found | true).sum() > 0.5
    record = json.loads((files / "out" / "dark_labels.json").read_text())
    assert any("graph cut" in note for note in record["notes"])
    assert run(["predict", str(files / "dark.tif"), "-m", str(out), "--threshold", "0.4", "--planes"]) == 1
    assert "--threshold does not apply to a model that decides by a graph cut" in capsys.readouterr().err
    assert run(["info", str(out)]) == 0
    told = capsys.readouterr().out
    assert "strength" in told
    # The same words as at the end of the training.
    words = next(line for line in captured.err.splitlines() if line.startswith("adapted without them: "))
    right = words.removeprefix("adapted without them: ").split(";")[0]
    assert right.endswith("of the pixels right")
    assert "no better" not in captured.err
    assert right in told


def test_who_gains_nothing_is_told(trained, files, capsys):
    """Adapted to the dark volume the model is right about all held-out strokes, and a second time cannot be better."""
    volume, strokes = str(files / "dark.tif"), str(files / "strokes.tif")
    assert run(["adapt", str(trained), volume, strokes, "-o", str(files / "once.onnx")]) == 0
    assert run(["adapt", str(files / "once.onnx"), volume, strokes, "-o", str(files / "twice.onnx")]) == 0
    first, second = capsys.readouterr().err.split("stroked pixels: ")[1:]
    assert "made the held-out strokes no better" not in first
    assert "made the held-out strokes no better" in second


def test_without_the_cut_the_threshold_counts_again(trained, files):
    out = files / "plain.onnx"
    arguments = ["adapt", str(trained), str(files / "dark.tif"), str(files / "strokes.tif"), "-o", str(out)]
    assert run([*arguments, "--no-graph-cut"]) == 0
    assert open_model(out).metadata.graph_cut is None
    assert '"graph_cut"' not in open_model(out).metadata.to_json()
    assert run(arguments) == 1
    assert run([*arguments, "--overwrite"]) == 0
    assert open_model(out).metadata.graph_cut is not None


def test_bad_input_exits_1_with_a_remedy_and_writes_nothing(trained, files, capsys):
    def error_of(*arguments) -> str:
        assert run(["adapt", *map(str, arguments)]) == 1
        return capsys.readouterr().err.splitlines()[-1]

    before = sorted(p.name for p in files.iterdir())
    volume, strokes = files / "dark.tif", files / "strokes.tif"
    save_scribbles(files / "flat.tif", np.zeros((48, 48), np.int16))
    assert "but the image is (24, 48, 48) [ZYX]" in error_of(trained, volume, files / "flat.tif")
    tifffile.imwrite(files / "two.tif", np.zeros((2, 48, 48), np.uint16), metadata={"axes": "CYX"})
    assert "the model expects 1 channel" in error_of(trained, files / "two.tif", files / "flat.tif")
    write_model(files / "other.onnx")
    assert "no last layer with one channel a class" in error_of(files / "other.onnx", volume, strokes)
    assert "there is no model file, run folder or shipped model 'nothing'" in error_of("nothing", volume, strokes)
    made = {"flat.tif", "two.tif", "other.onnx"}
    assert sorted(p.name for p in files.iterdir() if p.name not in made) == before
