"""The real CellProfiler, without windows. `.ci/cellprofiler` builds it; CELLSCRIBBLE_CELLPROFILER names it."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGINS = ROOT / "plugins" / "cellprofiler"
EXAMPLE = ROOT / "examples" / "cellprofiler" / "nuclei.cppipe"
PROGRAM = os.environ.get("CELLSCRIBBLE_CELLPROFILER", "")

needs_cellprofiler = pytest.mark.skipif(
    not PROGRAM, reason="no CellProfiler here: export CELLSCRIBBLE_CELLPROFILER=$(.ci/cellprofiler)"
)


def run(pipeline: Path, out: Path, *args: str | Path) -> subprocess.CompletedProcess:
    """Run a pipeline as it stands."""
    command = [PROGRAM, "-c", "-r", "-p", pipeline, "-o", out, "--plugins-directory", PLUGINS, *args]
    # The tests' own PYTHONPATH is not CellProfiler's.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300, check=False, env=environment)


def plugin_pipeline(path: Path, settings: dict[str, object]) -> Path:
    """The shipped example with other settings, by their words in CellProfiler."""
    text = EXAMPLE.read_text(encoding="utf-8")
    for words, value in settings.items():
        text, n = re.subn(f"^    {re.escape(words)}:.*$", lambda _: f"    {words}:{value}", text, flags=re.MULTILINE)  # noqa: B023
        assert n, words
    path.write_text(text, encoding="utf-8")
    return path


def program(folder: Path) -> Path:
    """`cellscribble` of this source as a program of its own, which brings its own PYTHONPATH."""
    path = folder / "cellscribble"
    path.write_text(f'#!/bin/sh\nexport PYTHONPATH="{ROOT}"\nexec "{sys.executable}" -m cellscribble "$@"\n')
    path.chmod(0o755)
    return path


def rows(path: Path) -> list[dict[str, str]]:
    """A table that CellProfiler exported."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
