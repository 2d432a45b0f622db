"""Damage that shows only when pixels are read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from cellscribble.core.blocks import Slices
from cellscribble.core.errors import CellScribbleError, FileFormatError
from cellscribble.core.volume import ImageVolume

READ_ERRORS = (OSError, RuntimeError, ValueError)
"""What codecs of lazy files raise when they meet damage, long after opening."""


@contextmanager
def reading(image: ImageVolume, window: Slices | None = None) -> Iterator[None]:
    """Turn what codecs say of damage in `image`, when it is read, into a FileFormatError that names it.

    window : (*spatial) what is read, if not all; it may pass the image's ends
    """
    try:
        yield
    except CellScribbleError:
        raise
    except READ_ERRORS as error:
        if isinstance(image.data, np.ndarray):
            raise
        ends = zip(image.axes[1:].lower(), window or (), image.spatial_shape, strict=window is not None)
        where = ", ".join(f"{axis} {max(s.start, 0)} to {min(s.stop, n)}" for axis, s, n in ends) or "to its end"
        raise FileFormatError(f"image {image.name!r} cannot be read {where} ({error}); copy it again") from error
