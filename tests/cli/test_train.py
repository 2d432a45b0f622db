import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile

from cellscribble.bundle import open_model
from cellscribble.cli.main import run
from cellscribble.cli.train import report_understood
from cellscribble.io.pictures import save_png
from cellscribble.train.inputs import open_training_set
from tests.conftest import make_balls, make_disks
from tests.train.folders import save_disks, save_kind, save_pair

TINY = """
patch_px = 32
batch_size = 2
refresh_every_epochs = 1
holdout_share = 0.25
device = "cpu"
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where the user stands: imgs, strokes and tiny.toml."""
    (tmp_path / "tiny.toml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(*args: str) -> int:
    return run(["train", "imgs", "strokes", "--config", "tiny.toml", *args])


def error_of(capsys) -> str:
    """The last message, which says what to do; what stands before it is the table of images."""
    return capsys.readouterr().err.rpartition("error: ")[2]


def test_in_a_log_the_table_of_a_stack_keeps_its_headings(tmp_path, capsys):
    balls = make_balls(0)
    size = {"resolution": (1 / 0.0046, 1 / 0.0046), "metadata": {"axes": "ZYX", "spacing": 0.05, "unit": "um"}}
    save_pair(tmp_path, "serial_sections", balls.image.data[0], balls.scribbles, imagej=True, **size)
    report_understood(open_training_set(tmp_path / "imgs", tmp_path / "strokes"))
    first, second = capsys.readouterr().err.splitlines()[:2]
    assert first.split() == ["image", "shape", "axes", "pixel", "size", "background", "foreground", "labelled"]
    assert "0.05 x 0.0046 x 0.0046 µm" in second


@pytest.mark.parametrize(
    ("kind", "axes", "channels"),
    [
        ("grey", "CYX", 1),
        ("rgb", "CYX", 3),
        ("channels", "CYX", 2),
        pytest.param("volume", "CZYX", 1, marks=pytest.mark.slow),
    ],
)
def test_train_predict_evaluate(kind, axes, channels, place, capsys):
    save_kind(place, kind)
    assert train("--epochs", "4") == 0
    err = capsys.readouterr().err
    assert "strokes as they were read: runs/" in err
    assert "next: cellscribble predict YOUR_IMAGES" in err
    (folder,) = (place / "runs").iterdir()
    assert {"understood.png", "understood.json", "curves.png", "seen.png", "model.onnx", "history.csv"} <= {
        p.name for p in folder.iterdir()
    }
    assert not [p for p in folder.iterdir() if p.name.startswith(".")]
    metadata = open_model(folder / "model.onnx").metadata
    assert (metadata.axes, len(metadata.channels), metadata.is_rgb) == (axes, channels, kind == "rgb")
    if kind == "volume":
        assert metadata.pixel_size_um == pytest.approx((1, 0.25, 0.25))

    # Nothing else is given: the newest run is used.
    assert run(["predict", "imgs"]) == 0
    assert f"{folder.name}/model.onnx (the newest run" in capsys.readouterr().err
    labels = tifffile.imread("cellscribble_out/a_labels.tif")
    assert labels.shape == tifffile.imread("strokes/a.tif").shape

    (place / "truth").mkdir()
    for name in "ab":
        tifffile.imwrite(place / "truth" / f"{name}.tif", tifffile.imread(f"strokes/{name}.tif").astype(np.uint16))
    assert run(["evaluate", "cellscribble_out", "truth"]) == 0


def test_a_short_run_learns_bright_disks(place, capsys):
    save_disks(place)
    assert train("--epochs", "12", "-o", "out", "--json") == 0
    captured = capsys.readouterr()
    done = [json.loads(line) for line in captured.out.splitlines()]
    assert [d["event"] for d in done] == ["done"]
    assert done[0]["model"] == os.path.join("out", "model.onnx")
    assert done[0]["interrupted"] is False
    assert done[0]["score"]["score"] > 0.9
    assert "held-out strokes: " in captured.err
    assert "6 + 4 strokes are too few for an interval" in captured.err
    new = make_disks(7)
    tifffile.imwrite(place / "new.tif", new.image.data[0])
    assert run(["predict", "new.tif", "-m", "out", "-o", "results"]) == 0
    labels = tifffile.imread("results/new_labels.tif")
    overlap = ((labels > 0) & (new.mask > 0)).sum() / ((labels > 0) | (new.mask > 0)).sum()
    assert overlap > 0.6


def test_with_too_few_strokes_the_missing_score_is_explained(place, capsys):
    disks = make_disks()
    few = np.where(np.arange(64)[:, None] < 25, disks.scribbles, -1)
    save_pair(place, "a", disks.image.data[0], few)
    assert train("--epochs", "2") == 0
    assert "no hold-out score: a class has only 3 strokes" in capsys.readouterr().err


def test_a_truncated_image_is_left_out_and_listed_at_the_end(place, capsys):
    save_disks(place, "a", "b", "c")
    path = place / "imgs" / "b.tif"
    path.write_bytes(path.read_bytes()[:3000])
    assert train("--epochs", "2", "-o", "out") == 1
    err = capsys.readouterr().err
    assert "warning: b.tif is left out" in err
    assert "error: 1 of 3 files failed:" in err
    assert "b.tif" in err.splitlines()[-1]
    assert (place / "out" / "model.onnx").exists()
    assert set(open_model(place / "out" / "model.onnx").metadata.data_hashes) == {
        "a", "a (strokes)", "c", "c (strokes)",
    }  # fmt: skip


def test_a_run_is_not_overwritten(place, capsys):
    save_disks(place)
    assert train("--epochs", "1", "-o", "out") == 0
    before = {p.name: p.read_bytes() for p in (place / "out").iterdir()}
    capsys.readouterr()
    assert train("--epochs", "1", "-o", "out") == 1
    assert "out holds a run already; continue it with --resume, or choose another folder with -o" in error_of(capsys)
    assert {p.name: p.read_bytes() for p in (place / "out").iterdir()} == before


def test_resume_keeps_to_the_runs_settings(place, capsys):
    save_disks(place)
    assert train("--epochs", "1", "-o", "out") == 0
    resume = ["train", "imgs", "strokes", "-o", "out", "--resume"]
    assert run([*resume, "--seed", "3"]) == 1
    assert "out has seed 0, not 3; leave --seed out to resume it" in error_of(capsys)
    assert run([*resume, "--config", "tiny.toml"]) == 2
    assert "leave --config out" in capsys.readouterr().err
    assert run([*resume, "--epochs", "1"]) == 0
    assert "resumed after epoch 1 of 1" in capsys.readouterr().err
    assert run(["train", "imgs", "strokes", "--resume"]) == 1
    assert "no run to resume in ./runs; give its folder with -o" in error_of(capsys)


@pytest.mark.parametrize(
    ("toml", "args", "message"),
    [
        ("bach_size = 3", [], "tiny.toml: unknown setting 'bach_size'; did you mean 'batch_size'?"),
        ("seed = 'x'", [], "seed is 'x'; expected a whole number"),
        ("seed = = 1", [], "tiny.toml cannot be read as TOML"),
        ("[method_settings]\ntaus = 0.9", [], "unknown setting 'taus'; did you mean 'tau'?"),
        ("", ["--network", "vgg"], "network 'vgg' is unknown; choose one of light, multi_field, resnet34, resnet50"),
        ("", ["--minutes", "0"], "minutes is 0.0; expected more than 0"),
        ("", ["--minutes", "1", "--epochs", "1"], "give exactly one of them"),
        ("", ["--seed", "-1"], "seed is -1; expected 0 or more"),
        ("", ["--encoder-weights", "tiny.toml"], "encoder_weights needs a ResNet"),
        (
            "network = 'resnet34'",
            ["--encoder-weights", "tiny.toml", "--epochs", "1"],
            "tiny.toml is damaged or holds more",
        ),
    ],
)
def test_wrong_settings_exit_1_and_no_run_is_left(toml, args, message, place, capsys):
    save_disks(place)
    (place / "tiny.toml").write_text(toml)
    assert train(*args, "-o", "out") == 1
    assert message in error_of(capsys)
    assert not (place / "out" / "last.pt").exists()
    assert not (place / "out" / "model.onnx").exists()


def frame(place):
    scribbles = np.full((64, 64), -1)
    scribbles[:, 0], scribbles[0, 10:30] = 0, 1
    save_pair(place, "a", make_disks().image.data[0], scribbles)


def one_class(place):
    scribbles = make_disks().scribbles
    scribbles[scribbles == 0] = -1
    save_pair(place, "a", make_disks().image.data[0], scribbles)


def series(place):
    image = np.zeros((3, 2, 1, 64, 64), np.uint8)
    save_pair(place, "a", image, make_disks().scribbles, imagej=True, metadata={"axes": "TZCYX"})


def sizes(place):
    save_pair(place, "a", make_disks().image.data[0], make_disks().scribbles[:50])


def nothing_drawn(place):
    save_pair(place, "a", make_disks().image.data[0], np.full((64, 64), -1))


def two_of_one_name(place):
    save_disks(place, "a")
    save_png(place / "imgs" / "a.png", np.zeros((64, 64, 3), np.uint8))


def complex_numbers(place):
    save_pair(place, "a", make_disks().image.data[0].astype(np.complex64), make_disks().scribbles)


def no_pair(place):
    save_disks(place, "a")
    (place / "strokes" / "a.tif").rename(place / "strokes" / "x.tif")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (frame, "image border"),
        (one_class, "only class 1 is stroked"),
        (series, "--timepoint"),
        (sizes, "(50, 64) but the image is (64, 64)"),
        (no_pair, "images are called a.tif"),
        (nothing_drawn, "no image has strokes: nothing is drawn in the files of a.tif"),
        (two_of_one_name, "a.png and a.tif have one name, so strokes fit both"),
        (complex_numbers, "a.tif holds complex64 numbers, which are no intensities"),
    ],
)
def test_bad_input_exits_1_and_writes_nothing(make, message, place, capsys):
    make(place)
    assert train("--epochs", "1") == 1
    assert message in error_of(capsys)
    assert not (place / "runs").exists()


