import signal
import subprocess
import sys

import click
import pytest

from cellscribble._version import __version__
from cellscribble.cli import main as module
from cellscribble.cli.main import COMMANDS, run
from cellscribble.core.errors import InputError
from cellscribble.core.interrupt import end_as_at_ctrl_c
from tests.infer.analytic import write_model

HEAVY = ("torch", "onnx", "onnxruntime", "numpy", "rich", "zarr", "skimage")


def modules_after(*args: str, cwd=None) -> tuple[int, set[str], str]:
    """Exit code, modules imported and stderr of the command line in a process of its own."""
    code = (
        "import sys; from cellscribble.cli.main import run; code = run(sys.argv[1:]); "
        "print('\\nMODULES', *sys.modules); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, cwd=cwd, check=False, timeout=120
    )
    names = done.stdout.rpartition("MODULES")[2].split()
    return done.returncode, set(names), done.stderr


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["-h"], []])
def test_help_and_version_import_nothing_heavy(args):
    code, modules, stderr = modules_after(*args)
    assert code == (0 if args else 2), stderr
    assert "click" in modules
    assert not modules & set(HEAVY)


@pytest.mark.parametrize(
    "command",
    [
        "predict",
        "stitch",
        "measure",
        "evaluate",
        "rois",
        "suggest",
        "info",
        "methods",
        "simulate",
        "annotate",
        "fiji-install",
        "serve",
    ],
)
def test_help_of_torch_free_commands_imports_no_torch(command):
    code, modules, stderr = modules_after(command, "--help")
    assert code == 0, stderr
    assert not modules & {"torch", "onnx", "onnxscript"}


def test_info_runs_without_torch_and_without_onnx_runtime(tmp_path):
    code, modules, stderr = modules_after("info", str(write_model(tmp_path / "model.onnx")))
    assert code == 0, stderr
    assert not modules & {"torch", "onnx", "onnxruntime"}


def test_commands_stand_in_the_order_of_the_work(capsys):
    assert run(["--help"]) == 0
    help_text = capsys.readouterr().out
    places = [help_text.index(f"\n  {name} ") for name in COMMANDS]
    assert places == sorted(places)
    assert "    cellscribble train ./imgs ./scribbles\n    cellscribble predict slide.zarr\n" in help_text


def test_version_is_the_packages(capsys):
    assert run(["--version"]) == 0
    assert __version__ in capsys.readouterr().out


def command_that(action, monkeypatch):
    monkeypatch.setitem(module.COMMANDS, "demo", (f"{__name__}:_probe", "probe"))
    monkeypatch.setattr(sys.modules[__name__], "_probe", click.Command("demo", callback=action), raising=False)


def test_our_errors_are_printed_and_exit_1(monkeypatch, capsys):
    def fail():
        raise InputError("the image is empty; draw one")

    command_that(fail, monkeypatch)
    assert run(["demo"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: the image is empty; draw one\n"


def test_ctrl_c_exits_130(monkeypatch, capsys):
    def interrupt():
        raise KeyboardInterrupt

    command_that(interrupt, monkeypatch)
    assert run(["demo"]) == 130
    assert capsys.readouterr().err.strip() == "interrupted"


def test_sigterm_exits_143(monkeypatch, capsys):
    def end():
        signal.raise_signal(signal.SIGTERM)

    command_that(end, monkeypatch)
    end_as_at_ctrl_c()
    try:
        assert run(["demo"]) == 143
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert capsys.readouterr().err.strip() == "ended by SIGTERM"


def test_a_bug_of_ours_shows_its_traceback(monkeypatch):
    def bug():
        raise ZeroDivisionError

    command_that(bug, monkeypatch)
    with pytest.raises(ZeroDivisionError):
        run(["demo"])


def test_wrong_usage_exits_2(capsys):
    assert run(["segment"]) == 2
    assert "no command 'segment'; commands are annotate, train, predict" in capsys.readouterr().err
    assert run(["info", "a", "b"]) == 2


def test_main_exits_with_the_code(capsys):
    with pytest.raises(SystemExit) as error:
        module.main(["--version"])
    assert error.value.code == 0
