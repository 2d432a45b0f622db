"""CellScribble's commands inside Fiji or ImageJ: files copied into its plugins folder, nothing else."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from cellscribble._version import __version__
from cellscribble.bridge.macro_text import quote
from cellscribble.core.errors import InputError, OutputError
from cellscribble.io.atomic import explain_write_error, save_text

FOLDER = "CellScribble"
COMMON = "common.ijm"
TOOLS = "tools.txt"
_HEADER = "// CellScribble {version}, written by `cellscribble fiji-install`: do it again when CellScribble moves."
_INCLUDE = re.compile(r"^// include (\S+)\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Installed:
    """Plugin files in one ImageJ; `current` if they are this version's and call this Python."""

    folder: Path
    current: bool


def install(place: str | Path) -> list[Path]:
    """Write the plugin files into a Fiji or ImageJ; the files.

    Parameters
    ----------
    place : the folder that holds `plugins`, or plugins itself: Fiji, Fiji.app, ImageJ, on macOS also the
        folder above Contents

    Raises
    ------
    InputError
        If it is no Fiji or ImageJ.
    OutputError
        If it cannot be written to.
    """
    folder = find_plugins(Path(place)) / FOLDER
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise _explain(error, folder) from error
    written = []
    for name, text in plugin_texts().items():
        try:
            save_text(folder / name, text, overwrite=True)
        except OutputError as error:
            raise OutputError(f"{error}; or start this as the user who installed Fiji") from error
        written.append(folder / name)
    return written


def find_plugins(place: Path) -> Path:
    """The plugins folder of an ImageJ.

    Raises
    ------
    InputError
        If there is none.
    """
    if place.name == "plugins" and place.is_dir():
        return place
    for inner in (".", "Fiji", "Fiji.app", "ImageJ", "Contents/Java"):
        if (place / inner / "plugins").is_dir():
            return (place / inner / "plugins").resolve()
    held = sorted(p.name for p in place.iterdir())[:5] if place.is_dir() else []
    found = f"it holds {', '.join(held) or 'nothing'}" if place.is_dir() else "there is no such folder"
    raise InputError(
        f"{place} is no Fiji or ImageJ ({found}); give the folder that holds 'plugins', such as Fiji or Fiji.app"
    )


def examine(place: Path) -> Installed | None:
    """What stands in the Fiji at `place`; None without our files."""
    try:
        folder = find_plugins(place) / FOLDER
    except InputError:
        return None
    files = plugin_texts()
    if not any((folder / name).is_file() for name in files):
        return None
    current = all(
        (folder / name).is_file() and (folder / name).read_bytes() == t.encode() for name, t in files.items()
    )
    return Installed(folder, current)


def plugin_texts() -> dict[str, str]:
    """Name -> content of each plugin file, with the path of this Python in it."""
    source = _source()
    header = f"{_HEADER.format(version=__version__)}\nvar python = {quote(sys.executable)};\n"

    def included(line: re.Match[str]) -> str:
        return (source / line[1]).read_text(encoding="ascii")

    files = [*sorted(source.glob("CellScribble_*.ijm")), source / TOOLS]
    texts = {path.name: _INCLUDE.sub(included, path.read_text(encoding="ascii")) for path in files}
    return {name: header + text for name, text in texts.items()}


def common_macro() -> str:
    """The functions that all commands share, as a text for ImageJ."""
    return (_source() / COMMON).read_text(encoding="ascii")


def _source() -> Path:
    package = Path(__file__).parents[1]
    for place in (package / "plugins" / "fiji", package.parent / "plugins" / "fiji"):
        if (place / COMMON).is_file():
            return place
    raise InputError(
        f"the plugin files are not in {package / 'plugins'}; install CellScribble again, "
        "with 'pip install .' in its source folder"
    )


def _explain(error: OSError, folder: Path) -> OutputError:
    return OutputError(f"{explain_write_error(error, folder)}; or start this as the user who installed Fiji")
