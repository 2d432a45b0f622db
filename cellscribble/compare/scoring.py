"""A trained method on held-out strokes and on masks, with its edge level and without."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.compare.exam import UNSEEN, Exam
from cellscribble.compare.trained import Probability, Trained
from cellscribble.core.volume import ImageVolume
from cellscribble.data.samples import Sample, Stroke, find_strokes
from cellscribble.io.label_images import read_labels
from cellscribble.metrics.scores import Scores, evaluate, is_mask
from cellscribble.train.inputs import TrainingSet
from cellscribble.train.score import score_shares, share_right

ON, OFF = "on", "off"
"""Of the edge level: decided where the image's edges are, or at 0.5 of the method's own probability."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An image of the sheet; an unseen one may have the name of one that is trained on."""

    name: str
    unseen: bool


@dataclass(frozen=True, slots=True)
class View:
    """One image that is looked at: its mask, the strokes held out of it, and whether it stands in the sheet.

    of_classes : the mask's numbers are classes, not objects
    """

    image: ImageVolume
    truth: Path | None
    strokes: Sequence[Stroke]
    shown: Shown | None
    of_classes: bool = False


@dataclass(frozen=True, slots=True)
class Marks:
    """What came out for one way to decide (`ON` or `OFF`).

    holdout : of `HoldoutScore`, plain; None where no stroke is held out
    images : scores by image name
    """

    holdout: dict[str, Any] | None
    images: dict[str, Scores]


def views_of(samples: Sequence[Sample], n_classes: int, exam: Exam, shown: Sequence[Shown]) -> Iterator[View]:
    """The images that must be looked at, each once; unseen ones are opened one after the other."""
    wanted, of_classes = {one: one for one in shown}, exam.is_of_classes(n_classes)
    for sample in samples:
        strokes, in_sheet = find_strokes(sample.held_out, n_classes), wanted.get(Shown(sample.name, False))
        truth = exam.truths[sample.name] if exam.is_scored(sample.name, unseen=False) else None
        if strokes or in_sheet or truth:
            yield View(sample.image, truth, strokes, in_sheet, of_classes)
    for name in exam.images:
        yield View(exam.open(name), exam.truths[name], (), wanted.get(Shown(name, True)), of_classes)


def score(
    trained: Trained, views: Iterator[View], n_classes: int, seed: int
) -> tuple[dict[str, Marks], dict[Shown, npt.NDArray[Any]]]:
    """Marks by edge `ON` and `OFF`, and the objects of the shown images, at the edge level."""
    shares: dict[str, list[list[float]]] = {edge: [[] for _ in range(n_classes)] for edge in (ON, OFF)}
    found: dict[str, dict[str, Scores]] = {ON: {}, OFF: {}}
    drawn: dict[Shown, npt.NDArray[Any]] = {}
    for view in views:
        raw = trained.raw(view.image)
        for edge, probability in ((ON, trained.at_edge(raw)), (OFF, raw)):
            classes = probability.argmax(axis=0).ravel()
            for stroke in view.strokes:
                shares[edge][stroke.label].append(share_right(classes[stroke.pixels], stroke))
            if view.truth is not None:
                found[edge][view.image.name] = _against_mask(trained, probability, view)
            if view.shown is not None and edge == ON:
                drawn[view.shown] = trained.labels(probability, as_classes=False)
    marks = {}
    for edge in (ON, OFF):
        # The same draws for all methods: of two with the same shares the intervals are the same.
        rng = np.random.default_rng([seed, 4])
        holdout = asdict(score_shares(shares[edge], rng)) if any(shares[edge]) else None
        marks[edge] = Marks(holdout, found[edge])
    return marks, drawn


def _against_mask(trained: Trained, probability: Probability, view: View) -> Scores:
    assert view.truth is not None
    truth, foreground = read_labels(view.truth), 1 - probability[0]
    if view.of_classes:
        return evaluate(trained.labels(probability, as_classes=True), truth, foreground, semantic=True)
    # A mask without single objects, such as one of membranes: the objects' rules have no say in it.
    pixels = is_mask(truth)
    labels = trained.labels(probability, as_classes=pixels)
    return evaluate(labels > 0 if pixels else labels, truth, foreground, semantic=pixels)


def shown_images(training_set: TrainingSet, exam: Exam, n: int = 4) -> tuple[Shown, ...]:
    """The images of the sheet: unseen ones where there are any, and training images with strokes."""
    stroked = [p.name for p in training_set.pairs if p.scribbles]
    if exam.kind != UNSEEN:
        stroked = [name for name in stroked if name in exam.truths] or stroked
        return tuple(Shown(name, False) for name in _spread(stroked, n))
    return (Shown(_spread(stroked, 1)[0], False), *(Shown(name, True) for name in _spread(list(exam.images), n - 1)))


def _spread(names: Sequence[str], n: int) -> Sequence[str]:
    return names[:: max(1, len(names) // n)][:n]
