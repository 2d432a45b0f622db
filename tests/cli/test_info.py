import json

import pytest

from cellscribble.cli.main import run
from tests.infer.analytic import metadata, write_model

HOLDOUT = {"score": 0.81, "low": 0.7, "high": 0.88, "standard_error": 0.04, "n_strokes": [9, 12]}


@pytest.fixture
def model(tmp_path):
    meta = metadata(pixel_size_um=(0.5, 0.5), edge_threshold=0.9, holdout=HOLDOUT)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    return write_model(tmp_path / "run" / "model.onnx", meta)


def test_info_shows_all_that_a_user_needs(model, capsys):
    assert run(["info", str(model)]) == 0
    out = capsys.readouterr().out
    holdout = "0.810 of the pixels right, 95 % interval 0.700 to 0.880 (9 + 12 strokes)"
    for fact in ("box blur", "cell #ff0000", "2D CYX, channels DAPI", "0.5 x 0.5 µm", "0.9 (built in)",
                 holdout, "CC0-1.0", "2 x 2 px"):  # fmt: skip
        assert fact in out


def test_info_as_json_is_one_line_for_plugins(model, capsys):
    assert run(["info", str(model), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["event"] == "info"
    written = metadata(pixel_size_um=(0.5, 0.5), edge_threshold=0.9, holdout=HOLDOUT)
    assert found["metadata"] == json.loads(written.to_json())
    assert len(found["sha256"]) == 64


def test_info_takes_a_run_folder_or_the_newest_run(model, capsys, monkeypatch):
    assert run(["info", str(model.parent)]) == 0
    monkeypatch.chdir(model.parents[1])
    assert run(["info"]) == 0
    assert "box blur" in capsys.readouterr().out


def test_info_on_no_model_exits_1_with_the_remedy(tmp_path, capsys):
    (tmp_path / "a.tif").write_bytes(b"II*\0")
    assert run(["info", str(tmp_path / "a.tif")]) == 1
    assert "copy it again" in capsys.readouterr().err
