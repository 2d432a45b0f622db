"""The scripts that write figures into the documentation."""

import csv
import shutil
import subprocess
import sys
import time
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from tifffile import imread

from cellscribble.bundle import open_model
from cellscribble.config import load_config
from cellscribble.train.checkpoint import LAST, load_state
from cellscribble.train.inputs import open_training_set
from cellscribble.train.run import train
from tests.conftest import make_disks
from tests.train.folders import save_disks

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
TINY = {"patch_px": 32, "batch_size": 2, "device": "cpu"}
# As the command line runs the script, but the state is saved after each epoch and not twice a minute, and after three
# epochs there is time to kill it.
SLOW = """
import runpy, sys, time
from pathlib import Path
from cellscribble.train import loop
loop.SECONDS_BETWEEN_CHECKPOINTS = 0
end_epoch = loop.Fit._end_epoch
def end_slowly(fit, began):
    end_epoch(fit, began)
    if fit.epoch == 3:
        time.sleep(600)
loop.Fit._end_epoch = end_slowly
sys.argv = sys.argv[1:]
sys.path.insert(0, str(Path(sys.argv[0]).parent))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Silent:
    def say(self, text):
        pass

    def tick(self, tick):
        pass

    def part(self, what, done, total):
        pass


@pytest.fixture
def scripts(monkeypatch):
    """The scripts' own folder is first on the path when they run."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture
def data(tmp_path):
    """DATA with a small dsb_bf: two training images, one to score."""
    (tmp_path / "made").mkdir()
    save_disks(tmp_path / "made")
    train, val = tmp_path / "data" / "dsb_bf" / "train", tmp_path / "data" / "dsb_bf" / "val"
    train.mkdir(parents=True)
    (tmp_path / "made" / "imgs").rename(train / "images")
    (tmp_path / "made" / "strokes").rename(train / "scribbles_10")
    for part, seeds in ((train, {"a": 0, "b": 1}), (val, {"c": 7})):
        for folder in ("images", "labels"):
            (part / folder).mkdir(parents=True, exist_ok=True)
        for name, seed in seeds.items():
            tifffile.imwrite(part / "images" / f"{name}.tif", make_disks(seed).image.data[0])
            tifffile.imwrite(part / "labels" / f"{name}.tif", make_disks(seed).mask.astype(np.uint16))
    return tmp_path / "data"


def run(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *map(str, args)], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_accuracy_writes_rows_once_and_the_table_is_made_of_them(data, tmp_path):
    out = tmp_path / "rows.csv"
    tiny = ["--set-flag", "patch_px=32", "batch_size=2", "--device", "cpu", "--seeds", "0", "1"]
    first = [
        BENCHMARKS / "accuracy.py",
        data,
        "--set",
        "dsb_bf",
        "--strokes",
        "10",
        "--epochs",
        "1",
        *tiny,
        "--out",
        out,
    ]
    done = run(*first, "--methods", "otsu", "partial_cross_entropy")
    assert done.returncode == 0, done.stderr
    before = out.read_text()
    rows = list(csv.DictReader(before.splitlines()))
    assert len(rows) == 2 * 2 * 2  # methods, seeds, edge on and off
    assert {row["images"] for row in rows} == {"unseen"}
    again = run(*first, "--methods", "otsu", "partial_cross_entropy")
    assert "0 runs" in again.stdout
    assert out.read_text() == before
    more = run(*first, "--methods", "otsu", "pseudo_label")
    assert more.returncode == 0, more.stderr
    assert "2 runs" in more.stdout
    assert out.read_text().startswith(before)
    shown = run(BENCHMARKS / "write_table.py", out, "--print").stdout
    ious = [float(r["iou"]) for r in rows if (r["method"], r["edge"]) == ("otsu", "on")]
    (line,) = [line for line in shown.splitlines() if line.startswith("| `otsu`")]
    assert f"| {np.mean(ious):.3f} ±{np.std(ious, ddof=1):.3f} |".replace("0.", ".") in line
    assert "dsb_bf, strokes 10; scored on 1 unseen images" in shown


