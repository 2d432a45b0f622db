"""One method after training, seen from outside: an image goes in, a probability comes out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cellscribble.baselines.registry import get_baseline
from cellscribble.bundle import open_model
from cellscribble.config import TrainConfig
from cellscribble.core.intensity import fit_intensity
from cellscribble.core.volume import ImageVolume
from cellscribble.export.onnx import export
from cellscribble.infer.blockwise import predict_probability
from cellscribble.infer.runner import Runner
from cellscribble.methods.registry import get_method
from cellscribble.segment.edge_level import shift_to_edge
from cellscribble.segment.registry import get_segmenter
from cellscribble.train.calibrate import calibrate
from cellscribble.train.checkpoint import LAST, load_state
from cellscribble.train.inputs import TrainingSet
from cellscribble.train.run import Reporter, split_samples, train

Probability = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Trained:
    """What a method learnt.

    raw : image -> probability (K, *spatial) as the method gives it, before the edge level
    edge_level : raw probability of foreground at the image's edges
    segmenter, segmenter_parameters : from probability to objects; fitted on the strokes at the edge level
    """

    raw: Callable[[ImageVolume], Probability]
    edge_level: float
    segmenter: str
    segmenter_parameters: Mapping[str, Any]

    def at_edge(self, raw: Probability) -> Probability:
        """Moved so that the edge level is 0.5."""
        return shift_to_edge(raw, self.edge_level)

    def labels(self, probability: Probability, *, as_classes: bool) -> npt.NDArray[np.unsignedinteger[Any]]:
        """Objects, decided at 0.5 of the given probability; or class numbers."""
        name = "classes" if as_classes else self.segmenter
        return get_segmenter(name)(probability, {} if as_classes else self.segmenter_parameters)


def train_network(training_set: TrainingSet, config: TrainConfig, run: Path, model: Path, reporter: Reporter) -> float:
    """Train into the folder `run`, or go on with what is there, and write `model`; the seconds it took.

    Raises
    ------
    KeyboardInterrupt
        If it was stopped by Ctrl-C; the run can be gone on with.
    CellScribbleError
        As `train.run.train` and `export.onnx.export`.
    """
    data = training_set if get_method(config.method).needs_masks else training_set.without_masks()
    began, resume = time.monotonic(), (run / LAST).exists()
    before_s = float(load_state(run / LAST, torch.device("cpu"))[1]["elapsed_s"]) if resume else 0.0
    if train(data, config, run, reporter, resume=resume).interrupted:
        raise KeyboardInterrupt
    export(run, model, overwrite=True, tell=reporter.part)
    return before_s + time.monotonic() - began


def open_network(path: Path, device: str) -> Trained:
    """A model file, for images of any pixel size: training does not look at it either."""
    model = open_model(path)
    # On "cuda" training needs CUDA; scoring takes it where ONNX Runtime can.
    runner = Runner(model, "cpu" if device == "cpu" else "auto")
    facts = model.metadata
    level = 0.5 if facts.edge_threshold is None else facts.edge_threshold

    def raw(image: ImageVolume) -> Probability:
        # The model's own 0.5 is the edge level; this takes it back.
        return shift_to_edge(predict_probability(image, model, runner), 1 - level)

    return Trained(raw, level, facts.segmenter, facts.segmenter_parameters)


def train_baseline(training_set: TrainingSet, config: TrainConfig) -> tuple[Trained, float]:
    """What users have today, from the same strokes and calibrated in the same way; and the seconds it took.

    config : of which method, seed and holdout_share count

    Raises
    ------
    CellScribbleError
        If a package is missing, or the strokes do not fit it.
    """
    began = time.monotonic()
    n_classes = len(training_set.classes)
    samples, _ = split_samples(training_set.without_masks(), config)
    classify = get_baseline(config.method)(samples, n_classes, config.seed)
    rng = np.random.default_rng([config.seed, 3])
    found = calibrate(samples, lambda sample: classify(sample.normalised()), rng)

    def raw(image: ImageVolume) -> Probability:
        data = image.with_data(np.asarray(image.data))
        return classify(fit_intensity(data, training_set.rule).apply(data.data))

    trained = Trained(raw, found.edge_level, "instances", found.segmenter_parameters)
    return trained, time.monotonic() - began
