"""Ctrl-C and SIGTERM in each phase of a training: what is left, what is said, and that it can be gone on with."""

import os
import signal
import subprocess
import sys

import pytest
import torch

from cellscribble.bundle import open_model
from cellscribble.cli.main import run
from cellscribble.cli.train import BarReporter
from cellscribble.core.interrupt import end_as_at_ctrl_c
from tests.train.folders import save_disks

TINY = """
patch_px = 32
batch_size = 2
holdout_share = 0.25
device = "cpu"
"""
EPOCHS = ("--epochs", "4")
SIGNALS = {"Ctrl-C": (signal.SIGINT, 130), "SIGTERM": (signal.SIGTERM, 143)}
both = pytest.mark.parametrize("how", SIGNALS)
pytestmark = pytest.mark.skipif(os.name == "nt", reason="SIGTERM cannot be handled there")


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "tiny.toml").write_text(TINY + "refresh_every_epochs = 1\n")
    (tmp_path / "budget.toml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    save_disks(tmp_path)
    end_as_at_ctrl_c()
    yield tmp_path
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def train(*args: str, config: str = "tiny.toml") -> int:
    return run(["train", "imgs", "strokes", "-o", "out", *(["--config", config] if config else []), *args])


def stop_in(phase: str, number: signal.Signals, monkeypatch) -> list[str]:
    """Let this process get a signal as soon as it is said to be in a phase; the phases that it was in."""
    heard: list[str] = []
    part, tick = BarReporter.part, BarReporter.tick

    def hear(what: str) -> None:
        heard.append(what)
        if what == phase and heard.count(phase) == 1:
            os.kill(os.getpid(), number)

    def told(self, what, done, total):
        part(self, what, done, total)
        hear(what)

    def ticked(self, one):
        tick(self, one)
        hear(f"step {4 * one.done:g}")

    monkeypatch.setattr(BarReporter, "part", told)
    monkeypatch.setattr(BarReporter, "tick", ticked)
    return heard


def hidden(place) -> list[str]:
    return [path.name for path in (place / "out").iterdir() if path.name.startswith(".")]


def same_as_uninterrupted(place) -> None:
    assert run(["train", "imgs", "strokes", "-o", "whole", "--config", "tiny.toml", *EPOCHS]) == 0
    one, two = (torch.load(place / name / "best.pt", weights_only=True)["network"] for name in ("out", "whole"))
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert (place / "out" / "calibration.json").read_text() == (place / "whole" / "calibration.json").read_text()


@both
@pytest.mark.parametrize(
    ("phase", "args", "config"),
    [
        ("getting ready", EPOCHS, "tiny.toml"),
        ("measuring this machine's speed", ("--minutes", "0.02"), "budget.toml"),
    ],
)
def test_before_the_first_step_nothing_is_lost_and_the_same_command_begins_anew(
    phase, args, config, how, place, monkeypatch, capsys
):
    number, code = SIGNALS[how]
    with monkeypatch.context() as patch:
        stop_in(phase, number, patch)
        assert train(*args, config=config) == code
    said = "stopped before anything was learnt; nothing of out is needed, type the same command again"
    assert said in capsys.readouterr().err
    assert hidden(place) == []
    assert train(*args, config=config) == 0


@pytest.mark.parametrize("phase", ["step 6", "labelling the training images"])
def test_ctrl_c_while_it_learns_exports_the_best_so_far(phase, place, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        heard = stop_in(phase, signal.SIGINT, patch)
        assert train(*EPOCHS) == 0
    # At the end of this step; or at once, before the predictions are done.
    learnt = [what for what in heard if what.startswith(("step", "labelling"))]
    assert learnt[-2:] == ["step 5" if phase == "step 6" else "step 4", phase]
    err = capsys.readouterr().err
    assert "stopped; the best so far is exported (Ctrl-C again ends at once)" in err
    assert "the best state so far was exported (go on with --resume)" in err
    assert open_model(place / "out" / "model.onnx").metadata.axes == "CYX"
    assert train("--resume", config="") == 0
    same_as_uninterrupted(place)


@pytest.mark.parametrize("phase", ["step 6", "labelling the training images"])
def test_sigterm_while_it_learns_saves_and_ends(phase, place, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        heard = stop_in(phase, signal.SIGTERM, patch)
        assert train(*EPOCHS) == 143
    assert heard[-1] == phase
    err = capsys.readouterr().err
    assert "stopped; go on where it was: cellscribble train imgs strokes --resume -o out" in err
    assert err.splitlines()[-1] == "ended by SIGTERM"
    assert not (place / "out" / "model.onnx").exists()
    assert hidden(place) == []
    assert train("--resume", config="") == 0
    assert "resumed after epoch" in capsys.readouterr().err
    same_as_uninterrupted(place)


@both
@pytest.mark.parametrize(
    "phase", ["predicting the training images", "finding the edges", "telling objects apart", "exporting the model"]
)
def test_after_the_last_step_only_the_end_is_done_again(phase, how, place, monkeypatch, capsys):
    number, code = SIGNALS[how]
    with monkeypatch.context() as patch:
        stop_in(phase, number, patch)
        assert train(*EPOCHS) == code
    assert "go on where it was: cellscribble train imgs strokes --resume -o out" in capsys.readouterr().err
    assert not (place / "out" / "model.onnx").exists()
    assert hidden(place) == []
    with monkeypatch.context() as patch:
        heard = stop_in("", number, patch)
        assert train("--resume", config="") == 0
    assert not [what for what in heard if what.startswith("step")]
    assert open_model(place / "out" / "model.onnx").metadata.axes == "CYX"


def test_a_second_ctrl_c_ends_at_once(place, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        for phase in ("step 6", "finding the edges"):
            stop_in(phase, signal.SIGINT, patch)
        assert train(*EPOCHS) == 130
    assert "stopped; go on where it was" in capsys.readouterr().err
    assert not (place / "out" / "model.onnx").exists()
    assert train("--resume", config="") == 0
    same_as_uninterrupted(place)


@pytest.mark.slow
def test_a_process_that_gets_sigterm_ends_in_order_and_is_gone_on_with(place):
    code = (
        "import os, signal, sys\n"
        "from cellscribble.cli.main import main\nfrom cellscribble.cli.train import BarReporter\n"
        "def tick(self, one):\n    if one.done > 1: os.kill(os.getpid(), signal.SIGTERM)\n"
        "BarReporter.tick = tick\n"
        "main(sys.argv[1:])"
    )
    args = ["train", "imgs", "strokes", "--config", "tiny.toml", *EPOCHS, "-o", "out"]
    ended = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 143
    said = ended.stderr.splitlines()
    assert "stopped; go on where it was: cellscribble train imgs strokes --resume -o out" in said
    assert said[-1] == "ended by SIGTERM"
    assert train("--resume", config="") == 0
    same_as_uninterrupted(place)
