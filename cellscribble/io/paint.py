"""Strokes painted in pure colours on a picture of the image.

Our convention: blue is background, red class 1, then green, yellow, magenta, cyan are classes 2 to 5.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.errors import InputError
from cellscribble.core.labels import UNLABELLED

Colour = tuple[int, int, int]

BACKGROUND_NAME = "background"
FOREGROUND_NAME = "foreground"

PAINTS = (
    ("blue", (0, 0, 255)),
    ("red", (255, 0, 0)),
    ("green", (0, 255, 0)),
    ("yellow", (255, 255, 0)),
    ("magenta", (255, 0, 255)),
    ("cyan", (0, 255, 255)),
)
"""What a person paints with: background, class 1, class 2 ..."""

_SHOWN = ((70, 145, 255), (255, 70, 60), (60, 220, 90), (255, 215, 0), (240, 85, 240), (0, 220, 230))

# Paint programs' red is (237, 28, 36), not (255, 0, 0); a stroke's soft rim is half image, half paint.
_HIGH, _LOW = 170, 80
_MIN_CHANGE = 40
_MAX_CHANGED_PART = 0.5


def class_title(index: int) -> str:
    """Name of a class that the file does not name; memory convention, 0 is background."""
    return (BACKGROUND_NAME, FOREGROUND_NAME)[index] if index < 2 else f"class {index}"


def shown_colour(index: int) -> Colour:
    """The colour a class is shown in: like its paint, but bright enough on black."""
    return _SHOWN[index % len(_SHOWN)]


def class_of_colour(rgb: Colour) -> int | None:
    """The class (memory convention) that a colour stands for, None if it is no pure colour."""
    found = int(match_paints(np.asarray(rgb, np.uint8)[None, None])[0, 0])
    return None if found == UNLABELLED else found


def match_paints(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.int16]:
    """Class of each pixel's colour, (Y, X, 3) uint8 -> (Y, X) int16, -1 where no pure colour."""
    classes = np.full(rgb.shape[:-1], UNLABELLED, np.int16)
    high, low = rgb >= _HIGH, rgb <= _LOW
    for index, (_, colour) in enumerate(PAINTS):
        wanted = np.asarray(colour) > 0
        classes[np.where(wanted, high, low).all(axis=-1)] = index
    return classes


def read_paint(painted: npt.NDArray[np.uint8], image: npt.NDArray[Any] | None, path: Any) -> npt.NDArray[np.int16]:
    """Strokes painted on a copy of the image, as (Y, X) int16 in memory convention.

    On a grey picture every pure colour is paint, whatever contrast the copy was made with. On a
    colour picture paint is what differs from the image, which is needed then.

    Parameters
    ----------
    painted : (Y, X, 3) uint8
    image : (C, Y, X), or None
    path : named in messages

    Raises
    ------
    InputError
        If the picture has colours of its own and there is no RGB image to tell them from paint, or
        most pixels differ from it.
    """
    classes = match_paints(painted)
    rest = painted[classes == UNLABELLED]
    spread = rest.max(axis=-1).astype(int) - rest.min(axis=-1) if len(rest) else np.zeros(0, int)
    # Soft rims of strokes are coloured too; they are few.
    if np.count_nonzero(spread > _MIN_CHANGE) <= 0.2 * painted[..., 0].size and not _is_colour(image):
        return classes
    if not _is_colour(image) or image is None or image.dtype != np.uint8:
        raise InputError(
            f"{path} is a colour picture, and there is no 8-bit RGB image of the same name to tell paint "
            "from tissue; save the strokes as a ROI Manager zip or as a label TIFF (0 unlabelled, "
            "1 background, 2 class)"
        )
    original = np.moveaxis(np.asarray(image), 0, -1)
    changed = (np.abs(painted.astype(np.int16) - original) > _MIN_CHANGE).any(axis=-1)
    if changed.mean() > _MAX_CHANGED_PART:
        raise InputError(
            f"{path} differs from its image in {changed.mean():.0%} of the pixels, so it is no painted copy "
            "of it; paint on a copy of the same image, without changing its contrast or size"
        )
    classes[~changed] = UNLABELLED
    return classes


def _is_colour(image: npt.NDArray[Any] | None) -> bool:
    return image is not None and image.ndim == 3 and image.shape[0] == 3
