import json

import pytest

from cellscribble.cli.main import run
from cellscribble.io.ome_zarr import write_ome_zarr
from tests.infer.analytic import disks, write_model


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a model and an OME-Zarr, where the user stands."""
    write_model(tmp_path / "model.onnx")
    write_ome_zarr(tmp_path / "slide.zarr", disks(), "CYX", kind="image")
    monkeypatch.chdir(tmp_path)
    return tmp_path


PREDICT = ["predict", "slide.zarr", "-m", "model.onnx", "--block", "16", "--device", "cpu"]


def test_shards_say_how_to_end_and_stitch_ends(place, capsys):
    for shard in ("1/2", "2/2"):
        assert run([*PREDICT, "--shard", shard]) == 0
        err = capsys.readouterr().err
        assert f"shard {shard[0]} of 2 is done; when all are: cellscribble stitch slide_labels.unfinished" in err
        assert "image done" not in err
    assert not (place / "slide_labels.zarr").exists()
    assert run(["stitch", "slide_labels.unfinished"]) == 0
    assert "2 objects -> slide_labels.zarr" in capsys.readouterr().err
    assert run(["stitch", "."]) == 0
    assert "nothing is left to stitch" in capsys.readouterr().err


def test_events_of_shards_and_stitch(place, capsys):
    assert run([*PREDICT, "--shard", "1/1", "--json"]) == 0
    shard = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert shard["event"] == "shard"
    assert shard["shard"] == [1, 1]
    assert shard["unfinished"] == "slide_labels.unfinished"
    assert run(["stitch", "slide.zarr", "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["image", "done"]
    assert events[-1]["n_objects"] == 2


def test_results_that_came_meanwhile_are_replaced_only_if_asked(place, capsys):
    assert run([*PREDICT, "--shard", "1/1"]) == 0
    (place / "slide_labels.json").write_text("mine")
    assert run(["stitch", "."]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert (place / "slide_labels.json").read_text() == "mine"
    assert run(["stitch", ".", "--overwrite"]) == 0
    assert json.loads((place / "slide_labels.json").read_text())["n_objects"] == 2


def test_what_cannot_be_is_said(place, capsys):
    assert run([*PREDICT, "--shard", "3/2"]) == 2
    assert "no shard" in capsys.readouterr().err
    assert run([*PREDICT, "--shard", "1/2", "--workers", "2"]) == 1
    assert "exclude each other" in capsys.readouterr().err
    assert run(["stitch", "other.zarr"]) == 1
    assert "nothing unfinished at other.zarr" in capsys.readouterr().err
