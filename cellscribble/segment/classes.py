"""Probability -> class map: each pixel takes its most probable class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.errors import InputError


def segment_classes(
    probability: npt.NDArray[np.floating[Any]], parameters: Mapping[str, Any]
) -> npt.NDArray[np.uint16]:
    """The most probable class of each pixel; of equal ones the first, so background before cell.

    Parameters
    ----------
    probability : (K, *spatial) float, background first
    parameters : empty, this segmenter has no settings

    Returns
    -------
    (*spatial) uint16 : 0 background, 1..K-1

    Raises
    ------
    InputError
        If a setting is given.
    """
    if parameters:
        raise InputError(f"the segmenter 'classes' has no settings, but {sorted(parameters)} were given")
    return np.asarray(np.argmax(probability, axis=0), np.uint16)
