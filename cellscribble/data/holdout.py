"""Keeping whole strokes back, to score a model where nobody has masks.

Pixels of one stroke are alike, so single held-out pixels would flatter the model; whole strokes do
not. Strokes near one another are alike too: they are taken in spatial blocks, a cell of a coarse
grid at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cellscribble.core.labels import UNLABELLED
from cellscribble.data.samples import Sample, Stroke, find_strokes

MIN_STROKES_A_CLASS = 8
"""Below this many strokes of a class in all images nothing is held back: each one counts more for
learning than for scoring."""
MAX_HELD_A_CLASS = 80
"""More would take learning from the strokes and time from the run, and hardly narrow the interval."""
GRID = 4
"""Cells of the blocking grid along each of the last two axes."""


@dataclass(frozen=True, slots=True)
class Holdout:
    """How many strokes were kept back of how many, a class each; `reason` if none."""

    n_held: tuple[int, ...]
    n_total: tuple[int, ...]
    reason: str = ""


def hold_out_strokes(samples: Sequence[Sample], n_classes: int, share: float, rng: np.random.Generator) -> Holdout:
    """Move about `share` of the strokes of every class from `scribbles` to `held_out`, in place.

    Where there is a dense mask it is blank under them.

    Returns what was done. Nothing moves, and the reason says so, if a class has too few strokes
    or `share` is 0.
    """
    strokes = [(s, stroke) for s in samples for stroke in find_strokes(s.scribbles, n_classes)]
    totals = np.bincount([stroke.label for _, stroke in strokes], minlength=n_classes)
    none = (0,) * n_classes
    total = tuple(int(n) for n in totals)
    if share <= 0:
        return Holdout(none, total, "hold-out was switched off")
    if totals.min() < MIN_STROKES_A_CLASS:
        return Holdout(
            none,
            total,
            f"a class has only {int(totals.min())} strokes; from {MIN_STROKES_A_CLASS} in every class on, "
            "some are kept back to score the model",
        )
    held = np.zeros(n_classes, int)
    for label in range(n_classes):
        groups = _spatial_groups([(s, k) for s, k in strokes if k.label == label])
        # At least half stays: a model that has learnt nothing of a class needs no score.
        budget = min(max(2, round(share * totals[label])), totals[label] // 2, MAX_HELD_A_CLASS)
        for index in rng.permutation(len(groups)):
            group = groups[index]
            # A group too large for what is left would take most strokes of a single-image user.
            if held[label] + len(group) > budget + 1 and held[label] > 0:
                continue
            for sample, stroke in group[: max(1, budget - held[label])]:
                _move(sample, stroke)
                held[label] += 1
            if held[label] >= budget:
                break
    return Holdout(tuple(int(n) for n in held), total)


def _spatial_groups(strokes: list[tuple[Sample, Stroke]]) -> list[list[tuple[Sample, Stroke]]]:
    groups: dict[tuple[int, ...], list[tuple[Sample, Stroke]]] = defaultdict(list)
    for sample, stroke in strokes:
        shape = sample.scribbles.shape
        centre = np.median(np.unravel_index(stroke.pixels, shape), axis=1)
        cell = (centre[-2:] * GRID // np.array(shape[-2:])).astype(int)
        groups[(id(sample), *cell)].append((sample, stroke))
    return list(groups.values())


def _move(sample: Sample, stroke: Stroke) -> None:
    sample.held_out.reshape(-1)[stroke.pixels] = stroke.label
    sample.scribbles.reshape(-1)[stroke.pixels] = UNLABELLED
    if sample.mask is not None:
        sample.mask.reshape(-1)[stroke.pixels] = UNLABELLED
