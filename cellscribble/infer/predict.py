"""`predict`: one image, one model, one answer. The command line and users call the same function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.bundle import Model
from cellscribble.core.errors import InputError
from cellscribble.core.volume import ImageVolume
from cellscribble.infer.blockwise import Progress, predict_probability
from cellscribble.infer.cut import block_cut, cut_blocks
from cellscribble.infer.fit import check_fit
from cellscribble.infer.resample import close_gaps, missing, resample_image, resample_labels, resample_probability
from cellscribble.infer.runner import Runner
from cellscribble.segment.doubt import doubt, unlike
from cellscribble.segment.instances import object_classes
from cellscribble.segment.registry import get_segmenter

CLASSES = "classes"
"""The segmenter that gives class numbers."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says of one image, on the image's own grid.

    Parameters
    ----------
    name : the image's name
    probability : (K, *spatial) float32, sums to 1, background first
    labels : (*spatial) uint16 or uint32, 0 background; object numbers 1..n, or class numbers
    segmenter, segmenter_parameters : what made the labels
    classes : K names, background first
    object_classes : (n,) int64, the class 1..K-1 of objects 1..n; None where `labels` are classes
        already, or there is one class only
    pixel_size_um : the image's
    provider : the ONNX Runtime provider that ran
    notes : what a user should know, one sentence each
    unlike : whether the image is unlike those that the model learnt from; then a note says so
    """

    name: str
    probability: npt.NDArray[np.float32]
    labels: npt.NDArray[np.integer]
    segmenter: str
    segmenter_parameters: dict[str, Any]
    classes: tuple[str, ...]
    object_classes: npt.NDArray[np.int64] | None
    pixel_size_um: tuple[float, ...] | None
    provider: str
    notes: tuple[str, ...] = ()
    unlike: bool = False

    @property
    def as_classes(self) -> bool:
        """Whether `labels` are class numbers instead of object numbers."""
        return self.segmenter == CLASSES

    @property
    def n_objects(self) -> int:
        """Number of objects; 0 where `labels` are classes."""
        return 0 if self.as_classes else int(self.labels.max(initial=0))


def predict(
    image: ImageVolume,
    model: Model,
    *,
    as_classes: bool = False,
    threshold: float | None = None,
    block_px: Sequence[int] | None = None,
    device: str = "auto",
    rescale: bool = False,
    ignore_pixel_size: bool = False,
    planes: bool = False,
    runner: Runner | None = None,
    progress: Progress | None = None,
) -> Prediction:
    """Segment one image.

    Parameters
    ----------
    as_classes : labels are class numbers instead of objects
    threshold : decide at this probability (0..1) instead of the model's own; objects only
    block_px : size of a block, px; changes memory and speed, not the result
    device : {"auto", "cpu", "cuda"}; not used when `runner` is given
    rescale : resample the image to the model's pixel size, and the answer back
    ignore_pixel_size : go on although pixel sizes differ
    planes : put a 2D model to each plane of a stack, and join the objects in 3D
    runner : a loaded `model`, to segment many images with one session
    progress : called with (blocks done, blocks in all)

    Raises
    ------
    ModelError
        If the image does not fit the model, or the network cannot be run.
    InputError
        If options contradict each other, or the image holds NaN or is constant.
    """
    fit = check_fit(image, model.metadata, rescale=rescale, ignore_pixel_size=ignore_pixel_size, planes=planes)
    runner = (runner or Runner(model, device)).seen_as(fit.metadata)
    model, meta = replace(model, metadata=fit.metadata), fit.metadata
    name, parameters = segmenter_of(model, as_classes=as_classes, threshold=threshold)
    segment, cut = get_segmenter(name), block_cut(meta)
    seen = image if fit.shape is None else resample_image(image, fit.shape)
    probability = predict_probability(seen, model, runner, block_px, progress)
    said = unlike(doubt(probability), meta.usual_doubt)
    decided = probability if cut is None else cut_blocks(seen, probability, meta, cut, block_px)
    labels: npt.NDArray[np.integer] = segment(decided, parameters)
    several = name != CLASSES and len(meta.classes) > 2
    of_object = object_classes(labels, decided, parameters) if several else None
    if fit.shape is not None:
        n, shape = int(labels.max(initial=0)), image.spatial_shape
        labels = resample_labels(labels.__getitem__, fit.shape, shape, tuple(slice(0, length) for length in shape))
        if name != CLASSES:
            # Small ones can fall between the centres of two pixels.
            lost = missing(n, [labels])
            labels = close_gaps(labels, lost, n)
            of_object = None if of_object is None else np.delete(of_object, lost - 1)
        probability = resample_probability(probability, shape)
    return Prediction(
        name=image.name,
        probability=probability,
        labels=labels,
        segmenter=name,
        segmenter_parameters=parameters,
        classes=meta.classes,
        object_classes=of_object,
        pixel_size_um=image.pixel_size_um,
        provider=runner.provider,
        notes=(*fit.notes, *((runner.note,) if runner.note else ()), *((said,) if said else ())),
        unlike=bool(said),
    )


def segmenter_of(model: Model, *, as_classes: bool, threshold: float | None) -> tuple[str, dict[str, Any]]:
    """Name and settings of the segmenter that these options mean.

    Raises
    ------
    InputError
        If the threshold is no probability, or was given for classes or a graph cut.
    """
    meta = model.metadata
    name = CLASSES if as_classes else meta.segmenter
    parameters = dict(meta.segmenter_parameters) if name == meta.segmenter else {}
    if threshold is None:
        return name, parameters
    if name == CLASSES:
        raise InputError("--threshold does not apply to classes, where the most probable one wins; leave it out")
    if meta.graph_cut is not None:
        raise InputError(
            "--threshold does not apply to a model that decides by a graph cut; leave it out, or adapt the model "
            "with --no-graph-cut"
        )
    if not 0 < threshold < 1:
        raise InputError(f"--threshold is {threshold}; expected a probability between 0 and 1, such as 0.5")
    return name, parameters | {"threshold": threshold}
