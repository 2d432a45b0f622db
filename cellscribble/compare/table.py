"""The mean over seeds of each method, for people to read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any


@dataclass(frozen=True, slots=True)
class Spread:
    """A mean over seeds and its standard deviation; that is NaN for one seed."""

    mean: float
    deviation: float
    n: int

    def text(self) -> str:
        """ ".831", ".831 ±.004", or "-" where there is nothing."""
        if not self.n:
            return "-"
        return _short(self.mean) + (f" ±{_short(self.deviation)}" if self.n > 1 else "")


def over_seeds(rows: Iterable[Mapping[str, Any]], keys: Sequence[str]) -> dict[tuple[Any, ...], dict[str, Spread]]:
    """Mean and spread of every numeric column, over the rows that agree in `keys`; in the order they come."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return {group: {name: spread([r[name] for r in found]) for name in found[0]} for group, found in groups.items()}


def spread(values: Iterable[Any]) -> Spread:
    """Of the numbers among `values`; text and NaN are left out."""
    numbers = [float(v) for v in values if isinstance(v, int | float) and not math.isnan(v)]
    if not numbers:
        return Spread(math.nan, math.nan, 0)
    return Spread(fmean(numbers), stdev(numbers) if len(numbers) > 1 else math.nan, len(numbers))


def _short(value: float) -> str:
    text = f"{value:.3f}"
    return text.removeprefix("0") if text.startswith("0.") else text
