import json

import pytest

from cellscribble.bundle import open_model
from cellscribble.cli.main import run
from cellscribble.config import TrainConfig
from cellscribble.train.run import train
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
