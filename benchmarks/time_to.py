"""How long a network trains until it is so good on images that it never saw: the light one and those of the thesis.

    python benchmarks/time_to.py DATA --iou 0.8 --networks light resnet50 --steps 640 400

Each network is trained once, its rate of learning annealed over the --steps that stand at its place, by partial
cross-entropy. In between the clock stands still, the edge level is measured on the training images, and
the validation images are scored; the first time that their mean IoU is reached counts, and the run ends. The clock is
that of the processor over the cores that are used, so that other work on the machine does not count; it begins with
the first step. Masks stop the clock, and nothing else.
"""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # as `cellscribble train` sets it

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from accuracy import Quiet
from machine import machine
from sets import places_of

from cellscribble.compare.exam import exam_on_unseen_images
from cellscribble.config import load_config
from cellscribble.core.intensity import fit_intensity
from cellscribble.io.label_images import read_labels
from cellscribble.metrics.overlap import score_masks
from cellscribble.segment.edge_level import shift_to_edge
from cellscribble.train import loop
from cellscribble.train.calibrate import calibrate
from cellscribble.train.inputs import TrainingSet, open_training_set
from cellscribble.train.loop import Fit
from cellscribble.train.plan import Speed, budget_schedule
from cellscribble.train.run import train

METHOD = "partial_cross_entropy"


class Watch:
    """Looks at a run now and then, and says how long it had trained when it was first good enough.

    looks : (seconds trained, seconds of the processor over the cores, mean IoU) of each look
    """

    def __init__(self, training_set: TrainingSet, images: Path, labels: Path, iou: float) -> None:
        self._exam = exam_on_unseen_images(training_set, images, labels)
        self._rule, self._iou = training_set.rule, iou
        self.begin()
        self.looks: list[tuple[float, float, float]] = []

    def begin(self) -> None:
        self._clock, self._busy = time.perf_counter(), time.process_time()

    def look(self, fit: Fit, *_: Any, **__: Any) -> None:
        """In place of the pictures that a run draws; nothing once it was good enough."""
        if self.looks and self.looks[-1][2] >= self._iou:
            return
        trained_s = time.perf_counter() - self._clock
        busy_s = (time.process_time() - self._busy) / torch.get_num_threads()
        iou = self._score(fit)
        self.looks.append((trained_s, busy_s, iou))
        print(f"  {trained_s:8.1f} s, processor {busy_s:8.1f} s, IoU {iou:.4f}", flush=True)
        if iou >= self._iou:
            fit.ask_to_stop()
        self._clock = time.perf_counter() - trained_s
        self._busy = time.process_time() - busy_s * torch.get_num_threads()

    def _score(self, fit: Fit) -> float:
        level = calibrate(fit.samples, fit.predictor, np.random.default_rng(0)).edge_level
        scores = []
        for name in self._exam.images:
            image = self._exam.open(name)
            data = image.with_data(np.asarray(image.data))
            raw = fit.predictor.image(fit_intensity(data, self._rule).apply(data.data))
            found = shift_to_edge(raw, level).argmax(axis=0) > 0
            scores.append(score_masks(found, read_labels(self._exam.truths[name])).iou)
        return float(np.mean(scores))


def time_to(data: Path, network: str, n_steps: int, arguments: argparse.Namespace) -> Sequence[tuple[float, ...]]:
    with tempfile.TemporaryDirectory(prefix="cellscribble_") as scratch:
        places = places_of(data, arguments.set, arguments.strokes, Path(scratch))
        training_set = open_training_set(places.images, places.scribbles)
        watch = Watch(training_set, places.test_images, places.test_labels, arguments.iou)
        flags = {"method": METHOD, "network": network, "seed": arguments.seed}
        run_epochs = Fit.run

        def plan(fit: Fit, began: float) -> None:
            # A step of one second, and nothing else takes time.
            fit.schedule = budget_schedule(float(n_steps), Speed(1.0, 1.0, 0.0), two_stages=False)

        def run(fit: Fit) -> None:
            watch.begin()
            run_epochs(fit)

        with (
            patch("cellscribble.train.run.plan_run", plan),
            patch("cellscribble.train.run._draw", watch.look),
            patch.object(loop, "SECONDS_BETWEEN_PICTURES", arguments.every),
            patch.object(loop, "PICTURES_SHARE", 1e6),
            patch.object(Fit, "run", run),
        ):
            train(training_set, load_config(None, flags), Path(scratch) / "run", Quiet())
    return watch.looks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--set", default="dsb_fluo")
    parser.add_argument("--strokes", default="30")
    parser.add_argument("--networks", nargs="+", default=["light", "resnet50"])
    parser.add_argument("--steps", nargs="+", type=int, default=[640, 400])
    parser.add_argument("--iou", type=float, default=0.8)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two looks")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if len(arguments.networks) != len(arguments.steps):
        parser.error("give as many --steps as --networks")
    print(f"{machine('cpu')}, {time.strftime('%Y-%m-%d %H:%M')}, {METHOD} on {arguments.set} {arguments.strokes}")
    for network, n_steps in zip(arguments.networks, arguments.steps, strict=True):
        print(f"{network}, {n_steps} steps", flush=True)
        clock_s, busy_s, iou = time_to(arguments.data, network, n_steps, arguments)[-1]
        reached = f"IoU {arguments.iou:g}" if iou >= arguments.iou else f"not IoU {arguments.iou:g} but {iou:.3f}"
        print(f"{network}: {reached} after {clock_s:.0f} s, processor {busy_s:.0f} s", flush=True)


if __name__ == "__main__":
    main()