def test_an_output_that_cannot_be_written_exits_1(place, capsys):
    save_disks(place)
    (place / "file").write_text("not a folder")
    assert train("--epochs", "1", "-o", "file/run") == 1
    assert "not a folder; choose another output folder" in error_of(capsys)
    assert train("--epochs", "1", "-o", "file") == 1
    assert "not a folder; choose another output folder" in error_of(capsys)
    assert (place / "file").read_text() == "not a folder"


def test_wrong_usage_exits_2(place):
    save_disks(place)
    assert run(["train", "imgs"]) == 2
    assert run(["train", "imgs", "nowhere"]) == 2
    assert train("--method", "magic") == 2


@pytest.mark.slow
def test_ctrl_c_stops_after_the_step_and_exports(place):
    save_disks(place)
    code = "import sys; from cellscribble.cli.main import main; main(sys.argv[1:])"
    args = ["train", "imgs", "strokes", "--config", "tiny.toml", "--epochs", "5000", "-o", "out"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *args], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        for _ in range(600):
            if (place / "out" / "tiles.npz").exists() or process.poll() is not None:
                break
            time.sleep(0.1)
        # tiles.npz is the last file before the first step.
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "stopped after epoch" in err
    assert "the best state so far was exported (go on with --resume)" in err
    assert open_model(place / "out" / "model.onnx").metadata.axes == "CYX"
    assert (place / "out" / "last.pt").exists()
    assert run(["predict", "imgs", "-m", "out"]) == 0


