"""FijiSession with the real ImageJ, in a process of its own: Java starts once in each, and ends with it."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from tests.bridge.imagej import JAR, MISSING, NO_IMAGEJ

pytestmark = [pytest.mark.imagej, pytest.mark.skipif(bool(MISSING), reason=NO_IMAGEJ)]
pytest.importorskip("jpype", reason="pip install jpype1")

START = """
import os, sys
from pathlib import Path
import numpy as np
from cellscribble.bridge.session import FijiSession
from cellscribble.core.errors import CellScribbleError, InputError
from cellscribble.core.volume import ImageVolume
folder = Path(sys.argv[1])
"""
DRAW = 'makeLine(5, 10, 25, 10); Roi.setName("nucleus_1"); Roi.setStrokeWidth(3); Overlay.addSelection;'
WINDOW = """
image = ImageVolume(np.arange(40 * 50, dtype=np.uint16).reshape(1, 40, 50), "CYX", (0.5, 0.5), "cells")
labels = np.zeros((40, 50), np.uint16); labels[3:9, 4:9] = 300
session.show(image, labels)
print(session.run_macro('selectImage(2); return "" + nImages + " " + getTitle() + " " + getPixel(5, 5);'))
session.run_macro('getLut(r, g, b); selectImage(1); DRAW')
session.run_macro('makeRectangle(30, 20, 8, 6); Roi.setName("bg_1"); roiManager("add");')
found = session.collect_scribbles()
print(found.class_names, (found.data[10, 5:26] == 1).all(), (found.data == 0).sum(), (found.data == 1).sum())
print(session.run_macro("return getArgument();", "as given"))
try:
    session.run_macro("exit;")
except InputError as error:
    print(error)
session.close()
print(session.run_macro("return d2s(nImages, 0);"))
""".replace("DRAW", DRAW)


@pytest.fixture
def python(screen, tmp_path):
    """Runs a script and gives what it printed; what Java is told to use lies in a folder of its own."""

    def run(script, display=screen):
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        environment = {**os.environ, "JAVA_TOOL_OPTIONS": f'"-Duser.home={home}"', "LC_ALL": "C.UTF-8"}
        environment.pop("DISPLAY", None)
        if display:
            environment["DISPLAY"] = display
        # ImageJ's window would keep the process alive.
        code = START + script + "\nsys.stdout.flush(); os._exit(0)"
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


def check_window(lines):
    """What WINDOW prints, whichever ImageJ it ran in."""
    assert lines[0] == "2 cells_labels.tif 300"
    assert lines[1].startswith("('background', 'nucleus') True 48 6")
    assert lines[2] == "as given"
    assert lines[-1] == "1"


def test_a_window_with_strokes_and_labels(python):
    check_window(python("session = FijiSession()" + WINDOW))


def test_without_a_screen_and_on_a_stack(python, tmp_path):
    tifffile.imwrite(tmp_path / "s.tif", np.zeros((4, 30, 40), np.uint8), imagej=True, metadata={"axes": "ZYX"})
    lines = python(
        """
try:
    FijiSession()
except InputError as error:
    print(error)
session = FijiSession(headless=True)
session.show(folder / "s.tif")
import jpype
Roi, Overlay = jpype.JClass("ij.gui.Roi"), jpype.JClass("ij.gui.Overlay")
roi = Roi(2, 3, 5, 4); roi.setName("fg_1"); roi.setPosition(2)
session._image.setOverlay(Overlay(roi))
found = session.collect_scribbles()
print(found.data.shape, np.unique(np.nonzero(found.data >= 0)[0]), (found.data >= 0).sum())
try:
    session.show(folder / "gone.tif")
except InputError as error:
    print(error)
""",
        display=None,
    )
    assert lines[0].startswith("there is no screen (DISPLAY is not set)")
    assert lines[1] == "(4, 30, 40) [1] 20"
    assert "ImageJ cannot open" in lines[2]


def test_a_java_machine_that_runs_is_used(python):
    """As that of pyimagej: here JPype starts it with ImageJ, or without."""
    (line,) = python(
        f"""
import jpype
jpype.startJVM("-Djava.awt.headless=true", classpath=[{str(JAR)!r}])
print(FijiSession().run_macro("return d2s(6 * 7, 0);"))
"""
    )
    assert line == "42"
    (line,) = python(
        """
import jpype
jpype.startJVM()
try:
    FijiSession()
except InputError as error:
    print(error)
"""
    )
    assert line.startswith("the Java machine of this process has no ImageJ")


def test_no_strokes_is_said(python):
    lines = python(
        """
session = FijiSession(headless=True)
for show in (False, True):
    if show:
        session.show(ImageVolume(np.zeros((1, 20, 20), np.uint8), "CYX"))
    try:
        session.collect_scribbles()
    except InputError as error:
        print(error)
"""
    )
    assert lines[0].startswith("no image was shown")
    assert lines[1].startswith("no strokes were drawn")
