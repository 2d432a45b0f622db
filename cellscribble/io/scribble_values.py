"""What the numbers of a scribble image mean: ours, Scribble2Label's, or nnU-Net's."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cellscribble.core.errors import InputError
from cellscribble.core.labels import from_file

_UNKNOWN = (250, 255)
_SURELY_OBJECTS = 20
_PERHAPS_OBJECTS = 8


def read_values(values: npt.NDArray[Any], path: Any) -> tuple[npt.NDArray[np.int16], str]:
    """File numbers (*spatial) as (*spatial) int16 in memory convention, and how they were read.

    ==========================  ==========================================================
    0, 1, 2 ...                 0 unlabelled, 1 background, 2 and up classes (ours, Fiji, ilastik)
    0, 1 ... and 250 or 255     250 or 255 unlabelled, 0 background, 1 and up (Scribble2Label, nnU-Net)
    -1, 0, 1 ...                -1 unlabelled, 0 background, 1 and up (StarDist)
    ==========================  ==========================================================

    Raises
    ------
    InputError
        If the numbers are those of a mask, of a label image with one number an object, or of a picture.
    """
    if values.dtype.kind == "b":
        values = values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind == "f":
        if not bool((values == np.rint(values)).all()):
            raise InputError(f"{path} holds fractions; scribbles are whole numbers: {_EXPECTED}")
        values = values.astype(np.int64)
    present = np.unique(values)
    if present.tolist() in ([0, 255], [255]):
        raise InputError(
            f"{path} is a mask of 0 and 255, which says one class only; save one file a class, "
            f"<image>_bg.png and <image>_fg.png, or numbers: {_EXPECTED}"
        )
    if present[0] == -1 and present[-1] < _SURELY_OBJECTS:
        return values.astype(np.int16), "numbers with -1 unlabelled, 0 background, 1 and up classes"
    unknown = int(present[-1])
    if unknown in _UNKNOWN and (len(present) == 1 or present[-2] < _SURELY_OBJECTS):
        data = values.astype(np.int16)
        data[values == unknown] = -1
        return data, f"numbers with {unknown} unlabelled, 0 background, 1 and up classes (Scribble2Label)"
    _refuse_objects(values, present, path)
    return from_file(values), "numbers with 0 unlabelled, 1 background, 2 and up classes"


_EXPECTED = "0 unlabelled, 1 background, 2 and up classes"


def _refuse_objects(values: npt.NDArray[Any], present: npt.NDArray[Any], path: Any) -> None:
    objects = present[present > 0]
    n = len(objects)
    if n <= _PERHAPS_OBJECTS:
        many = n > 0 and int(objects[-1]) > 255
    elif n <= _SURELY_OBJECTS:
        # Many numbers, each on one piece: objects. Strokes of one class are mostly several pieces.
        many = all(ndimage.label(values == one)[1] == 1 for one in objects)
    else:
        many = True
    if present[0] < 0 or (n > 200 and values.dtype == np.uint8 and np.count_nonzero(values) > values.size // 2):
        raise InputError(
            f"{path} looks like a picture (values {present[0]} to {present[-1]}), not scribbles; expected {_EXPECTED}"
        )
    if many:
        raise InputError(
            f"{path} looks like a label image with {n} objects, not scribbles ({_EXPECTED}); make strokes "
            "from it with `cellscribble simulate`, or train on whole masks (train --method full_supervision --labels)"
        )
