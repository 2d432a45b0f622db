"""`cellscribble serve`, asked by the plugin's own functions, which need no CellProfiler."""

import _thread
import ast
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from cellscribble.bundle import open_model
from cellscribble.cli.main import run as cellscribble
from cellscribble.core.interrupt import Terminated, terminate
from cellscribble.engine.serve import seal, serve, unseal
from cellscribble.engine.warm import MOST_WARM, WarmRunners
from tests.infer.analytic import disks, metadata, write_model
from tests.plugins.drive import PLUGINS, exclusive_program, killed_program, program, servers, stop_servers

END_IN_ORDER = "from cellscribble.core.interrupt import end_as_at_ctrl_c; end_as_at_ctrl_c(); "

NEEDS_CELLPROFILER = ("Program", "Model", "RunCellScribble")


def plugin_functions():
    """The plugin without the classes that are CellProfiler's."""
    tree = ast.parse((PLUGINS / "runcellscribble.py").read_text(encoding="utf-8"))
    tree.body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.ImportFrom) and node.module.startswith("cellprofiler_core"))
        and not (isinstance(node, ast.ClassDef) and node.name in NEEDS_CELLPROFILER)
    ]
    names: dict[str, object] = {"__name__": "runcellscribble"}
    exec(compile(tree, "runcellscribble.py", "exec"), names)
    return SimpleNamespace(**names)


@pytest.fixture
def plugin(temporary_folder):
    """The plugin's functions."""
    functions = plugin_functions()
    yield functions
    stop_servers(temporary_folder)
    for process in functions.STARTED:
        process.wait(20)


@pytest.fixture
def task(tmp_path):
    """Arguments of `predict` for a picture of two disks, and where its labels will be."""
    tifffile.imwrite(tmp_path / "a.tif", disks()[0])
    model = write_model(tmp_path / "model.onnx")
    return [str(tmp_path / "a.tif"), "-m", str(model), "-o", str(tmp_path / "out"), "--overwrite"]


def labels_of(tmp_path):
    return tifffile.imread(tmp_path / "out" / "a_labels.tif")


@pytest.mark.slow
def test_answers_are_those_of_the_plain_command_and_one_server_gives_them_all(plugin, task, tmp_path):
    own = str(program(tmp_path))
    code, _ = plugin.run_program(own, task)
    expected = labels_of(tmp_path)
    assert (code, expected.max()) == (0, 2)
    for _ in range(2):
        (tmp_path / "out" / "a_labels.tif").unlink()
        assert plugin.ask_program(own, task)[0] == 0
        np.testing.assert_array_equal(labels_of(tmp_path), expected)
    record = json.loads((tmp_path / "out" / "a_labels.json").read_text())
    assert record["command"].startswith("cellscribble predict ")
    # A wrong image ends neither the server nor in other words than those of the command.
    wrong = [str(tmp_path / "b.tif"), *task[1:]]
    code, said = plugin.ask_program(own, wrong)
    assert (code, said) == plugin.run_program(own, wrong)
    assert code == 1
    assert "no image or folder" in said
    assert plugin.ask_program(own, [*task, "--no-such-option"])[0] == 2
    assert len(servers(tmp_path / "temp")) == 1


@pytest.mark.slow
def test_of_four_that_are_started_at_once_one_stays_and_answers_all(plugin, task, tmp_path):
    own = str(program(tmp_path))
    tasks = [[*task[:4], str(tmp_path / f"out{k}"), *task[5:]] for k in range(4)]
    with ThreadPoolExecutor(4) as workers:
        answers = list(workers.map(plugin.ask_program, [own] * 4, tasks))
    assert [code for code, _ in answers] == [0] * 4
    assert all((tmp_path / f"out{k}" / "a_labels.tif").exists() for k in range(4))
    assert len(plugin.STARTED) >= 4
    end = time.monotonic() + 60
    while len(running := [p.pid for p in plugin.STARTED if p.poll() is None]) > 1 and time.monotonic() < end:
        time.sleep(0.05)
    assert running == [server["pid"] for server in servers(tmp_path / "temp")]


