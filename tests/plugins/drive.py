"""The real CellProfiler, without windows. `.ci/cellprofiler` builds it; CELLSCRIBBLE_CELLPROFILER names it."""

import contextlib
import csv
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGINS = ROOT / "plugins" / "cellprofiler"
EXAMPLE = ROOT / "examples" / "cellprofiler" / "nuclei.cppipe"
PROGRAM = os.environ.get("CELLSCRIBBLE_CELLPROFILER", "")
CELLPROFILER_5 = os.environ.get("CELLSCRIBBLE_CELLPROFILER5", "")

ModuleText = tuple[str, int, Sequence[object]]
"""A module of a pipeline: name, revision, and the values of its settings in their order."""

# The system ends a program that takes too much memory like this, in the middle of an image.
KILLED = """#!{python}
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from cellscribble.cli import predict
from cellscribble.cli.main import main
before, left = predict.predict_files, Path(__file__).with_name("left")
def killed(*args):
    jobs = before(*args)
    if int(left.read_text()) > 0:
        left.write_text(str(int(left.read_text()) - 1))
        os.kill(os.getpid(), signal.SIGKILL)
    return jobs
predict.predict_files = killed
main()
"""

# A graphics card that its owner set to "exclusive process" has one process at a time, and turns away all others.
EXCLUSIVE = """#!{python}
import fcntl, sys
from pathlib import Path
sys.path.insert(0, {root!r})
import onnxruntime
device = open(Path(__file__).with_name("device"), "a")
load = onnxruntime.InferenceSession
def alone(*args, **options):
    try:
        fcntl.flock(device, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RuntimeError("all devices are busy or unavailable") from None
    return load(*args, **options)
onnxruntime.InferenceSession = alone
from cellscribble.cli.main import main
main()
"""

needs_cellprofiler = pytest.mark.skipif(
    not PROGRAM, reason="no CellProfiler here: export CELLSCRIBBLE_CELLPROFILER=$(.ci/cellprofiler)"
)


def run(pipeline: Path, out: Path, *args: str | Path, cellprofiler: str = PROGRAM) -> subprocess.CompletedProcess:
    """Run a pipeline as it stands. A server that it starts goes on: `temporary_folder` ends it."""
    command = [cellprofiler, "-c", "-r", "-p", pipeline, "-o", out, "--plugins-directory", PLUGINS, *args]
    # The tests' own PYTHONPATH is not CellProfiler's.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300, check=False, env=environment)


def plugin_pipeline(path: Path, settings: dict[str, object], before: Sequence[ModuleText] = ()) -> Path:
    """The shipped example with other settings, by their words in CellProfiler, and with modules before ours."""
    text = EXAMPLE.read_text(encoding="utf-8")
    for words, value in settings.items():
        text, n = re.subn(f"^    {re.escape(words)}:.*$", lambda _: f"    {words}:{value}", text, flags=re.MULTILINE)  # noqa: B023
        assert n, words
    begin = text.index("RunCellScribble:[")
    (head,) = re.findall("^RunCellScribble:.*$", text, flags=re.MULTILINE)
    for name, revision, values in before:
        own_head = re.sub(r"(?<=revision_number:)\d+", str(revision), head.replace("RunCellScribble", name))
        module = "\n".join([own_head, *(f"    :{value}" for value in values), "", ""])
        text, begin = text[:begin] + module + text[begin:], begin + len(module)
    numbers = itertools.count(1)
    text = re.sub(r"(?<=\[module_num:)\d+", lambda _: str(next(numbers)), text)
    text = re.sub(r"(?<=ModuleCount:)\d+", str(text.count("[module_num:")), text)
    path.write_text(text, encoding="utf-8")
    return path


def program(folder: Path) -> Path:
    """`cellscribble` of this source as a program of its own, which brings its own PYTHONPATH."""
    path = folder / "cellscribble"
    path.write_text(f'#!/bin/sh\nexport PYTHONPATH="{ROOT}"\nexec "{sys.executable}" -m cellscribble "$@"\n')
    path.chmod(0o755)
    return path


def watched_program(folder: Path) -> tuple[Path, Path]:
    """As `program`; and the folder where each image that it is given stays, 0.tif, 1.tif ..."""
    path, seen = program(folder), folder / "seen"
    seen.mkdir()
    keep = f'[ "$1" != predict ] || cp "$2" "{seen}/$(ls "{seen}" | wc -l).tif"\n'
    path.write_text(path.read_text().replace("exec ", f"{keep}exec "))
    return path, seen


def killed_program(folder: Path, times: int) -> tuple[Path, Path]:
    """As `program`, but killed in the middle of so many images; and the file that says of how many more."""
    path, left = folder / "cellscribble", folder / "left"
    path.write_text(KILLED.format(python=sys.executable, root=str(ROOT)))
    path.chmod(0o755)
    left.write_text(str(times))
    return path, left


def exclusive_program(folder: Path) -> tuple[Path, Path]:
    """As `program`, with a device on which one process at a time can load networks; and the file that is locked."""
    path, device = folder / "cellscribble", folder / "device"
    path.write_text(EXCLUSIVE.format(python=sys.executable, root=str(ROOT)))
    path.chmod(0o755)
    device.touch()
    return path, device


def rows(path: Path) -> list[dict[str, str]]:
    """A table that CellProfiler exported."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def servers(temporary: Path) -> list[dict[str, object]]:
    """What the servers that run say of themselves, of programs whose temporary folder this is."""
    found = []
    for file in temporary.glob("cellscribble-*/*.json"):
        # One that ends takes its file away; one that was killed did not.
        with contextlib.suppress(FileNotFoundError):
            told = json.loads(file.read_text())
            if "State:\tZ" not in Path(f"/proc/{told['pid']}/status").read_text():
                found.append(told)
    return found


def stop_servers(temporary: Path) -> None:
    """End them, and wait until they are gone; also one that came late and took the place of another."""
    end = time.monotonic() + 60
    while (left := servers(temporary)) and time.monotonic() < end:
        for server in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(str(server["pid"])), signal.SIGTERM)
        time.sleep(0.1)
