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

JAR = find_imagej_jar(None)
NO_SCREEN = [name for name in ("Xvfb", "xdotool") if not shutil.which(name)]
MISSING = [*NO_SCREEN, *([] if shutil.which("java") else ["java"]), *([] if JAR else ["ij.jar (Debian: libij-java)"])]
NO_IMAGEJ = f"real ImageJ is not here: {', '.join(MISSING)} missing"

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
        file = self.folder / "test.ijm"
        self.folder.mkdir(parents=True, exist_ok=True)
        # ImageJ reads macros as Latin-1: see `macro_text.quote`.
        file.write_text(macro, encoding="ascii")
        return self.launch(*mode.split(), str(file), *([argument] if argument else []))

    def launch(self, *words: str) -> subprocess.Popen[str]:
        """The program with these words behind it."""
        for name in ("home", "tmp", "ImageJ/plugins"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        return subprocess.Popen(
            [*self.command(), *words],
            env={**os.environ, **self.environment()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            cwd=self.folder,
        )

    def command(self) -> list[str]:
        """What starts the program."""
        places = {"user.home": "home", "plugins.dir": "ImageJ", "java.io.tmpdir": "tmp"}
        return ["java", *(f"-D{name}={self.folder / at}" for name, at in places.items()), "-cp", str(JAR), "ij.ImageJ"]

    def environment(self) -> dict[str, str]:
        """File names beyond ASCII reach Java only where the locale is UTF-8."""
        return {"DISPLAY": self.display, "LC_ALL": "C.UTF-8", "TMPDIR": str(self.folder / "tmp")}

    def run(self, macro: str, argument: str = "", mode: str = "-batch", timeout_s: float = RUN_S) -> str:
        """What ImageJ printed; fails where it is not done in time."""
        return self.finish(self.start(mode, macro, argument), timeout_s)

    def finish(self, process: subprocess.Popen[str], timeout_s: float = RUN_S) -> str:
        """What it printed until it ended; fails where that is not in time."""
        try:
            return process.communicate(timeout=timeout_s)[0]
        except subprocess.TimeoutExpired:
            screenshot = self.screenshot()
            process.kill()
            pytest.fail(f"ImageJ still ran after {timeout_s:.0f} s: {process.communicate()[0]}; screen: {screenshot}")

    def screenshot(self) -> Path | None:
        """What stands on the screen, where ImageMagick is installed."""
        path = self.folder / "screen.png"
        if self.display and shutil.which("import"):
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


def wait_for(condition, timeout_s: float = 90.0, pause_s: float = 0.1):
    """The condition's first true value; fails after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(pause_s)
    return pytest.fail(f"waited {timeout_s:.0f} s in vain")


def wait_for_rest(pid: int, rest_s: float = 0.5) -> None:
    """Until no thread of the program ran, or waited for a processor, for so long: it takes the next stroke or key.

    ImageJ starts no tool while one runs, and says nowhere that one has ended; how long one takes depends on what else
    the machine does.
    """
    rests_since = time.monotonic()

    def rests() -> bool:
        nonlocal rests_since
        if any(_state(task) in "RD" for task in Path(f"/proc/{pid}/task").iterdir()):
            rests_since = time.monotonic()
        return time.monotonic() - rests_since > rest_s

    wait_for(rests, pause_s=0.01)


def child_of(process: subprocess.Popen[str]) -> int:
    """The program that another one has started, once it has."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return int(wait_for(lambda: children.read_text().split())[0])


def _state(task: Path) -> str:
    """Linux' letter for what a thread does: R for running or ready to, D for waiting for a disk."""
    try:
        # Behind the name, which is in brackets and may hold anything.
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "ended"
