"""Start Fiji or ImageJ on a folder of images with the tools of Annotate, and wait until it is closed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cellscribble.bridge.fiji import examine, find_plugins, install
from cellscribble.bridge.find import FIJI_VARIABLES, find_fiji, find_imagej_jar, find_launcher
from cellscribble.bridge.macro_text import quote
from cellscribble.core.errors import InputError
from cellscribble.io.atomic import explain_write_error
from cellscribble.io.images import list_images

# What ImageJ's own error window would keep from the one who typed the command comes back in a file.
_MACRO = """
File.saveString("", {begun});
options = "images=[" + {images} + "] strokes=[" + {strokes} + "] classes=[{classes}] width={width}";
run("CellScribble Annotate", options);
error = call("ij.Prefs.get", "cellscribble.error", "");
if (error != "") {{
    File.saveString(error, {answer});
    run("Quit");
}}
"""


def annotate(images: Path, scribbles: Path, classes: Sequence[str], width_px: int, fiji: Path | None = None) -> None:
    """Let a person draw strokes on `images`; returns when ImageJ was closed.

    Each stroke is saved at once, into NAME_rois.zip in the folder `scribbles`, which is made. `train` reads these.

    Parameters
    ----------
    images : a folder of images, or one image, with which to begin
    classes : names without background
    fiji : folder of a Fiji or ImageJ, which gets CellScribble's commands if it has not this version's; None: the
        one that `doctor` finds, or else an ij.jar with a plugins folder that lives as long as the run

    Raises
    ------
    InputError
        If there is no image, no Fiji or ImageJ, it is open already, or Annotate refuses what it was given.
    OutputError
        If the folder of scribbles, or of Fiji's plugins, cannot be written to.
    """
    list_images(images)
    for path in (images, scribbles):
        if "]" in str(path):
            raise InputError(f"{path} has a ']' in its name, which ends ImageJ's options; rename it")
    try:
        scribbles.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_write_error(error, scribbles) from error
    with tempfile.TemporaryDirectory(prefix="cellscribble_", ignore_cleanup_errors=True) as folder:
        begun, answer, macro = (Path(folder) / name for name in ("begun", "error.txt", "annotate.ijm"))
        places = {"images": images.absolute(), "strokes": scribbles.absolute(), "answer": answer, "begun": begun}
        words = {name: quote(place) for name, place in places.items()}
        macro.write_text(_MACRO.format(**words, classes=",".join(classes), width=width_px), encoding="ascii")
        command = [*_program(fiji, Path(folder)), "-macro", str(macro)]
        try:
            ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        except OSError as error:
            raise InputError(f"{command[0]} cannot be started ({error}); check the Fiji folder") from error
        if answer.exists():
            raise InputError(answer.read_text(encoding="utf-8"))
        if ended.returncode:
            lines = [line for line in ended.stderr.splitlines() if line.strip() and not line.startswith("Picked up")]
            said = (lines or ["it said nothing"])[0]
            raise InputError(f"{command[0]} ended with code {ended.returncode}: {said}; does it start by itself?")
        if not begun.exists():
            # It may hand its work to one that is open already, and end.
            raise InputError(
                f"{command[0]} ended before Annotate began; if it is open already close it, or draw there: "
                "Plugins > CellScribble > CellScribble Annotate"
            )


def _program(fiji: Path | None, folder: Path) -> list[str]:
    """What starts an ImageJ that has CellScribble's commands."""
    fiji = fiji or find_fiji()
    plugins = None if fiji is None else find_plugins(fiji)
    root = None if plugins is None else plugins.parent
    if root is not None and plugins is not None:
        held = examine(plugins)
        if held is None or not held.current:
            install(plugins)
        launcher = find_launcher(root)
        if launcher is not None:
            return [str(launcher)]
    jar, java = find_imagej_jar(root), shutil.which("java")
    if jar is None or java is None:
        raise InputError(
            f"no Fiji or ImageJ was found{'' if jar is None else ' that runs without Java'}; install Fiji (fiji.sc) "
            f"and give its folder with --fiji, or set {FIJI_VARIABLES[0]} to it"
        )
    if root is None:
        root = folder
        (root / "plugins").mkdir()
        install(root)
    # A port of its own, or an ImageJ that is open already would be asked to do the work.
    return [java, f"-Dplugins.dir={root}", "-cp", str(jar), "ij.ImageJ", f"-port{1 + os.getpid() % 8000}"]