def test_masks_are_for_full_supervision_alone(place, capsys):
    save_disks(place)
    (place / "masks").mkdir()
    for name in "ab":
        tifffile.imwrite(place / "masks" / f"{name}.tif", make_disks().mask.astype(np.uint16))
    assert train("--epochs", "1", "-o", "out", "--method", "full_supervision") == 1
    assert "give their folder with --labels" in error_of(capsys)
    assert train("--epochs", "1", "-o", "out", "--labels", "masks") == 1
    assert "leave --labels out" in error_of(capsys)
    assert not (place / "out").exists()
    assert train("--epochs", "1", "-o", "out", "--method", "full_supervision", "--labels", "masks") == 0
    assert set(open_model(place / "out" / "model.onnx").metadata.data_hashes) == {
        f"{name}{what}" for name in "ab" for what in ("", " (strokes)", " (labels)")
    }


@pytest.mark.parametrize(
    ("method", "setting"),
    [("grabcut", "n_rounds = 0"), ("regularized", "grid_px = 0"), ("point_voronoi", "reach_px = -1")],
)
def test_a_number_out_of_range_is_refused_before_an_image_is_read(method, setting, place, capsys):
    save_disks(place)
    (place / "imgs" / "a.tif").write_bytes(b"no picture")
    (place / "tiny.toml").write_text(f"{TINY}[method_settings]\n{setting}\n")
    assert train("--epochs", "1", "-o", "out", "--method", method) == 1
    assert setting.replace("=", "is") + "; expected" in error_of(capsys)
    assert not (place / "out").exists()
