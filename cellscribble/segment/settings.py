"""Settings that stand in a model file: what is read there is checked, alike for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from cellscribble.core.errors import InputError


def check_names(values: Mapping[str, Any], settings: type[Any], title: str) -> None:
    """Raises InputError if a name is none of the dataclass `settings`; `title` is what these are called."""
    known = [field.name for field in fields(settings)]
    if unknown := sorted(set(values) - set(known)):
        raise InputError(f"unknown {title} {unknown}; expected {', '.join(known)}")


def check_number(name: str, value: Any, low: float, high: float) -> None:
    """Raises InputError unless `value` is a number from `low` to `high`."""
    # Spelled so that NaN fails too.
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(f"{name} is {value!r}; expected a number from {low:g} to {high:g}")
