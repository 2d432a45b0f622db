"""What users have today, by name: to compare with, not to train. Strings only, as in `methods.registry`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from cellscribble.core.errors import InputError
from cellscribble.methods.registry import MethodEntry

if TYPE_CHECKING:
    from cellscribble.baselines.base import Learn

BASELINES: dict[str, MethodEntry] = {
    "otsu": MethodEntry(
        "cellscribble.baselines.otsu:learn_otsu",
        "Otsu's threshold, image by image; strokes say only whether cells are bright or dark",
        "Otsu, IEEE Trans. SMC 1979",
    ),
    "random_forest": MethodEntry(
        "cellscribble.baselines.random_forest:learn_random_forest",
        "a random forest on multi-scale features of each pixel, as in ilastik, Labkit and Weka",
        "Berg et al., Nature Methods 2019",
    ),
}


def get_baseline(name: str) -> Learn:
    """Import one of them.

    Raises
    ------
    InputError
        If the name is unknown.
    """
    if name not in BASELINES:
        raise InputError(f"there is no baseline {name!r}; choose one of {', '.join(BASELINES)}")
    module, attribute = BASELINES[name].target.split(":")
    learn: Learn = getattr(importlib.import_module(module), attribute)
    return learn