def test_boxes_lie_apart_their_strokes_lie_in_them_and_a_model_is_scored(scripts, data, tmp_path):
    import suggest

    images = {
        path: imread(data / "dsb_bf/train/labels" / path.name) for path in (data / "dsb_bf/train/images").iterdir()
    }
    boxes = suggest.random_boxes(images, 16, 6, np.random.default_rng(0), with_objects=True)
    assert suggest.draw_strokes(tmp_path, images, boxes, 16) > 0
    for image in images:
        boxed = np.zeros(images[image].shape, bool)
        for _, y, x in (box for box in boxes if box[0] == image):
            assert not boxed[y : y + 16, x : x + 16].any()
            boxed[y : y + 16, x : x + 16] = True
        if boxed.any():
            assert not imread(tmp_path / image.name)[~boxed].any()
    score = suggest.score(open_model(ROOT / "models/nuclei_fluorescence/model.onnx"), data / "dsb_bf/val")
    assert list(score) == ["iou", "mdice", "ap50", "pq"]
    assert all(0 < value <= 1 for value in score.values())


def keep_run(folder, images, scribbles):
    """A finished run, long enough to tell its pace."""
    config = load_config(None, {"epochs": 90, "method": "pseudo_label", **TINY})
    return train(open_training_set(images, scribbles), config, folder, Silent()).folder


def write_paces(monkeypatch, kept, paces):
    import pace

    monkeypatch.setattr(sys, "argv", ["pace.py", str(kept), "--out", str(paces)])
    pace.main()


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_where_it_was_and_ends_as_if_it_had_not_been(
    scripts, data, tmp_path, monkeypatch
):
    import accuracy

    place = data / "dsb_bf" / "train"
    keep_run(tmp_path / "kept" / "dsb_bf_10_pseudo_label_90epochs_light_0", place / "images", place / "scribbles_10")
    write_paces(monkeypatch, tmp_path / "kept", tmp_path / "paces.csv")
    words = "--set dsb_bf --strokes 10 --methods pseudo_label --seeds 0 --minutes 0.15 --device cpu"

    def command(name, batch_size=2):
        places = ["--pace", tmp_path / "paces.csv", "--keep", tmp_path / name, "--out", tmp_path / f"{name}.csv"]
        flags = ["--set-flag", "patch_px=32", f"batch_size={batch_size}"]
        return list(map(str, [BENCHMARKS / "accuracy.py", data, *words.split(), *places, *flags]))

    def run_here(*args):
        monkeypatch.setattr(sys, "argv", command(*args))
        accuracy.main()

    run_here("whole")
    last = tmp_path / "killed" / "dsb_bf_10_pseudo_label_0.15min_0" / LAST
    process = subprocess.Popen([sys.executable, "-c", SLOW, *command("killed")])
    try:
        while not last.exists() and process.poll() is None:
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    before = load_state(last, torch.device("cpu"))[1]
    assert 0 < before["epoch"] < before["schedule"]["n_epochs"]
    assert not (tmp_path / "killed.csv").exists()
    with pytest.raises(SystemExit, match="has batch_size 2, not 4"):
        run_here("killed", 4)
    run_here("killed")
    seconds = [float(row["seconds"]) for row in csv.DictReader((last.parent / "history.csv").read_text().splitlines())]
    assert seconds[: before["epoch"]] == [row["seconds"] for row in before["history"]]
    rows = [list(csv.DictReader((tmp_path / f"{name}.csv").read_text().splitlines())) for name in ("whole", "killed")]
    for one, other in zip(*rows, strict=True):
        assert {k: v for k, v in one.items() if k not in ("seconds", "date")}.items() <= other.items()


@pytest.mark.slow
def test_the_pace_of_a_set_is_its_own_or_that_of_the_measured_set_by_pixels(scripts, data, tmp_path, monkeypatch):
    import pace

    ours, measured = data / "dsb_bf" / "train", data / pace.SET / "train"
    (measured / "images").mkdir(parents=True)
    shutil.copytree(ours / "scribbles_10", measured / f"scribbles_{pace.STROKES}")
    shutil.copy(ours / "images" / "a.tif", measured / "images")
    (measured / f"scribbles_{pace.STROKES}" / "b.tif").unlink()
    kept, paces = tmp_path / "kept", tmp_path / "paces.csv"
    run = keep_run(kept / f"{pace.SET}_10_pseudo_label_1min_0", measured / "images", measured / "scribbles_30")
    write_paces(monkeypatch, kept, paces)
    speed = pace.measured_pace([run])
    two_images = open_training_set(ours / "images", ours / "scribbles_10")
    scaled = pace.pace_of(paces, data, "dsb_bf", two_images, "pseudo_label")
    assert scaled.refresh_s == pytest.approx(2 * speed.refresh_s, rel=1e-3)
    assert (scaled.step_s, scaled.score_s) == pytest.approx((speed.step_s, speed.score_s), rel=1e-3)
    run.rename(kept / "dsb_bf_10_pseudo_label_1min_0")
    write_paces(monkeypatch, kept, paces)
    own = pace.pace_of(paces, data, "dsb_bf", two_images, "pseudo_label")
    assert astuple(own) == pytest.approx(astuple(speed), rel=1e-3)
    with pytest.raises(SystemExit, match="no pace of grabcut: on dsb_bf, or on dsb_fluo"):
        pace.pace_of(paces, data, "dsb_bf", two_images, "grabcut")


