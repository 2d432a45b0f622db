"""`cellscribble annotate` with the real ImageJ: Fiji is a folder with ij.jar and plugins, or Debian's package."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
import roifile

from cellscribble.cli.main import run
from tests.bridge.imagej import JAR, child_of, wait_for, wait_for_rest
from tests.bridge.test_annotate import CANVAS_X, CANVAS_Y, images  # noqa: F401

real = pytest.mark.imagej


def start(imagej, *words):
    home = imagej.folder / "home"
    home.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "DISPLAY": imagej.display,
        "LC_ALL": "C.UTF-8",
        "HOME": str(home),
        "JAVA_TOOL_OPTIONS": f'"-Duser.home={home}"',
    }
    command = [sys.executable, "-m", "cellscribble", "annotate", *map(str, words)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, encoding="utf-8")


def position(imagej, window):
    geometry = imagej.xdotool("getwindowgeometry", window)
    return tuple(map(int, re.search(r"Position: (\d+),(\d+)", geometry).groups()))


def draw(imagej, left, top):
    for i, x in enumerate((40, 50, 60, 70)):
        imagej.xdotool("mousemove", left + CANVAS_X + x, top + CANVAS_Y + 40)
        time.sleep(0.1)
        if i == 0:
            imagej.xdotool("mousedown", 1)
            time.sleep(0.15)
    imagej.xdotool("mouseup", 1)


@real
@pytest.mark.parametrize("own_folder", [True, False])
def test_strokes_are_in_the_folder_of_scribbles_when_imagej_is_closed(imagej, images, own_folder):  # noqa: F811
    words = ["--classes", "nucleus"]
    if own_folder:
        fiji = imagej.folder / "my ImageJ"
        (fiji / "plugins").mkdir(parents=True)
        (fiji / "ij.jar").symlink_to(JAR)
        words += ["--fiji", fiji]
    strokes = imagej.folder / "strokes"
    process = start(imagej, images, strokes, *words)
    try:
        window = wait_for(lambda: imagej.xdotool("search", "--name", r"^it's 0\.tif")).splitlines()[-1]
        java = child_of(process)

        def drawn():
            # Until Annotate has ended, a moment after the window is there, no tool starts.
            wait_for_rest(java)
            draw(imagej, *position(imagej, window))
            wait_for_rest(java)
            return (strokes / "it's 0_rois.zip").exists()

        wait_for(drawn)
        # File > Quit: without a window manager nothing else closes a window.
        main = imagej.xdotool("search", "--name", "^ImageJ$").splitlines()[-1]
        x, y = position(imagej, main)
        imagej.xdotool("mousemove", x + 20, y + 12, "click", 1)
        for key in ("Up", "Return"):
            wait_for_rest(java)
            imagej.xdotool("key", key)
        err = process.communicate(timeout=60)[1]
    finally:
        if process.poll() is None:
            imagej.screenshot()
            for pid in (child_of(process), process.pid):
                os.kill(pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 0, err
    assert {roi.name.split("_")[0] for roi in roifile.roiread(strokes / "it's 0_rois.zip")} == {"nucleus"}
    assert f"on 1 image(s), in {strokes}" in err
    assert not list(images.glob("*_rois.zip"))


@real
def test_what_annotate_refuses_comes_back_and_no_window_is_left(imagej, images):  # noqa: F811
    """Also where an ImageJ is open already, which would take over what another one is asked for."""
    environment = {**os.environ, "DISPLAY": imagej.display}
    open_already = subprocess.Popen(["java", "-cp", str(JAR), "ij.ImageJ"], env=environment)
    try:
        wait_for(lambda: imagej.xdotool("search", "--name", "^ImageJ$"))
        wait_for_rest(open_already.pid)
        process = start(imagej, images, imagej.folder / "strokes", "--classes", "9")
        assert "a class cannot be called '9'" in process.communicate(timeout=120)[1]
        assert process.returncode == 1
    finally:
        open_already.kill()
        open_already.wait()


def test_without_fiji_it_says_what_to_install(tmp_path, monkeypatch, capsys, images_folder):
    monkeypatch.setattr("cellscribble.bridge.annotate.find_fiji", lambda: None)
    monkeypatch.setattr("cellscribble.bridge.find._DEBIAN_JAR", tmp_path / "gone.jar")
    assert run(["annotate", str(images_folder), str(tmp_path / "s")]) == 1
    assert (
        "no Fiji or ImageJ was found; install Fiji (fiji.sc) and give its folder with --fiji"
        in capsys.readouterr().err
    )


def test_a_folder_that_is_no_fiji_says_what_it_holds(tmp_path, capsys, images_folder):
    assert run(["annotate", str(images_folder), str(tmp_path / "s"), "--fiji", str(images_folder)]) == 1
    assert "is no Fiji or ImageJ (it holds a.tif)" in capsys.readouterr().err


def test_a_fiji_that_does_not_start_says_so(tmp_path, capsys, images_folder):
    """A launcher of another system, or a broken one."""
    (tmp_path / "Fiji" / "plugins").mkdir(parents=True)
    launcher = tmp_path / "Fiji" / "fiji-linux-x64"
    launcher.write_text("#!/bin/sh\necho 'no display' >&2\nexit 3\n")
    launcher.chmod(0o755)
    assert run(["annotate", str(images_folder), str(tmp_path / "s"), "--fiji", str(tmp_path / "Fiji")]) == 1
    assert "ended with code 3: no display; does it start by itself?" in capsys.readouterr().err
    # It has the commands now, as fiji-install would have put them there.
    assert (tmp_path / "Fiji" / "plugins" / "CellScribble" / "tools.txt").exists()


@pytest.fixture
def images_folder(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.tif").write_bytes(b"x")
    return tmp_path / "images"
