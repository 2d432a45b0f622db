"""The segmenters by name. A model names one; strings, so that asking imports none of them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cellscribble.core.errors import InputError

SEGMENTERS: dict[str, str] = {
    "classes": "cellscribble.segment.classes:segment_classes",
    "instances": "cellscribble.segment.instances:segment_instances",
}


class Segmenter(Protocol):
    """Probability (K, *spatial), background first, and settings -> labels (*spatial) uint16 or uint32."""

    def __call__(
        self, probability: npt.NDArray[np.floating[Any]], parameters: Mapping[str, Any], /
    ) -> npt.NDArray[np.unsignedinteger[Any]]: ...


def get_segmenter(name: str) -> Segmenter:
    """Import the segmenter `name`.

    Raises
    ------
    InputError
        If there is none of that name; lists those there are.
    """
    if name not in SEGMENTERS:
        raise InputError(f"there is no segmenter {name!r}; expected one of {', '.join(SEGMENTERS)}")
    module, function = SEGMENTERS[name].split(":")
    found: Segmenter = getattr(importlib.import_module(module), function)
    return found
