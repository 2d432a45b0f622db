"""What made a file: the exact command, the versions, the date. Standard library only."""

from __future__ import annotations

import functools
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from cellscribble._version import __version__

PACKAGES = ("numpy", "scipy", "scikit-image", "tifffile", "zarr")
RUNTIMES = ("onnxruntime-gpu", "onnxruntime")


def command() -> str:
    """The command line as it could be typed again; of a script that calls our functions, its own."""
    program = Path(sys.argv[0]) if sys.argv else Path()
    module = program.name == "__main__.py" and program.parent.name == "cellscribble"
    if module or program.name.removesuffix(".exe") == "cellscribble":
        return shlex.join(["cellscribble", *sys.argv[1:]])
    return shlex.join(["python", *sys.argv])


def versions(*more: str) -> dict[str, str]:
    """Versions of Python, CellScribble and the packages that numbers depend on; nothing is imported.

    Parameters
    ----------
    more : further distributions, such as "torch"; left out of the answer where not installed.
    """
    found = {name: _version(name) for name in (*RUNTIMES, *PACKAGES, *more)}
    installed = {name: version for name, version in found.items() if version is not None}
    return {"python": platform.python_version(), "cellscribble": __version__, **installed}


@functools.cache
def _version(name: str) -> str | None:
    # A search through the folders of packages: for a folder of small images it was a tenth of all time.
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def now() -> str:
    """Date and time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
