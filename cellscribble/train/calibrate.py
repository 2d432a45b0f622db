"""After training: where the edge is, and how objects are told apart. No mask is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.labels import UNLABELLED
from cellscribble.core.progress import Work
from cellscribble.data.samples import Sample, first_that_fit
from cellscribble.methods.base import Predict
from cellscribble.segment.doubt import doubt, usual_doubt
from cellscribble.segment.edge_level import EdgeEvidence, shift_to_edge
from cellscribble.segment.fit import N_TRIES, fit_instance_parameters

MAX_PIXELS = 8_000_000
"""Enough contour for a stable level; predicting more would only cost time."""
MAX_FIT_PIXELS = 2_000_000
"""The same for the instance parameters, which take about a second a megapixel."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What goes into the head and the segmenter.

    edge_level : raw foreground probability at the image's edges, see `segment.edge_level`
    edge_gain : how much steeper the image is there than at 0.5
    segmenter_parameters : of the instance segmenter, chosen on strokes
    usual_doubt : how unsure the network is of the training images, see `segment.doubt`
    report : figures for the run folder
    """

    edge_level: float
    edge_gain: float
    segmenter_parameters: dict[str, Any]
    usual_doubt: tuple[float, float] | None
    report: dict[str, Any]


def calibrate(
    samples: Sequence[Sample], predict: Predict, rng: np.random.Generator, work: Work | None = None
) -> Calibration:
    """Measure edge level and instance parameters on the training images and their strokes.

    work : told how far each of the three parts is; of the predictions by `predict` itself
    """
    chosen, work = _choose(samples, rng, MAX_PIXELS), work or Work()
    with work.part("predicting the training images", _n_pixels(chosen)):
        predictions = [predict(sample) for sample in chosen]
    found = [(s, p, all_strokes(s)) for s, p in zip(chosen, predictions, strict=True)]
    evidence = EdgeEvidence()
    with work.part("finding the edges", _n_pixels(chosen)):
        for sample, probability, drawn in found:
            evidence.add(sample.normalised(), probability, drawn)
            work.done(drawn.size)
    edge = evidence.level()
    kept = {id(sample) for sample in _choose(chosen, rng, MAX_FIT_PIXELS)}
    doubts, shifted, strokes = [], [], []
    for sample, probability, drawn in found:
        at_edge = shift_to_edge(probability, edge.level)
        doubts.append(doubt(at_edge))
        if id(sample) in kept:
            shifted.append(at_edge)
            strokes.append(drawn)
    usual = usual_doubt(doubts)
    with work.part("telling objects apart", N_TRIES * len(shifted)):
        parameters, report = fit_instance_parameters(shifted, strokes, spacing=_spacing(chosen[0]), done=work.done)
    report = {"edge": asdict(edge), "instances": report, "usual_doubt": usual}
    return Calibration(edge.level, edge.gain, parameters.to_dict(), usual, report)


def all_strokes(sample: Sample) -> npt.NDArray[np.int16]:
    """Learnt and held-out strokes together, (*spatial) int16."""
    return np.where(sample.scribbles == UNLABELLED, sample.held_out, sample.scribbles)


def _n_pixels(samples: Sequence[Sample]) -> int:
    return sum(sample.scribbles.size for sample in samples)


def _spacing(sample: Sample) -> tuple[float, ...] | None:
    """As the segmenter takes it: None where pixels are as long as they are wide, within a hundredth."""
    spacing = tuple(round(apart, 2) for apart in sample.image.spacing)
    return None if set(spacing) == {1.0} else spacing


def _choose(samples: Sequence[Sample], rng: np.random.Generator, max_pixels: int) -> list[Sample]:
    """Images with strokes first, in random order, up to `max_pixels`; at least one."""
    order = sorted(rng.permutation(len(samples)), key=lambda i: not (all_strokes(samples[i]) >= 0).any())
    return [samples[i] for i in first_that_fit(order, [s.scribbles.size for s in samples], max_pixels)]
