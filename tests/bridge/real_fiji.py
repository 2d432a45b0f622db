"""A Fiji for the tests that need a real one: a copy of the folder that CELLSCRIBBLE_TEST_FIJI names.

Fiji writes into its own folder and into the home of the one who starts it. So what is started is a copy, with a home
of its own, and what is installed is installed there.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from cellscribble.bridge.fiji import find_plugins
from cellscribble.bridge.find import FIJI_PROGRAMS, find_launcher
from cellscribble.core.errors import InputError
from tests.bridge.imagej import ImageJ

VARIABLE = "CELLSCRIBBLE_TEST_FIJI"
HEADLESS = "--headless -macro"
"""As a mode of `ImageJ.start`: what Fiji offers beside ImageJ's own, and needs no screen."""


@dataclass(frozen=True)
class Fiji(ImageJ):
    """Fiji under its own launcher; `root` is the folder that holds `plugins`."""

    root: Path

    @property
    def plugins(self) -> Path:
        return self.root

    def command(self) -> list[str]:
        return [str(launcher_of(self.root))]

    def environment(self) -> dict[str, str]:
        home, temporary = self.folder / "home", self.folder / "tmp"
        # Read by Java itself, whatever starts it.
        java = f'"-Duser.home={home}" "-Djava.io.tmpdir={temporary}"'
        return {**super().environment(), "HOME": str(home), "JAVA_TOOL_OPTIONS": java}


def given_fiji() -> Path:
    """The folder that holds `plugins` of the Fiji that was named; skips where none was, fails where it is none."""
    given = os.environ.get(VARIABLE, "")
    if not given:
        pytest.skip(f"no Fiji to test with: set {VARIABLE} to the folder of one, which is copied and left as it is")
    try:
        root = find_plugins(Path(given)).parent
        launcher_of(root)
        return root
    except InputError as error:
        problem = f"{VARIABLE}: {error}"
    return pytest.fail(problem, pytrace=False)


def launcher_of(root: Path) -> Path:
    """Raises InputError if there is none: plain ImageJ, or the Fiji of another system."""
    launcher = find_launcher(root)
    if launcher is None:
        raise InputError(f"{root} has plugins, but no program of Fiji: none of {', '.join(FIJI_PROGRAMS)}")
    return launcher


def copy_fiji(root: Path, to: Path) -> Path:
    """What links lead to is copied too, so that nothing is written through one."""
    return Path(shutil.copytree(root, to, ignore_dangling_symlinks=True))
