"""The methods by name. Strings only, so that listing them imports no training stack."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellscribble.core.errors import InputError

if TYPE_CHECKING:
    from cellscribble.methods.base import Method


@dataclass(frozen=True, slots=True)
class MethodEntry:
    """Where a method lives, and what a user reads about it."""

    target: str
    summary: str
    paper: str


METHODS: dict[str, MethodEntry] = {
    "scribble2label": MethodEntry(
        "cellscribble.methods.scribble2label:Scribble2Label",
        "strokes, then confident pseudo-labels from an ensemble of the network's own predictions (default)",
        "Lee & Jeong, MICCAI 2020",
    ),
    "partial_cross_entropy": MethodEntry(
        "cellscribble.methods.partial_cross_entropy:PartialCrossEntropy",
        "strokes only: the honest baseline",
        "Tang et al., ECCV 2018",
    ),
}
DEFAULT_METHOD = "scribble2label"


def get_method(name: str) -> type[Method]:
    """Import the class of one method.

    Raises
    ------
    InputError
        If the name is unknown; the message lists all names.
    """
    if name not in METHODS:
        raise InputError(f"method {name!r} is unknown; choose one of {', '.join(METHODS)}")
    module, attribute = METHODS[name].target.split(":")
    method: type[Method] = getattr(importlib.import_module(module), attribute)
    return method
