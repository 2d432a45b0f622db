"""The real ImageJ 1.x under a virtual screen, for tests; nothing of it is imitated.

Debian: apt-get install imagej libij-java xvfb xdotool. Every run has a time limit: a window that waits for an
answer would wait for ever. ImageJ's exit code says nothing, so tests look at files.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from cellscribble.bridge.find import find_imagej_jar

NEEDED = ("java", "Xvfb", "xdotool")
JAR = find_imagej_jar(None)
MISSING = [name for name in NEEDED if not shutil.which(name)] + ([] if JAR else ["ij.jar (Debian: libij-java)"])

RUN_S = 180.0
"""Machines that run tests are busy; this is spent only where something hangs."""


@dataclass(frozen=True)
class ImageJ:
    """ImageJ with a home and a plugins folder of its own, on a screen of its own."""

    folder: Path
    display: str

    @property
    def plugins(self) -> Path:
        return self.folder / "ImageJ"

    def start(self, mode: str, macro: str, argument: str = "") -> subprocess.Popen[str]:
        """mode: "-batch", without windows, or "-macro", the real window, which the macro closes by run("Quit")."""
        for name in ("home", "tmp", "ImageJ/plugins"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        file = self.folder / "test.ijm"
        # ImageJ reads macros as Latin-1: see `macro_text.quote`.
        file.write_text(macro, encoding="ascii")
        # File names beyond ASCII reach Java only where the locale is UTF-8.
        environment = {**os.environ, "DISPLAY": self.display, "LC_ALL": "C.UTF-8", "TMPDIR": str(self.folder / "tmp")}
        places = {"user.home": "home", "plugins.dir": "ImageJ", "java.io.tmpdir": "tmp"}
        options = [f"-D{name}={self.folder / place}" for name, place in places.items()]
        command = ["java", *options, "-cp", str(JAR), "ij.ImageJ", mode, str(file), argument]
        return subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            cwd=self.folder,
        )

    def run(self, macro: str, argument: str = "", mode: str = "-batch", timeout_s: float = RUN_S) -> str:
        """What ImageJ printed; fails where it is not done in time."""
        process = self.start(mode, macro, argument)
        try:
            return process.communicate(timeout=timeout_s)[0]
        except subprocess.TimeoutExpired:
            screenshot = self.screenshot()
            process.kill()
            pytest.fail(f"ImageJ still ran after {timeout_s:.0f} s: {process.communicate()[0]}; screen: {screenshot}")

    def screenshot(self) -> Path | None:
        """What stands on the screen, where ImageMagick is installed."""
        path = self.folder / "screen.png"
        if shutil.which("import"):
            subprocess.run(["import", "-display", self.display, "-window", "root", str(path)], check=False, timeout=20)
        return path if path.exists() else None

    def xdotool(self, *args: object) -> str:
        done = subprocess.run(
            ["xdotool", *map(str, args)],
            env={**os.environ, "DISPLAY": self.display},
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
        return done.stdout.strip()


@contextlib.contextmanager
def virtual_screen():
    """The name of a display that nobody else has."""
    read, write = os.pipe()
    process = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "1280x900x24", "-nolisten", "tcp"],
        pass_fds=[write],
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    try:
        with os.fdopen(read) as number:
            yield f":{number.readline().strip()}"
    finally:
        process.terminate()
        process.wait(10)


def wait_for(condition, timeout_s: float = 90.0):
    """The condition's first true value; fails after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    return pytest.fail(f"waited {timeout_s:.0f} s in vain")