def test_papers_stand_beside_and_nothing_else_of_the_page_changes(scripts, tmp_path):
    import write_table

    row = dict.fromkeys([*write_table.GROUP, *write_table.SCORES, "seconds", "n_images", "machine", "date"], "")
    row |= {"set": "dsb_fluo", "strokes": "30", "method": "otsu", "iou": "0.814", "images": "unseen"}
    rows = [row | {"edge": "on", "seconds": "3"}, row | {"edge": "off", "iou": "0.5", "seconds": "3"}]
    text = write_table.tables(rows, write_table.read_rows(write_table.PAPERS))
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert lines[2][:2] == ["`otsu`", "3 s"]
    assert (lines[2][4], lines[2][-1]) == (".814", ".500")
    assert lines[3][0] == "Lee 2021 (thesis), scribble2label (*)"
    assert lines[3][4:6] == [".854", ".841"]
    assert all(len(line) == len(lines[0]) for line in lines)
    page = tmp_path / "README.md"
    page.write_text(f"before\n{write_table.BEGIN}\nold\n{write_table.END}\nafter\n")
    write_table.write_page(page, text)
    assert page.read_text().startswith(f"before\n{write_table.BEGIN}\n")
    assert page.read_text().endswith(f"{write_table.END}\nafter\n")
    assert "old" not in page.read_text()
    assert text in page.read_text()


def test_the_page_has_the_marks_and_names_every_script(scripts):
    import write_table

    page = write_table.PAGE.read_text()
    assert write_table.BEGIN in page
    assert write_table.END in page
    for path in BENCHMARKS.glob("*.py"):
        assert f"`{path.name}`" in page or path.name in ("sets.py", "table.py")


def test_rows_of_another_form_are_not_mixed_in(scripts, tmp_path):
    import table

    table.append_rows(tmp_path / "a.csv", ["x", "y"], [{"x": 1, "y": 2}])
    with pytest.raises(SystemExit, match="give another --out"):
        table.append_rows(tmp_path / "a.csv", ["x"], [{"x": 1}])
    assert table.read_rows(tmp_path / "a.csv") == [{"x": "1", "y": "2"}]


def test_the_sections_of_the_em_volume_are_split_by_strokes(scripts, tmp_path):
    import sets

    train = tmp_path / "em_vnc" / "train"
    volume, strokes = np.arange(5 * 16).reshape(5, 4, 4).astype(np.uint8), np.zeros((5, 4, 4), np.uint8)
    strokes[[0, 3], 1, 1] = 2
    for folder, values in (("images", volume), ("scribbles_membrane_10", strokes), ("labels/membrane", volume)):
        (train / folder).mkdir(parents=True)
        tifffile.imwrite(train / folder / "vnc.tif", values)
    places = sets.places_of(tmp_path, "em_vnc", "10", tmp_path / "scratch")
    assert sorted(p.name for p in places.images.iterdir()) == ["z0.tif", "z3.tif"]
    assert sorted(p.name for p in places.scribbles.iterdir()) == ["z0.tif", "z3.tif"]
    assert sorted(p.name for p in places.test_images.iterdir()) == ["z1.tif", "z2.tif", "z4.tif"]
    np.testing.assert_array_equal(tifffile.imread(places.test_labels / "z4.tif"), volume[4])
    assert places.unseen


def test_the_nuclei_of_a_volume_have_the_voxel_size_that_their_files_lack(scripts, tmp_path):
    import sets

    from cellscribble.io.images import open_image

    images = tmp_path / "nuclei_3d" / "train" / "images"
    images.mkdir(parents=True)
    voxels = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    tifffile.imwrite(images / "a.tif", voxels)
    places = sets.places_of(tmp_path, "nuclei_3d", "10", tmp_path / "scratch")
    found = open_image(places.images / "a.tif")
    assert found.pixel_size_um == pytest.approx(sets.NUCLEI_3D_UM)
    np.testing.assert_array_equal(np.asarray(found.data[0]), voxels)
    assert not places.unseen
