"""ImageJ's windows from Python: show images and labels, take the strokes that were drawn, run macros.

One Java machine lives in a Python process. If one runs already, such as that of `imagej.init()` of pyimagej, its
ImageJ is used; otherwise JPype starts one with an ij.jar. Only classes of ImageJ 1 (`ij.*`) are asked: both have them.
"""

from __future__ import annotations

import os
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.bridge.fiji import common_macro, find_plugins
from cellscribble.bridge.find import find_fiji, find_imagej_jar
from cellscribble.core.errors import InputError, MissingExtraError
from cellscribble.core.volume import ImageVolume
from cellscribble.io.scribbles import Scribbles, read_scribbles
from cellscribble.io.tiff import save_image, save_imagej_labels


class FijiSession:
    """An ImageJ in this process.

    Parameters
    ----------
    fiji : folder of the Fiji or ImageJ whose ij.jar and plugins are taken; None for the one that `doctor` finds. Not
        used where a Java machine runs already.
    headless : without windows; then ImageJ runs no menu commands

    Raises
    ------
    MissingExtraError
        If JPype is not installed.
    InputError
        If there is no ij.jar, no screen for windows, or the Java machine that runs has no ImageJ.
    """

    def __init__(self, fiji: str | Path | None = None, *, headless: bool = False) -> None:
        self._jpype = _import_jpype()
        if not self._jpype.isJVMStarted():
            _start(self._jpype, None if fiji is None else Path(fiji), headless=headless)
        try:
            self._ij = self._jpype.JClass("ij.IJ")
        except TypeError as error:
            raise InputError(
                "the Java machine of this process has no ImageJ; make a FijiSession, or call imagej.init(), "
                "before anything else starts Java"
            ) from error
        self.headless = bool(self._jpype.JClass("java.awt.GraphicsEnvironment").isHeadless())
        if not self.headless and self._ij.getInstance() is None:
            # With its own window, but Java goes on when that is closed.
            self._jpype.JClass("ij.ImageJ")().exitWhenQuitting(False)
        self._image: Any = None

    def show(self, image: ImageVolume | str | Path, labels: npt.NDArray[np.integer[Any]] | None = None) -> None:
        """Open an image in a window, and its labels (*spatial) in another, in colours that differ.

        The image is the one whose strokes `collect_scribbles` takes.

        Raises
        ------
        InputError
            If ImageJ cannot open the file.
        """
        with tempfile.TemporaryDirectory(prefix="cellscribble_") as folder:
            if isinstance(image, ImageVolume):
                path = Path(folder) / f"{image.name or 'image'}.tif"
                save_image(path, image.data, image.axes, image.pixel_size_um, image.channel_names)
            else:
                path = Path(image).absolute()
            self._image = self._open(path)
            if labels is not None:
                place = Path(folder) / f"{path.stem}_labels.tif"
                save_imagej_labels(place, labels, image.pixel_size_um if isinstance(image, ImageVolume) else None)
                window = self._open(place)
                self._jpype.JClass("ij.WindowManager").setTempCurrentImage(window)
                self.run_macro(common_macro() + "\ncolour_labels();")
                self._jpype.JClass("ij.WindowManager").setTempCurrentImage(None)
                window.updateAndDraw()

    def collect_scribbles(self, timepoint: int | None = None) -> Scribbles:
        """The strokes on the image that was shown last: its overlay, and what is in the ROI Manager.

        timepoint : from 0; of a time series, ROIs that were drawn on other time points are left out

        Raises
        ------
        InputError
            If no image was shown, or no ROI has a class by name (bg_1, nucleus_2), group or colour.
        """
        if self._image is None:
            raise InputError("no image was shown, so there are no strokes; call show(image) first")
        slices = int(self._image.getNSlices())
        plane = (int(self._image.getHeight()), int(self._image.getWidth()))
        encode = self._jpype.JClass("ij.io.RoiEncoder").saveAsByteArray
        rois = [np.asarray(encode(roi), np.int8).tobytes() for roi in self._rois()]
        if not rois:
            raise InputError(
                "no strokes were drawn: draw them on the image, and add each to the overlay (b) or the ROI Manager (t)"
            )
        with tempfile.TemporaryDirectory(prefix="cellscribble_") as folder:
            path = Path(folder) / "strokes.zip"
            with zipfile.ZipFile(path, "w") as archive:
                for number, content in enumerate(rois):
                    archive.writestr(f"{number:05d}.roi", content)
            return read_scribbles(path, (slices, *plane) if slices > 1 else plane, timepoint=timepoint)

    def run_macro(self, text: str, args: str = "") -> str:
        """Run a macro of ImageJ's language; what it returned, "" for nothing. `args` is its getArgument().

        Raises
        ------
        InputError
            If the macro was stopped by an error or by exit().
        """
        answer = self._ij.runMacro(text, args)
        if answer is not None and str(answer) == "[aborted]":
            raise InputError(
                f"the macro was aborted: {text.strip().splitlines()[0]} ...; run it in ImageJ to see where"
            )
        return "" if answer is None else str(answer)

    def close(self) -> None:
        """Close the image that was shown, without asking. Java itself ends with this process."""
        if self._image is not None:
            self._image.changes = False
            self._image.close()
            self._image = None

    def _open(self, path: Path) -> Any:
        opened = self._ij.openImage(str(path))
        if opened is None:
            raise InputError(f"ImageJ cannot open {path}; save it as TIFF, or open it in Fiji with Bio-Formats")
        if not self.headless:
            opened.show()
        return opened

    def _rois(self) -> list[Any]:
        overlay = self._image.getOverlay()
        found = [] if overlay is None else list(overlay.toArray())
        if not self.headless:
            manager = self._jpype.JClass("ij.plugin.frame.RoiManager").getInstance2()
            found += [] if manager is None else list(manager.getRoisAsArray())
        return found


def _import_jpype() -> Any:
    try:
        import jpype
    except ImportError as error:
        raise MissingExtraError(f"JPype is not installed ({error}); pip install 'cellscribble[fiji]'") from None
    return jpype


def _start(jpype: Any, fiji: Path | None, *, headless: bool) -> None:
    fiji = fiji or find_fiji()
    root = None if fiji is None else find_plugins(fiji).parent
    jar = find_imagej_jar(root)
    if jar is None:
        raise InputError(
            "no ij.jar was found; give the folder of a Fiji or ImageJ (fiji.sc): FijiSession('/path/Fiji')"
        )
    if not headless and sys.platform == "linux" and not os.environ.get("DISPLAY"):
        raise InputError("there is no screen (DISPLAY is not set); use FijiSession(headless=True), or start xvfb-run")
    options = [f"-Djava.awt.headless={'true' if headless else 'false'}"]
    if root is not None:
        options.append(f"-Dplugins.dir={root}")
    try:
        jpype.startJVM(*options, classpath=[str(jar)])
    except (jpype.JVMNotFoundException, OSError) as error:
        raise InputError(f"Java cannot be started ({error}); install Java 11 or newer, or set JAVA_HOME") from error
