"""What is to be done with one large image, and what is decided about it at the start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cellscribble.bundle import Model, ModelMetadata
from cellscribble.core.intensity import fit_intensity
from cellscribble.core.reading import READ_ERRORS, reading
from cellscribble.core.volume import ImageVolume
from cellscribble.engine.glance import open_below
from cellscribble.engine.options import PredictOptions
from cellscribble.infer.predict import CLASSES, segmenter_of
from cellscribble.infer.resample import seen_as
from cellscribble.io.remote import is_url
from cellscribble.segment.parameters import InstanceParameters


@dataclass(frozen=True, slots=True)
class Task:
    """One image to segment.

    settings : of the objects; None where the labels are classes
    probability, uncertainty : whether they are kept
    skip_empty : whether empty blocks are spared the network
    skip_damaged : whether blocks that cannot be read are left out instead of ending the run
    version : of OME-Zarr that is written
    source : path from the labels to their image, where they become part of it
    shape : spatial shape in which the network sees the image; None for its own (`Fit.shape`)
    far : each piece of the image comes over a network, and is waited for
    open_level : opens a coarser level of the image, so many below it, if there is one
    """

    image: ImageVolume
    settings: InstanceParameters | None
    probability: bool = False
    skip_empty: bool = True
    skip_damaged: bool = False
    version: str = "0.4"
    uncertainty: bool = False
    source: str = ""
    shape: tuple[int, ...] | None = None
    far: bool = False
    open_level: Callable[[int], ImageVolume | None] = lambda below: None

    @property
    def seen(self) -> ImageVolume:
        """The image as the network sees it."""
        return self.image if self.shape is None else seen_as(self.image, self.shape)


def task_of(
    path: Path | str,
    image: ImageVolume,
    model: Model,
    options: PredictOptions,
    version: str,
    source: str = "",
    shape: tuple[int, ...] | None = None,
) -> Task:
    """What these options ask of the image at `path`; `version`, `source` and `shape` as in `Task`.

    Raises
    ------
    InputError
        As `segmenter_of`.
    """
    name, parameters = segmenter_of(model, as_classes=options.as_classes, threshold=options.threshold)
    return Task(
        image,
        None if name == CLASSES else InstanceParameters.from_dict(parameters),
        probability=options.probability,
        skip_empty=options.skip_empty,
        skip_damaged=options.on_error == "skip",
        version=version,
        uncertainty=options.uncertainty,
        source=source,
        shape=shape,
        far=is_url(path) and not isinstance(image.data, np.ndarray),
        open_level=partial(open_below, path, options=options),
    )


def facts_of(task: Task, meta: ModelMetadata, block_px: Sequence[int]) -> dict[str, Any]:
    """What is decided once for an image and kept when the run is resumed: block size, as planned, and intensity.

    Raises
    ------
    InputError, FileFormatError
        As `predict_probability`.
    """
    with reading(task.image):
        intensity = fit_intensity(task.seen, meta.intensity, READ_ERRORS if task.skip_damaged else ())
    return {
        "block_px": list(block_px),
        "low": list(intensity.low),
        "high": list(intensity.high),
    }
