"""Where Fiji and ImageJ are on this computer."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

FIJI_PROGRAMS = (
    "fiji",
    "Fiji",
    "fiji-linux-x64",
    "fiji-macos-arm64",
    "fiji-windows-x64",
    "fiji-windows-x64.exe",
    "ImageJ-linux64",
    "ImageJ-win64",
    "ImageJ-win64.exe",
    "ImageJ-macosx",
)
FIJI_VARIABLES = ("CELLSCRIBBLE_FIJI", "FIJI_DIR")
FIJI_FOLDERS = ("Fiji.app", "Fiji")

_DEBIAN_JAR = Path("/usr/share/java/ij.jar")


def find_fiji() -> Path | None:
    """Fiji's folder: by environment variable, then on PATH, then in the usual places."""
    for variable in FIJI_VARIABLES:
        given = os.environ.get(variable)
        if given and Path(given).exists():
            return Path(given)
    for name in FIJI_PROGRAMS:
        program = shutil.which(name)
        if program:
            return Path(program).resolve().parent
    places = [Path.home() / part for part in ("", "Applications", "Desktop", "Downloads", "opt")]
    places += [Path(p) for p in ("/opt", "/usr/local", "/Applications", "C:/", "C:/Program Files")]
    return next((p / name for p in places for name in FIJI_FOLDERS if (p / name).is_dir()), None)


def find_imagej_jar(fiji: Path | None) -> Path | None:
    """ImageJ 1 itself: in Fiji's jars, in the folder of a plain ImageJ, or where Debian puts it."""
    if fiji is not None:
        inside = [*sorted((fiji / "jars").glob("ij-1.*.jar"), reverse=True), fiji / "ij.jar"]
        found = next((jar for jar in inside if jar.is_file()), None)
        if found is not None:
            return found
    return _DEBIAN_JAR if _DEBIAN_JAR.is_file() else None


def find_launcher(fiji: Path) -> Path | None:
    """Fiji's program in its folder; None in a plain ImageJ, which Java starts."""
    places = (fiji, fiji / "Contents" / "MacOS")
    return next((p / name for p in places for name in FIJI_PROGRAMS if (p / name).is_file()), None)
