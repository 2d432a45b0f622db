"""A training set in memory and one run on it, small enough for a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from cellscribble.config import TrainConfig
from cellscribble.data.holdout import hold_out_strokes
from cellscribble.io.strokes import number_classes
from cellscribble.train.inputs import Pair, TrainingSet, samples_of
from cellscribble.train.loop import Fit, Tick
from cellscribble.train.plan import crops_in, epochs_schedule
from cellscribble.train.run import _make_fit
from cellscribble.train.start import choose_device, make_method
from tests.conftest import Example, make_disks


def training_set(*examples: Example) -> TrainingSet:
    examples = examples or (make_disks(0), make_disks(1))
    pairs = tuple(
        Pair(e.image, number_classes(e.scribbles.copy(), "drawn") if (e.scribbles >= 0).any() else None)
        for e in examples
    )
    return TrainingSet(pairs, ("background", "cell"), ((0, 0, 0), (255, 0, 0)), (), {})


class Quiet:
    """A reporter that keeps what it hears; asks the run to stop after `stop_after` steps, or words of parts."""

    def __init__(self, stop_after: int | None = None, stop_after_parts: int | None = None) -> None:
        self.said: list[str] = []
        self.ticks: list[Tick] = []
        self.parts: list[tuple[str, float, float]] = []
        self.fit: Fit | None = None
        self.stop_after, self.stop_after_parts = stop_after, stop_after_parts

    def say(self, text: str) -> None:
        self.said.append(text)

    def part(self, what: str, done: float, total: float) -> None:
        self.parts.append((what, done, total))
        if len(self.parts) == self.stop_after_parts and self.fit is not None:
            self.fit.ask_to_stop()

    def tick(self, tick: Tick) -> None:
        self.ticks.append(tick)
        if self.stop_after is not None and len(self.ticks) == self.stop_after and self.fit is not None:
            self.fit.ask_to_stop()


def make_fit(config: TrainConfig, folder: Path, reporter: Quiet, data: TrainingSet | None = None) -> Fit:
    """What `train` builds before its loop, for a plan in epochs."""
    data = data or training_set()
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    samples = samples_of(data)
    method = make_method(config, len(data.classes))
    hold_out_strokes(samples, len(data.classes), config.holdout_share, np.random.default_rng([config.seed, 1]))
    fit = _make_fit(data, config, folder, reporter, samples, method, choose_device(config.device))
    method.prepare(samples)
    n_crops = crops_in([s.scribbles.shape for s in samples], fit.source.patch_px)
    fit.schedule = epochs_schedule(config, n_crops, method.two_stages, method.n_refreshes(), method.most_passes())
    reporter.fit = fit
    return fit