@pytest.mark.slow
def test_workers_share_a_device_that_lets_in_one_process(plugin, task, tmp_path):
    own, device = exclusive_program(tmp_path)
    tasks = [[*task[:4], str(tmp_path / f"out{k}"), *task[5:]] for k in range(8)]
    with ThreadPoolExecutor(4) as workers:
        answers = list(workers.map(plugin.ask_program, [str(own)] * 8, tasks))
    assert [code for code, _ in answers] == [0] * 8
    # The server has the device; whoever comes with a process of his own is turned away.
    with device.open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    code, said = plugin.run_program(str(own), task)
    assert code == 1
    assert "all devices are busy or unavailable" in said
    assert len(servers(tmp_path / "temp")) == 1


@pytest.mark.slow
def test_a_server_killed_in_the_middle_of_an_image_is_started_again_once(plugin, task, tmp_path):
    own, left = killed_program(tmp_path, 1)
    assert plugin.ask_program(str(own), task)[0] == 0
    assert left.read_text() == "0"
    assert labels_of(tmp_path).max() == 2
    left.write_text("2")
    with pytest.raises(RuntimeError, match=r"ended twice in the middle of an image.*memory.*fewer workers"):
        plugin.ask_program(str(own), task)
    # Whoever comes next is served again.
    assert plugin.ask_program(str(own), task)[0] == 0


def test_a_program_that_does_not_start_says_why(plugin, task, tmp_path):
    with pytest.raises(
        RuntimeError, match=r"cannot be started as .*nowhere \(there is no such program\); set the full"
    ):
        plugin.ask_program(str(tmp_path / "nowhere"), task)
    old = tmp_path / "cellscribble"
    old.write_text("#!/bin/sh\necho \"error: there is no command 'serve'\" >&2\nexit 2\n")
    old.chmod(0o755)
    with pytest.raises(RuntimeError, match="no command 'serve'"):
        plugin.ask_program(str(old), task)
    # What it said the last time is no reason today.
    old.write_text("#!/bin/sh\nexit 3\n")
    os.utime(old, ns=(0, 0))
    (log,) = (tmp_path / "temp").glob("cellscribble-*/*.log")
    log.replace(plugin.server_place(str(old)).removesuffix(".json") + ".log")
    with pytest.raises(RuntimeError, match=r"cannot be started as .* \(exit code 3\)"):
        plugin.ask_program(str(old), task)


@pytest.mark.parametrize("told", ["", "[1]", "{}", '{"port": 1}', '{"port": "x", "secret": 3}'])
def test_what_is_no_word_of_a_server_is_none(plugin, tmp_path, told):
    (tmp_path / "place.json").write_text(told)
    assert plugin.connect(str(tmp_path / "place.json")) is None


def test_arguments_reach_the_program_as_they_are_and_cellprofilers_python_does_not(plugin, tmp_path, monkeypatch):
    """No shell looks at names, and the folders of CellProfiler's packages are not those of the program's."""
    for name in ("PYTHONPATH", "PYTHONHOME"):
        monkeypatch.setenv(name, str(tmp_path / "of CellProfiler"))
    own = tmp_path / "own program"
    own.write_text('#!/bin/sh\nprintf "%s\\n" "$@" "[$PYTHONPATH$PYTHONHOME]" >&2\nexit 4\n')
    own.chmod(0o755)
    odd = f"a \"b\" $(touch {tmp_path}/made) ; touch {tmp_path}/made; `x` 'c' *"
    code, said = plugin.run_program(str(own), [odd, "-m", odd])
    assert (code, said.splitlines()) == (4, ["predict", odd, "-m", odd, "[]"])
    assert not (tmp_path / "made").exists()


def test_a_folder_that_others_can_write_to_is_refused(plugin, task, tmp_path, capsys):
    folder = tmp_path / "temp" / f"cellscribble-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o755)
    with pytest.raises(RuntimeError, match="another user's or open to others, so what answers there is not trusted"):
        plugin.ask_program(str(program(tmp_path)), task)
    assert cellscribble(["serve", str(folder / "s.json")]) == 1
    assert "chmod 700" in capsys.readouterr().err
    if os.getuid() == 0:
        folder.chmod(0o700)
        os.chown(folder, 12345, 12345)
        with pytest.raises(RuntimeError, match="another user's"):
            plugin.ask_program(str(program(tmp_path)), task)
        assert cellscribble(["serve", str(folder / "s.json")]) == 1


