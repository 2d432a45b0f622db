"""The images with masks on which all methods are scored: read and checked before any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cellscribble.core.errors import InputError
from cellscribble.core.hashes import sha256_of
from cellscribble.core.volume import ImageVolume
from cellscribble.io.images import open_image
from cellscribble.io.label_images import read_labels
from cellscribble.metrics.pairs import Pair, find_pairs
from cellscribble.train.inputs import TrainingSet

NOTHING, TRAINED_ON, UNSEEN = "", "trained on", "unseen"
"""What the images of an exam are to the methods."""


@dataclass(frozen=True, slots=True)
class Exam:
    """Images with masks.

    kind : `UNSEEN`, or `TRAINED_ON` for the masks of images whose strokes were learnt from, or `NOTHING`
    truths : the mask file of each image, by the image's name
    images : the file of each unseen image; training images are in memory
    hashes : sha256 of their pixels: a result belongs to these
    without : unseen images that have no mask, and masks that have no image, in words
    reading : how unseen images are read (`TrainConfig.reading`)
    largest : the largest number in any mask
    """

    kind: str = NOTHING
    truths: dict[str, Path] = field(default_factory=dict)
    images: dict[str, Path] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    reading: Mapping[str, Any] = field(default_factory=dict)
    largest: int = 0

    def is_of_classes(self, n_classes: int) -> bool:
        """Whether the masks' numbers are classes: where there are several and all numbers are some, as in training."""
        return n_classes > 2 and 0 < self.largest < n_classes

    def is_scored(self, name: str, unseen: bool) -> bool:
        """Whether this image, of the unseen ones or of those trained on, has a mask here."""
        return unseen == (self.kind == UNSEEN) and name in self.truths

    def open(self, name: str) -> ImageVolume:
        """An unseen image, in memory."""
        image = open_image(self.images[name], **self.reading)
        return image.with_data(np.asarray(image.data))


def exam_on_training_images(training_set: TrainingSet, images: Path, labels: Path) -> Exam:
    """The masks of those training images that have one.

    Raises
    ------
    InputError
        If none has, or a mask is of another size than its image.
    """
    known = {pair.name: pair.image for pair in training_set.pairs}
    pairs = [pair for pair in _pairs(images, labels) if pair.name in known]
    hashes, largest = {}, 0
    for pair in pairs:
        hashes[f"{pair.name} (mask)"], number = _checked_mask(pair, known[pair.name])
        largest = max(largest, number)
    return Exam(TRAINED_ON, {p.name: p.truth for p in pairs}, hashes=hashes, largest=largest)


def exam_on_unseen_images(training_set: TrainingSet, images: Path, labels: Path, **reading: Any) -> Exam:
    """Images that no method trains on, with their masks; `reading` as in `Exam`.

    Raises
    ------
    InputError
        If there is no pair, an image is of another kind than those trained on, or is one of them, or
        a mask is of another size than its image.
    """
    _, unpaired = find_pairs(images, labels)
    pairs = _pairs(images, labels)
    files = {p.name: p.prediction for p in pairs}
    exam = Exam(UNSEEN, {p.name: p.truth for p in pairs}, files, without=tuple(unpaired.values()), reading=reading)
    largest = 0
    first, seen = training_set.pairs[0].image, set(training_set.hashes.values())
    for pair in pairs:
        image = exam.open(pair.name)
        if (image.n_channels, image.axes, image.is_rgb) != (first.n_channels, first.axes, first.is_rgb):
            raise InputError(
                f"{pair.prediction} is {image.axes} with {image.n_channels} channels, but images to train on are "
                f"{first.axes} with {first.n_channels}; score on images of the kind that is trained on"
            )
        exam.hashes[pair.name] = sha256_of(image.data)
        exam.hashes[f"{pair.name} (mask)"], number = _checked_mask(pair, image)
        largest = max(largest, number)
        if exam.hashes[pair.name] in seen:
            raise InputError(
                f"{pair.prediction} is one of the images to train on, so it is not unseen; take it out of one folder"
            )
    return replace(exam, largest=largest)


def _pairs(images: Path, labels: Path) -> Sequence[Pair]:
    pairs, _ = find_pairs(images, labels)
    if not pairs:
        raise InputError(f"no image of {images} has a mask in {labels}; save each mask under its image's name")
    return pairs


def _checked_mask(pair: Pair, image: ImageVolume) -> tuple[str, int]:
    """The hash of a mask, and its largest number."""
    mask = read_labels(pair.truth)
    if mask.shape != image.spatial_shape:
        raise InputError(
            f"{pair.truth} is {mask.shape} px but its image is {image.spatial_shape} px; give masks of the same images"
        )
    return sha256_of(mask), int(mask.max(initial=0))
