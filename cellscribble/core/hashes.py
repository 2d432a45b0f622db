"""What names an image by its pixels, whatever its file is called."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt


def sha256_of(data: npt.NDArray[np.generic]) -> str:
    """Of the pixels, in the order of the array."""
    return hashlib.sha256(np.ascontiguousarray(data).tobytes()).hexdigest()
