"""The scribble convention. This module alone knows both forms.

In a file      0 unlabelled, 1 background, 2 first class, 3 second class ...
In memory     -1 unlabelled, 0 background, 1 first class, 2 second class ...
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cellscribble.core.errors import InputError

UNLABELLED = -1
BACKGROUND = 0

MAX_CLASSES = 254
"""Classes with background; a uint8 file holds 0..255."""


def from_file(values: npt.NDArray[np.integer]) -> npt.NDArray[np.int16]:
    """Turn file values (*spatial) into memory values (*spatial) int16.

    Raises
    ------
    InputError
        If a value is negative or above 255: that is a label image or a picture, not scribbles.
    """
    if values.size and (int(values.min()) < 0 or int(values.max()) > MAX_CLASSES + 1):
        raise InputError(
            f"scribble values run from {int(values.min())} to {int(values.max())}; expected "
            "0 unlabelled, 1 background, 2 and up for the classes (at most 255)"
        )
    return values.astype(np.int16) - 1


def to_file(scribbles: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    """Turn memory values (*spatial) into file values (*spatial) uint8."""
    if scribbles.size and (int(scribbles.min()) < UNLABELLED or int(scribbles.max()) >= MAX_CLASSES):
        raise InputError(
            f"scribbles in memory run from {int(scribbles.min())} to {int(scribbles.max())}; "
            f"expected -1 unlabelled, 0 background, 1..{MAX_CLASSES - 1} classes"
        )
    return (scribbles + 1).astype(np.uint8)


def label_dtype(n_objects: int) -> type[np.uint16] | type[np.uint32]:
    """uint16 up to 65,535 objects, uint32 above. Never a silent wrap.

    Raises
    ------
    InputError
        Above 4,294,967,295 objects.
    """
    if n_objects > np.iinfo(np.uint32).max:
        raise InputError(f"{n_objects} objects do not fit into uint32; split the image")
    return np.uint16 if n_objects <= np.iinfo(np.uint16).max else np.uint32
