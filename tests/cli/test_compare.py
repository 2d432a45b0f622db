import csv
import importlib.util
import json
import os
import signal
import sys

import numpy as np
import pytest
import tifffile

from cellscribble.cli.main import run
from cellscribble.compare import trained
from tests.conftest import make_disks
from tests.train.folders import save_disks, save_kind

TINY = """
patch_px = 32
batch_size = 2
refresh_every_epochs = 1
holdout_share = 0.25
device = "cpu"
"""
OUT = "cellscribble_compare"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where the user stands: imgs, strokes, masks, new and new_masks, tiny.toml."""
    save_disks(tmp_path)
    for folder in ("masks", "new", "new_masks"):
        (tmp_path / folder).mkdir()
    for seed, name in enumerate("ab"):
        tifffile.imwrite(tmp_path / "masks" / f"{name}.tif", make_disks(seed).mask.astype(np.uint16))
    # As people number their images anew in each folder: an unseen "b" too.
    for name, seed in (("b", 7), ("c", 8)):
        tifffile.imwrite(tmp_path / "new" / f"{name}.tif", make_disks(seed).image.data[0])
        tifffile.imwrite(tmp_path / "new_masks" / f"{name}.tif", make_disks(seed).mask.astype(np.uint16))
    (tmp_path / "tiny.toml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def trainings(monkeypatch):
    """The methods that were really trained, in order, and the strokes held out of each."""
    seen = []
    real = trained.train

    def noted(training_set, config, folder, *args, **kwargs):
        result = real(training_set, config, folder, *args, **kwargs)
        samples, _ = trained.split_samples(training_set, config)
        seen.append((config.method, config.seed, [s.held_out for s in samples], result.score))
        return result

    monkeypatch.setattr(trained, "train", noted)
    return seen


def compare(*args: str) -> int:
    return run(["compare", "imgs", "strokes", "--config", "tiny.toml", "--epochs", "2", *args])


def rows(name="comparison.csv") -> list[dict[str, str]]:
    with open(f"{OUT}/{name}", newline="") as file:
        return list(csv.DictReader(file))


def error_of(capsys) -> str:
    return capsys.readouterr().err.rpartition("error: ")[2]


def short(text: str) -> str:
    return f"{float(text):.3f}".removeprefix("0") if text else "-"


def test_default_methods_on_unseen_images_and_the_table_is_the_csv(place, trainings, capsys):
    assert compare("--test-images", "new", "--test-labels", "new_masks") == 0
    captured = capsys.readouterr()
    found = rows()
    methods = ["otsu", "random_forest", "partial_cross_entropy", "scribble2label"]
    assert [r["method"] for r in found[::2]] == methods
    assert [r["edge"] for r in found] == ["on", "off"] * 4
    assert {r["images"] for r in found} == {"unseen"}
    assert {r["n_images"] for r in found} == {"2"}
    # The same strokes, also for the baselines.
    assert len({r["holdout_strokes"] for r in found}) == 1
    np.testing.assert_array_equal(trainings[0][2], trainings[1][2])
    assert "Scores on the masks of 2 unseen images" in captured.out
    lines = [line.split() for line in captured.out.splitlines()]
    for row in found:
        scores = [short(row[k]) for k in ("iou", "dice", "mean_dice_per_truth", "mean_best_dice")]
        scores += [short(row[k]) for k in ("f1", "ap_50", "panoptic_quality", "auc")]
        (line,) = [x for x in lines if x[-8:] == scores and (x[0] == row["method"] or row["edge"] == "off")][:1]
        assert short(row["holdout_score"]) in line
    assert float(found[0]["iou"]) > 0.6
    assert {r["image"] for r in rows("images.csv")} == {"b", "c"}
    assert (place / OUT / "sheet.png").stat().st_size > 1000
    assert f"predict YOUR_IMAGES -m {OUT}/partial_cross_entropy_seed0.onnx" in captured.err
    assert run(["predict", "new", "-m", f"{OUT}/scribble2label_seed0.onnx"]) == 0
    # A run of `compare` is not what `predict` takes for the newest training.
    assert run(["predict", "new", "-o", "again"]) == 1


def test_the_scores_are_those_of_predict_and_evaluate(place):
    methods = ("--methods", "partial_cross_entropy")
    assert compare(*methods, "--labels", "masks") == 0
    model = f"{OUT}/partial_cross_entropy_seed0.onnx"
    assert run(["predict", "imgs", "-m", model, "-o", "found", "--probability"]) == 0
    assert run(["evaluate", "found", "masks", "--csv", "scores.csv"]) == 0
    with open("scores.csv", newline="") as file:
        expected = list(csv.DictReader(file))
    on, _ = rows()
    assert on["images"] == "trained on"
    for key in ("iou", "mean_dice_per_truth", "ap_50", "auc"):
        values = [float(r[key]) for r in expected if r[key]]
        assert not values or float(on[key]) == pytest.approx(np.mean(values), abs=1e-4)


def test_the_same_command_goes_on_and_trains_nothing_twice(place, trainings, capsys):
    methods = ("--methods", "random_forest,partial_cross_entropy")
    assert compare(*methods) == 0
    before = rows()
    assert compare(*methods) == 0
    assert rows() == before
    # A further seed and method: only these are trained. Masks that come later cost no training either.
    assert compare(*methods, "--methods", "pseudo_label", "--seeds", "0,1") == 0
    assert compare(*methods, "--methods", "pseudo_label", "--seeds", "0,1", "--labels", "masks") == 0
    assert [t[:2] for t in trainings] == [
        ("partial_cross_entropy", 0), ("pseudo_label", 0), ("partial_cross_entropy", 1), ("pseudo_label", 1),
    ]  # fmt: skip
    out = capsys.readouterr().out
    assert "±" in out.splitlines()[-1]
    assert "WHOSE STROKES WERE LEARNT FROM" in out
    assert {r["seed"] for r in rows()} == {"0", "1"}
    assert all(r["iou"] for r in rows())
    # Of one seed the same strokes for all, of another seed others.
    held = {(t[0], t[1]): np.stack(t[2]) for t in trainings}
    np.testing.assert_array_equal(held["partial_cross_entropy", 1], held["pseudo_label", 1])
    assert (held["partial_cross_entropy", 0] != held["partial_cross_entropy", 1]).any()


def test_an_interrupted_training_is_gone_on_with(place, monkeypatch, capsys):
    real, calls = trained.train, []

    def stopped(training_set, config, folder, reporter, *, resume):
        calls.append(resume)
        if len(calls) == 1:
            ticks = reporter.tick

            class Impatient:
                say, part = reporter.say, reporter.part

                def tick(self, tick):
                    ticks(tick)
                    if tick.done > 1:
                        os.kill(os.getpid(), signal.SIGINT)

            return real(training_set, config, folder, Impatient(), resume=resume)
        return real(training_set, config, folder, reporter, resume=resume)

    monkeypatch.setattr(trained, "train", stopped)
    methods = ("--methods", "partial_cross_entropy", "--epochs", "4")
    assert compare(*methods) == 130
    assert "stopped; the same command goes on" in capsys.readouterr().err
    assert not (place / OUT / "comparison.csv").exists()
    assert not list((place / OUT).glob("*.onnx"))
    assert compare(*methods) == 0
    assert calls == [False, True]
    assert len(rows()) == 2


def test_one_method_that_fails_does_not_stop_the_others(place, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    assert compare("--methods", "random_forest,otsu,partial_cross_entropy") == 1
    captured = capsys.readouterr()
    assert [r["method"] for r in rows()[::2]] == ["otsu", "partial_cross_entropy"]
    assert "1 of 3 runs failed" in captured.err
    assert "random_forest_seed0: the random forest needs scikit-learn" in captured.err.splitlines()[-1]
    assert "otsu" in captured.out
    monkeypatch.undo()
    monkeypatch.chdir(place)
    assert compare("--methods", "random_forest,otsu,partial_cross_entropy") == 0
    assert [r["method"] for r in rows()[::2]] == ["random_forest", "otsu", "partial_cross_entropy"]


def test_an_error_of_torch_is_kept_and_the_others_go_on(place, monkeypatch, capsys):
    from cellscribble.methods.partial_cross_entropy import PartialCrossEntropy

    def broken(*args):
        raise RuntimeError("out of memory\nsecond line")

    monkeypatch.setattr(PartialCrossEntropy, "loss", broken)
    assert compare("--methods", "partial_cross_entropy,otsu") == 1
    assert "partial_cross_entropy_seed0: RuntimeError: out of memory (all of it in" in capsys.readouterr().err
    assert "second line" in (place / OUT / "runs" / "partial_cross_entropy_seed0" / "error.txt").read_text()
    assert [r["method"] for r in rows()] == ["otsu", "otsu"]


def test_without_scikit_learn_the_default_goes_on_and_says_so(place, monkeypatch, capsys):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "sklearn" else real(name))
    assert compare() == 0
    assert "random_forest is left out: it needs scikit-learn: pip install" in capsys.readouterr().err
    assert "random_forest" not in {r["method"] for r in rows()}


def test_too_few_strokes_to_hold_out_are_said_and_masks_still_count(place, capsys):
    few = np.where(np.arange(64)[:, None] < 25, make_disks().scribbles, -1)
    for name in "ab":
        (place / "strokes" / f"{name}.tif").unlink()
    tifffile.imwrite(place / "strokes" / "a.tif", (few + 1).astype(np.uint8))
    assert compare("--methods", "otsu", "--labels", "masks") == 0
    captured = capsys.readouterr()
    assert "a class has only 3 strokes" in captured.err
    on, _ = rows()
    assert on["holdout_score"] == on["holdout_low"] == ""
    assert float(on["iou"]) > 0.5


def test_full_supervision_beside_strokes(place, capsys):
    methods = ("--methods", "full_supervision,partial_cross_entropy")
    assert compare(*methods) == 1
    assert "method full_supervision learns from dense labels and none are given" in error_of(capsys)
    assert not (place / OUT).exists()
    assert compare(*methods, "--labels", "masks") == 0
    assert "full_supervision learnt from these very masks" in capsys.readouterr().out
    inputs = json.loads((place / OUT / "runs" / "partial_cross_entropy_seed0" / "inputs.json").read_text())
    assert not [name for name in inputs if "labels" in name]


def test_json_lines(place, capsys):
    assert compare("--methods", "otsu", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["scores", "scores", "done"]
    assert lines[0]["holdout_score"] == pytest.approx(float(rows()[0]["holdout_score"]))
    assert lines[0]["iou"] is None
    assert lines[2]["table"] == f"{OUT}/comparison.csv"


@pytest.mark.parametrize("kind", ["rgb", "channels", pytest.param("volume", marks=pytest.mark.slow)])
def test_every_kind_of_image(kind, place):
    for name in "ab":
        (place / "imgs" / f"{name}.tif").unlink()
    save_kind(place, kind)
    assert compare("--epochs", "1") == 0
    assert len(rows()) == 8
    assert (place / OUT / "sheet.png").exists()


def other_size(place):
    tifffile.imwrite(place / "new_masks" / "c.tif", np.zeros((30, 30), np.uint16))


def other_kind(place):
    tifffile.imwrite(place / "new" / "c.tif", np.zeros((64, 64, 3), np.uint8), photometric="rgb")


def same_image(place):
    tifffile.imwrite(place / "new" / "c.tif", make_disks(0).image.data[0])


def no_pair(place):
    for name in "bc":
        (place / "new_masks" / f"{name}.tif").rename(place / "new_masks" / f"x{name}.tif")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (other_size, "is (30, 30) px but its image is (64, 64) px"),
        (other_kind, "score on images of the kind that is trained on"),
        (same_image, "is one of the images to train on, so it is not unseen"),
        (no_pair, "no image of new has a mask in new_masks"),
    ],
)
def test_wrong_test_images_are_refused_before_training(make, message, place, trainings, capsys):
    make(place)
    assert compare("--test-images", "new", "--test-labels", "new_masks") == 1
    assert message in error_of(capsys)
    assert not trainings
    assert not (place / OUT).exists()


def test_another_comparison_is_not_mixed_in(place, capsys):
    assert compare("--methods", "otsu") == 0
    capsys.readouterr()
    assert compare("--methods", "otsu", "--epochs", "3") == 1
    assert "a comparison with other epochs (2 before, 3 now)" in error_of(capsys)
    strokes = tifffile.imread(place / "strokes" / "a.tif")
    tifffile.imwrite(place / "strokes" / "a.tif", np.where(np.arange(64)[:, None] > 60, 0, strokes))
    assert compare("--methods", "otsu") == 1
    assert "a comparison with other a (strokes)" in error_of(capsys)
    (place / OUT / "compare.json").write_text("{")
    assert compare("--methods", "otsu") == 1
    assert "choose another folder with -o" in error_of(capsys)


def test_a_folder_with_something_else_is_left_alone(place, capsys):
    before = {p.name: p.read_bytes() for p in (place / "new").iterdir()}
    assert compare("--methods", "otsu", "-o", "new") == 1
    assert "new exists and holds no comparison; choose another folder with -o" in error_of(capsys)
    assert {p.name: p.read_bytes() for p in (place / "new").iterdir()} == before


def test_an_unreadable_image_is_left_out_and_listed_at_the_end(place, capsys):
    path = place / "imgs" / "z.tif"
    path.write_bytes((place / "imgs" / "a.tif").read_bytes()[:3000])
    assert compare("--methods", "otsu") == 1
    assert "error: 1 of 3 files failed:" in capsys.readouterr().err
    assert len(rows()) == 2


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--methods", "otsu,magic"], "'magic' is unknown; choose of otsu, random_forest, scribble2label"),
        (["--seeds", "a"], "expected whole numbers from 0, such as 0,1,2"),
        (["--test-images", "new"], "give both --test-images and --test-labels, or neither"),
    ],
)
def test_wrong_usage_exits_2(args, message, place, capsys):
    assert compare(*args) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_settings_of_one_method_are_refused(place, capsys):
    (place / "tiny.toml").write_text(f"{TINY}[method_settings]\ntau = 0.9\n")
    assert compare() == 1
    assert "which belong to one method" in error_of(capsys)