def test_only_who_can_read_the_file_is_answered(plugin, task, tmp_path):
    own = str(program(tmp_path))
    assert plugin.ask_program(own, task)[0] == 0
    (file,) = (tmp_path / "temp").glob("cellscribble-*/*.json")
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    told = json.loads(file.read_text())
    with socket.create_connection(("127.0.0.1", told["port"])) as stranger, stranger.makefile("rb") as lines:
        stranger.sendall(b"0" * 32 + b"\n")
        greeting = lines.readline()
        assert unseal(told["secret"], "0" * 32, greeting)
        drawn = json.loads(greeting.partition(b" ")[2])["drew"]
        stranger.sendall(seal("guessed", "0" * 32 + drawn, {"arguments": task}))
        assert lines.readline() == b""
    # Nor does a client take another program that has the port of a dead server for it.
    with socket.create_server(("127.0.0.1", 0)) as other:
        file.write_text(json.dumps(told | {"port": other.getsockname()[1]}))
        answer = threading.Thread(target=say_something_else, args=[other])
        answer.start()
        assert plugin.connect(str(file)) is None
        answer.join()
    file.write_text(json.dumps(told))
    (tmp_path / "out" / "a_labels.tif").unlink()
    assert plugin.ask_program(own, task)[0] == 0
    assert labels_of(tmp_path).max() == 2


def say_something_else(listening):
    connection, _ = listening.accept()
    with connection:
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.mark.slow
def test_it_ends_when_idle_or_told_to_and_never_imports_torch(plugin, task, tmp_path):
    place = tmp_path / "private" / "s.json"
    code = (
        "import sys; from cellscribble.cli.main import run; code = run(sys.argv[1:]); "
        "print('MODULES', *sys.modules); sys.exit(code)"
    )
    for minutes, expected in (("0.02", 0), ("10", 143)):
        command = [sys.executable, "-c", f"{END_IN_ORDER}{code}", "serve", str(place), "--idle-minutes", minutes]
        with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process:
            server = wait_for(plugin, place)
            assert server.predict(task)[0] == 0
            server.close()
            if minutes == "10":
                process.send_signal(signal.SIGTERM)
            out, _ = process.communicate(timeout=60)
        assert process.returncode == expected
        modules = set(out.partition("MODULES")[2].split())
        assert "onnxruntime" in modules
        assert not modules & {"torch", "onnx", "onnxscript"}
        assert not place.exists()


def test_a_signal_that_wakes_nobody_is_seen_soon(tmp_path):
    """As one that comes after Python looked for signals and before it waits."""
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        threading.Timer(0.3, _thread.interrupt_main, [signal.SIGTERM]).start()
        began = time.monotonic()
        with pytest.raises(Terminated):
            serve(tmp_path / "s.json", lambda arguments: {}, idle_seconds=60)
        assert time.monotonic() - began < 30
        assert not (tmp_path / "s.json").exists()
    finally:
        signal.signal(signal.SIGTERM, before)


def wait_for(plugin, place):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        server = plugin.connect(str(place))
        if server is not None:
            return server
        time.sleep(0.05)
    raise AssertionError(f"nobody answers at {place}")


def test_networks_are_kept_by_what_they_are_and_the_oldest_goes(tmp_path):
    runners = WarmRunners()
    models = [open_model(write_model(tmp_path / f"{k}.onnx", metadata(name=f"m{k}"))) for k in range(MOST_WARM + 1)]
    first = runners(models[0], "cpu")
    assert runners(models[0], "cpu") is first
    assert runners(models[0], "auto") is not first
    for model in models[1 : MOST_WARM - 1]:
        runners(model, "cpu")
    assert runners(models[0], "cpu") is first
    for model in models[1:]:
        runners(model, "cpu")
    assert runners(models[0], "cpu") is not first
    # The same file with another network in it.
    write_model(models[1].path, metadata(name="anew"))
    assert runners(open_model(models[1].path), "cpu").metadata.name == "anew"
