import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellscribble.bundle import open_model
from cellscribble.cli.main import run
from cellscribble.config import TrainConfig
from cellscribble.metrics.pairs import evaluate_files
from cellscribble.train.run import train
from tests.conftest import make_disks
from tests.train.runs import Quiet, training_set


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "nuclei"
    config = TrainConfig(minutes=None, epochs=1, patch_px=32, batch_size=2, device="cpu")
    train(training_set(), config, folder, Quiet())
    return folder


def test_a_model_is_written_from_a_run_and_compared(trained, tmp_path, capsys):
    out = tmp_path / "nuclei.onnx"
    assert run(["export", str(trained), "-o", str(out), "--json"]) == 0
    captured = capsys.readouterr()
    assert "   64 px: torch and ONNX Runtime differ by " in captured.err
    (line,) = captured.out.splitlines()
    done = json.loads(line)
    assert (done["event"], done["model"]) == ("done", str(out))
    assert done["differences"].keys() == {"64", "192", "512"}
    assert all(value <= 1e-4 for value in done["differences"].values())
    assert open_model(out).metadata.name == "nuclei"


def test_whoever_shares_a_model_says_what_others_may_do_with_it(trained, tmp_path, capsys):
    out = tmp_path / "shared.onnx"
    said = ["--name", "liver nuclei", "--licence", "CC-BY-4.0", "--citation", "Doe et al. 2026"]
    assert run(["export", str(trained), "-o", str(out), *said]) == 0
    assert run(["info", str(out)]) == 0
    words = capsys.readouterr().out.split()
    assert "CC-BY-4.0" in words
    metadata = open_model(out).metadata
    assert (metadata.name, metadata.license, metadata.citation) == ("liver nuclei", "CC-BY-4.0", "Doe et al. 2026")


def test_a_card_says_what_the_model_says_and_how_it_does_on_unseen_images(trained, tmp_path, capsys):
    unseen = {name: make_disks(seed) for seed, name in enumerate("abc", 7)}
    for folder in ("new", "drawn"):
        (tmp_path / folder).mkdir()
    for name, disks in unseen.items():
        tifffile.imwrite(tmp_path / "new" / f"{name}.tif", disks.image.data[0])
        tifffile.imwrite(tmp_path / "drawn" / f"{name}.tif", disks.mask.astype(np.uint16))
    out = tmp_path / "share" / "model.onnx"
    test = ["--test-images", str(tmp_path / "new"), "--test-labels", str(tmp_path / "drawn")]
    assert run(["export", str(trained), "-o", str(out), "--licence", "CC0-1.0", "--card", "Bright disks.", *test]) == 0
    card = (out.parent / "README.md").read_text(encoding="utf-8")
    assert card.startswith("# nuclei\n\nBright disks.\n")
    metadata = open_model(out).metadata
    assert f"| held-out strokes | {metadata.holdout['score']:.3f} of the pixels right" in card
    assert "CC0-1.0" in card
    assert metadata.citation in card
    # The IoU on the card is that of the commands a user would type.
    assert run(["predict", str(tmp_path / "new"), "-m", str(out), "-o", str(tmp_path / "out")]) == 0
    scores = evaluate_files(tmp_path / "out", tmp_path / "drawn").scores
    assert f"| IoU of the pixels | {np.mean([s.iou for s in scores.values()]):.3f} (" in card
    picture = np.asarray(Image.open(out.parent / "card.png"))
    assert picture.shape[1] > 3 * 64
    assert picture.std() > 0


def test_a_card_without_test_images_has_no_scores_of_them(trained, tmp_path, capsys):
    out = tmp_path / "share" / "model.onnx"
    assert run(["export", str(trained), "-o", str(out), "--card", "Bright disks.", "--json"]) == 0
    card = (out.parent / "README.md").read_text(encoding="utf-8")
    assert "IoU" not in card
    # After one epoch a network may know too little for 8 bits.
    in_8_bits = ["model_int8.onnx"] if json.loads(capsys.readouterr().out)["int8"] else []
    assert sorted(p.name for p in out.parent.iterdir()) == ["README.md", "model.onnx", *in_8_bits]


def test_nothing_is_written_where_test_labels_are_missing(trained, tmp_path, capsys):
    (tmp_path / "new").mkdir()
    (tmp_path / "drawn").mkdir()
    tifffile.imwrite(tmp_path / "new" / "a.tif", np.zeros((8, 8), np.uint8))
    tifffile.imwrite(tmp_path / "drawn" / "b.tif", np.zeros((8, 8), np.uint8))
    command = ["export", str(trained), "-o", str(tmp_path / "m.onnx"), "--test-images", str(tmp_path / "new")]
    assert run(command) == 1
    assert "give all three" in capsys.readouterr().err
    assert run([*command, "--card", "x", "--test-labels", str(tmp_path / "drawn")]) == 1
    assert "1 of 1 images have no labels" in capsys.readouterr().err
    assert not (tmp_path / "m.onnx").exists()


def test_the_models_own_place_is_the_default_and_is_not_overwritten(trained, capsys):
    assert run(["export", str(trained)]) == 0
    assert run(["export", str(trained)]) == 1
    assert "model.onnx exists already; give --overwrite" in capsys.readouterr().err.splitlines()[-1]
    assert run(["export", str(trained), "--overwrite"]) == 0


def test_a_folder_that_is_no_run_exits_1(tmp_path, capsys):
    assert run(["export", str(tmp_path)]) == 1
    assert "is not a finished run" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert run(["export", str(tmp_path / "none")]) == 2
