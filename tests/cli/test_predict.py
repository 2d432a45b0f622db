import json
import os

import numpy as np
import pytest
import tifffile

from cellscribble.cli.main import run
from cellscribble.io.ome_zarr import write_ome_zarr
from tests.cli.test_main import modules_after
from tests.infer.analytic import disks, metadata, write_model
from tests.io.http_folder import serve


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a run and two images, where the user stands."""
    run_folder = tmp_path / "runs" / "nuclei"
    run_folder.mkdir(parents=True)
    write_model(run_folder / "model.onnx", metadata(pixel_size_um=(0.5, 0.5)))
    (run_folder / "config.json").write_text("{}")
    (tmp_path / "imgs").mkdir()
    for name in ("a", "b"):
        tifffile.imwrite(
            tmp_path / "imgs" / f"{name}.tif",
            disks()[0],
            imagej=True,
            resolution=(2, 2),
            metadata={"unit": "um"},
        )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_predict_without_anything_else_uses_the_newest_run_and_says_so(place, capsys):
    assert run(["predict", "imgs"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "runs/nuclei/model.onnx (the newest run; choose another with -m)" in err
    assert "2 images on CPU" in err
    assert "CYX 1 x 48 x 64 uint8, pixels 0.5 x 0.5 µm" in err
    assert "2 objects -> cellscribble_out/a_labels.tif" in err
    assert "2 images done, results in cellscribble_out" in err
    assert tifffile.imread("cellscribble_out/a_labels.tif").max() == 2


def test_predict_never_imports_torch(place):
    code, modules, stderr = modules_after("predict", "imgs/a.tif", "--overlay", "--probability", cwd=place)
    assert code == 0, stderr
    assert "onnxruntime" in modules
    assert not modules & {"torch", "onnx", "onnxscript"}
    assert (place / "cellscribble_out" / "a_overlay.png").is_file()


def test_json_lines_alone_stand_on_stdout(place, capsys):
    assert run(["predict", "imgs", "--json", "-m", "runs/nuclei", "-o", "out", "--block", "32,16"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["start", "image", "done", "image", "done"]
    assert {event["schema"] for event in events} == {1}
    assert events[2]["labels"] == os.path.join("out", "a_labels.tif")
    assert events[2]["n_objects"] == 2
    record = json.loads((place / "out" / "a_labels.json").read_text())
    assert record["settings"]["block_px"] == [32, 16]


def test_the_exact_command_is_kept(place, capsys, monkeypatch):
    args = ["predict", "imgs/a.tif", "-o", "my out"]
    monkeypatch.setattr("sys.argv", ["/usr/bin/cellscribble", *args])
    assert run(args) == 0
    record = json.loads((place / "my out" / "a_labels.json").read_text())
    assert record["command"] == "cellscribble predict imgs/a.tif -o 'my out'"


def test_classes_are_written_in_place_of_objects(place, capsys):
    assert run(["predict", "imgs/a.tif", "--classes"]) == 0
    assert tifffile.imread("cellscribble_out/a_labels.tif").max() == 1
    assert "classes -> " in capsys.readouterr().err


def test_one_bad_file_exits_1_and_is_listed_last(place, capsys):
    (place / "imgs" / "b.tif").write_bytes(b"II*\0")
    assert run(["predict", "imgs"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert "error: 1 of 2 files failed:" in lines
    assert "b.tif" in lines[-1]
    assert (place / "cellscribble_out" / "a_labels.tif").is_file()


def test_a_wrong_image_exits_1_and_writes_nothing(place, capsys):
    tifffile.imwrite(place / "rgb.tif", np.zeros((48, 64, 3), np.uint8), photometric="rgb")
    assert run(["predict", "rgb.tif"]) == 1
    assert "the model expects 1 channel (DAPI), image 'rgb' has 3 (RGB)" in capsys.readouterr().err
    assert list((place / "cellscribble_out").iterdir()) == []


def test_another_pixel_size_needs_a_decision(place, capsys):
    tifffile.imwrite(place / "c.tif", disks((96, 128))[0], imagej=True, resolution=(4, 4), metadata={"unit": "um"})
    assert run(["predict", "c.tif"]) == 1
    assert "--ignore-pixel-size" in capsys.readouterr().err.splitlines()[-1]
    assert run(["predict", "c.tif", "--ignore-pixel-size"]) == 0
    assert run(["predict", "c.tif", "--rescale", "--overwrite"]) == 0
    assert "resampled" in capsys.readouterr().err


def test_results_are_replaced_only_when_told(place, capsys):
    assert run(["predict", "imgs"]) == 0
    assert run(["predict", "imgs"]) == 1
    assert "--overwrite" in capsys.readouterr().err.splitlines()[-1]
    assert run(["predict", "imgs", "--overwrite"]) == 0


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["imgs", "--block", "0"],
        ["imgs", "--block", "a,b"],
        ["imgs", "--level", "-1"],
        ["imgs", "--max-memory", "2 cats"],
    ],
)
def test_wrong_usage_exits_2(place, args, capsys):
    assert run(["predict", *args]) == 2


def test_a_model_that_is_none_exits_1(place, capsys):
    assert run(["predict", "imgs", "-m", "imgs/a.tif"]) == 1
    assert "not an ONNX model" in capsys.readouterr().err


def test_a_dry_run_says_what_it_would_do_and_makes_no_folder(place, capsys):
    assert run(["predict", "imgs", "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "segmented in memory as a whole, about" in err
    assert "would write cellscribble_out/a_labels.json, cellscribble_out/a_labels.tif" in err
    assert err.splitlines()[-1] == "this was a dry run: nothing was written"
    assert not (place / "cellscribble_out").exists()


def test_a_dry_run_with_json_gives_the_plan_and_a_log_is_not_begun(place, capsys):
    write_ome_zarr("slide.zarr", disks()[0][None], "CYX", (0.5, 0.5), kind="image")
    args = ["predict", "slide.zarr", "--dry-run", "--json", "--max-memory", "64GB", "--log", "run.log"]
    before = sorted(place.rglob("*"))
    assert run(args) == 0
    assert sorted(place.rglob("*")) == before
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["start", "image", "plan"]
    assert (events[2]["how"], events[2]["n_blocks"]) == ("blocks", 1)
    assert events[2]["most_memory_bytes"] < 64e9


def test_a_run_says_its_plan_and_keeps_a_log(place, capsys):
    write_ome_zarr("slide.zarr", disks()[0][None], "CYX", (0.5, 0.5), kind="image")
    assert run(["predict", "slide.zarr", "--log", "run.log", "--block", "16"]) == 0
    assert "12 blocks of 16 x 16 px, " in capsys.readouterr().err
    first, last = (place / "run.log").read_text().splitlines()
    assert first.endswith("predict starts")
    assert "100 %, slide: all 12 blocks seen" in last


def test_a_run_that_goes_on_says_how_much_of_it_is_done(place, capsys):
    write_ome_zarr("slide.zarr", disks()[0][None], "CYX", (0.5, 0.5), kind="image")
    args = ["predict", "slide.zarr", "--block", "16", "--shard", "1/2"]
    assert run(args) == 0
    assert "done already" not in capsys.readouterr().err
    for more in (["--dry-run"], []):
        assert run([*args, *more]) == 0
        assert "6 of them done already, by a run that was stopped" in capsys.readouterr().err


def test_a_limit_that_is_too_small_exits_1_and_names_one_that_works(place, capsys):
    assert run(["predict", "imgs/a.tif", "--max-memory", "20MB"]) == 1
    assert "--max-memory 20 MB is too little" in capsys.readouterr().err
    assert list((place / "cellscribble_out").iterdir()) == []


def test_micrometres_are_asked_of_an_image_that_does_not_say_its_pixel_size(place, capsys):
    tifffile.imwrite(place / "c.tif", disks()[0])
    assert run(["predict", "c.tif", "--rescale"]) == 1
    assert "--rescale needs both pixel sizes, but" in (last := capsys.readouterr().err.splitlines()[-1])
    assert "set it in the image (Fiji: Image > Properties), or leave --rescale out" in last


def test_images_that_are_unlike_those_learnt_from_are_named(place, capsys):
    model = place / "runs" / "nuclei" / "model.onnx"
    for usual, said in (((0.0, 100.0), False), ((100.0, 200.0), True)):
        write_model(model, metadata(pixel_size_um=(0.5, 0.5), usual_doubt=usual))
        assert run(["predict", "imgs", "--overwrite"]) == 0
        err = capsys.readouterr().err
        assert ("unlike the images that the model learnt from: it is unsure of" in " ".join(err.split())) == said
        assert ("look first at" in err and "a.tif, b.tif" in err) == said
        assert json.loads((place / "cellscribble_out" / "a_labels.json").read_text())["unlike"] == said


def test_an_image_behind_a_url_is_named_too_where_it_is_unlike(place, capsys):
    pytest.importorskip("aiohttp")
    write_model(place / "runs" / "nuclei" / "model.onnx", metadata(usual_doubt=(100.0, 200.0)))
    # Of an image that is read by blocks one pixel of sixteen is counted.
    pixels = disks().repeat(4, axis=1).repeat(4, axis=2)
    for name in ("a", "b"):
        write_ome_zarr(place / "served" / f"{name}.zarr", pixels, "CYX", kind="image")
    with serve(place / "served") as served:
        assert run(["predict", f"{served.url}/a.zarr", f"{served.url}/b.zarr", "-o", "out"]) == 0
    err = capsys.readouterr().err
    assert "look first at" in err
    assert "a.zarr, b.zarr" in err
