"""Reading label images: one channel of whole numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.errors import InputError
from cellscribble.core.reading import reading
from cellscribble.core.volume import ImageVolume
from cellscribble.io.images import open_image


def open_labels(path: Path) -> ImageVolume:
    """The label image at `path`, lazy where it is large.

    Raises
    ------
    InputError
        If it has several channels.
    """
    image = open_image(path)
    if image.n_channels != 1:
        raise InputError(
            f"{path} has {image.n_channels} channels; a label image has one number a pixel "
            "(a coloured picture of labels has none, save the labels themselves)"
        )
    return image


def read_labels(path: Path) -> npt.NDArray[Any]:
    """A label file as (*spatial) int; whole numbers stored as float (Fiji's 32-bit) are taken.

    Raises
    ------
    InputError
        If it has several channels, or holds fractions or negative numbers.
    """
    image = open_labels(path)
    with reading(image):
        return whole_numbers(np.asarray(image.data[0]), path)


def whole_numbers(values: npt.NDArray[Any], path: Any) -> npt.NDArray[Any]:
    """Labels as integers, also where they are stored as float.

    Raises
    ------
    InputError
        If there are fractions or negative numbers.
    """
    if values.dtype.kind == "f":
        if not (np.isfinite(values).all() and bool((values == np.rint(values)).all())):
            raise InputError(f"{path} holds fractions; expected a label image, one whole number an object")
        values = values.astype(np.int64)
    if values.dtype.kind == "i" and values.size and int(values.min()) < 0:
        raise InputError(
            f"{path} goes down to {int(values.min())}; expected 0 for background and 1 and up for objects"
        )
    return values
