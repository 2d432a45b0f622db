import tifffile

from cellscribble.cli.main import run
from cellscribble.io.rois import read_rois
from tests.engine.test_suggest import picture
from tests.infer.analytic import write_model


def test_the_boxes_are_listed_and_written(tmp_path, capsys):
    tifffile.imwrite(tmp_path / "a.tif", picture((200, 300), (120, 200), (40, 100)))
    write_model(tmp_path / "m.onnx")
    words = ["suggest", str(tmp_path / "a.tif"), "-m", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "r.zip")]
    assert run([*words, "-n", "2", "--size", "40"]) == 0
    assert len(read_rois(tmp_path / "r.zip")) == 2
    err = capsys.readouterr().err
    assert "  1  a  y " in err
    assert f"boxes -> {tmp_path / 'r.zip'}" in err
    assert run([*words, "-n", "9", "--size", "40"]) == 1
    assert "exists already" in capsys.readouterr().err


def test_a_model_that_is_sure_has_nothing_to_suggest(tmp_path, capsys):
    tifffile.imwrite(tmp_path / "a.tif", picture())
    write_model(tmp_path / "m.onnx")
    assert run(["suggest", str(tmp_path / "a.tif"), "-m", str(tmp_path / "m.onnx"), "-o", str(tmp_path)]) == 0
    assert "nothing to suggest" in capsys.readouterr().err
