"""The only epoch loop.

Every random draw of step s comes from a generator seeded with (seed, s), so that the state of a run
is its weights, its optimiser, the method's maps and a step number: an interrupted and resumed run
equals an uninterrupted one, bit for bit, on one machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cellscribble.config import TrainConfig
from cellscribble.core.errors import TrainingError
from cellscribble.core.interrupt import HeldInterrupt
from cellscribble.core.progress import Stopped, Work
from cellscribble.data.batch import Batch, collate
from cellscribble.data.patches import PatchSource
from cellscribble.data.samples import Sample
from cellscribble.methods.base import Method, Progress
from cellscribble.nn.resnet_unet import ResNetUNet
from cellscribble.nn.unet import LightUNet
from cellscribble.train.best import Best
from cellscribble.train.checkpoint import LAST, load_state, memory_tensors, restore_memory, save_state
from cellscribble.train.history import History
from cellscribble.train.pace import Pace
from cellscribble.train.plan import Schedule
from cellscribble.train.predictor import Predictor, parameter_groups
from cellscribble.train.score import HoldoutScore, Window, score_strokes

SECONDS_BETWEEN_CHECKPOINTS = 30.0
SECONDS_BETWEEN_PICTURES = 60.0
DIVERGED_LOSS = 100.0
"""On strokes: what was drawn has a probability of about e^-100. From there no run comes back, though all is finite."""
PICTURES_SHARE = 0.02
"""Of a run that its pictures may take."""


@dataclass(frozen=True, slots=True)
class Tick:
    """What the progress bar shows after each step."""

    done: float
    total: float
    stage: str
    terms: dict[str, float]
    score: HoldoutScore | None


@dataclass
class Fit:
    """One run in progress: everything the loop needs, and what it changes.

    on_tick : told about each step
    draw : called now and then to show how training goes; it changes nothing
    work : told how far the predictions of the training images are
    """

    config: TrainConfig
    method: Method
    network: LightUNet | ResNetUNet
    samples: Sequence[Sample]
    source: PatchSource
    windows: Sequence[Window]
    predictor: Predictor
    schedule: Schedule
    folder: Path
    on_tick: Callable[[Tick], None]
    draw: Callable[[Fit], None]
    work: Work
    pace: Pace = field(default_factory=Pace)
    epoch: int = 0
    step: int = 0
    history: History = field(default_factory=History)
    stop_asked: bool = False

    def __post_init__(self) -> None:
        self.beside = self.method.beside(self.network).to(self.predictor.device)
        groups = parameter_groups(self.network, self.config.learning_rate, self.config.encoder_weights is not None)
        if beside := list(self.beside.parameters()):
            groups.append({"params": beside, "scale": 1.0, "lr": self.config.learning_rate})
        self.optimiser = torch.optim.RAdam(groups)
        self.best = Best(self.folder)
        self.sums: dict[str, float] = {}
        self.last_good: dict[str, Tensor] | None = None

    def run(self) -> None:
        """Train to the end of the schedule, or until interrupted; leaves best.pt and last.pt.

        Ctrl-C ends it after the step, or after the block that is being predicted.

        Raises
        ------
        TrainingError
            If the loss or a weight is no number any more. The network is then as it was after the last
            whole epoch, and best.pt holds that or a better one, if there was any.
        Terminated
            At SIGTERM, once the state is saved: whoever sent it does not wait for long.
        KeyboardInterrupt
            At a second Ctrl-C, at once; what was saved before is whole.
        """
        with HeldInterrupt(self.ask_to_stop) as interrupt:
            self._epochs()
            self.save()
            interrupt.forget_ctrl_c()

    def ask_to_stop(self) -> None:
        """Let `run` end as at Ctrl-C."""
        self.stop_asked = True

    def _epochs(self) -> None:
        saved = drawn = time.monotonic()
        wait_s = SECONDS_BETWEEN_PICTURES
        while self.epoch < self.schedule.n_epochs and not self.stop_asked:
            began = time.monotonic()
            self._steps()
            if self.step < self.schedule.steps_per_epoch:
                return  # stopped; `save` keeps the step
            try:
                self._end_epoch(began)
            except Stopped:
                return  # all steps are kept; resumed, the epoch ends anew
            if time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
                self.save()
                saved = time.monotonic()
            if time.monotonic() - drawn > wait_s and self.epoch < self.schedule.n_epochs:
                began = time.monotonic()
                self.draw(self)
                drawn = time.monotonic()
                wait_s = max(SECONDS_BETWEEN_PICTURES, (drawn - began) / PICTURES_SHARE)

    def _steps(self) -> None:
        progress = Progress(self.epoch, self.schedule.warming_up(self.epoch))
        self.network.train()
        self.look_at(progress)
        while self.step < self.schedule.steps_per_epoch and not self.stop_asked:
            rate = self.schedule.learning_rate(self.config.learning_rate, self.epoch, self.step)
            seed = (self.config.seed, self.epoch, self.step, 1)
            terms = self._step(self._draw(), replace(progress, seed=seed), rate)
            for name, value in terms.items():
                self.sums[name] = self.sums.get(name, 0.0) + value
            self.step += 1
            done = self.epoch + self.step / self.schedule.steps_per_epoch
            stage = "warm-up" if progress.warming_up and self.method.two_stages else "training"
            self.on_tick(Tick(done, self.schedule.n_epochs, stage, terms, self.best.score))

    def look_at(self, progress: Progress) -> None:
        """Draw patches from the images, and with the maps, that this stage learns from."""
        if progress.warming_up and self.method.two_stages:
            maps = self.method.memory_layout() if self.method.maps_from_the_start else {}
            self.source.look_at(range(len(self.samples)), maps)
        else:
            self.source.look_at(self._ensembled(), self.method.memory_layout())

    def _draw(self) -> Batch:
        # The step's own generator: no generator state to store, and none to get out of step.
        rng = np.random.default_rng([self.config.seed, self.epoch, self.step])
        return collate(self.source.draw_batch(self.config.batch_size, rng), self.predictor.device)

    def _step(self, batch: Batch, progress: Progress, rate: float) -> dict[str, float]:
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["scale"]
        terms = self.method.loss(self.network, batch, progress)
        loss: Tensor = torch.stack(list(terms.values())).sum()
        if not torch.isfinite(loss):
            raise self._diverged(f"the loss became {loss.item()}")
        if "strokes" in terms and terms["strokes"] > DIVERGED_LOSS:
            raise self._diverged(f"the loss on strokes became {terms['strokes'].item():.3g}")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return {name: float(value.detach()) for name, value in terms.items()}

    def _diverged(self, what: str) -> TrainingError:
        advice = (
            f"{what} in epoch {self.epoch}; lower learning_rate (now {self.config.learning_rate}) "
            "in the --config file and start again"
        )
        if self.last_good is None:
            return TrainingError(advice)
        self.network.load_state_dict(self.last_good)
        if self.best.epoch is None:
            self.best.keep(self.network, self.epoch - 1)
        return TrainingError(f"{advice}. What was learnt before is kept: cellscribble export {self.folder}")

    def _end_epoch(self, began: float) -> None:
        weights = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        if not all(torch.isfinite(value).all() for value in weights.values()):
            raise self._diverged("a weight of the network became infinite")
        self.last_good = weights
        trained = time.monotonic()
        warming_up = self.schedule.warming_up(self.epoch)
        row: dict[str, float | str] = {
            "epoch": self.epoch,
            "stage": "warm-up" if warming_up and self.method.two_stages else "training",
            "learning_rate": self.schedule.learning_rate(self.config.learning_rate, self.epoch, 0),
            "n_epochs_planned": self.schedule.n_epochs,
        }
        means = {name: value / self.schedule.steps_per_epoch for name, value in self.sums.items()}
        row |= {"loss": sum(means.values()), **{f"loss_{name}": value for name, value in means.items()}}
        if self.schedule.refresh_after(self.epoch):
            row |= self._ensemble(warming_up)
        refreshed = time.monotonic()
        if self.schedule.score_after(self.epoch):
            row |= self._score()
        ended = time.monotonic()
        row["seconds"] = round(ended - began, 3)
        self.history.add(row)
        times = trained - began, refreshed - trained, ended - refreshed
        self.schedule = self.pace.adjusted(self.schedule, self.epoch, *times)
        self.epoch, self.step, self.sums = self.epoch + 1, 0, {}

    def _ensembled(self) -> list[int]:
        return self.schedule.ensembled([s.scribbles.size for s in self.samples], self.source.classes)

    def _ensemble(self, warming_up: bool) -> dict[str, float]:
        """Let the method predict the images. Raises Stopped if that is asked for: then nothing of it has happened."""
        samples, passes = [self.samples[i] for i in self._ensembled()], self.schedule.passes
        progress = Progress(self.epoch, warming_up, self.schedule.refresh_share, passes=passes, done=self.work.done)
        maps, state = [dict(sample.memory) for sample in samples], self.method.state()
        # One pass more: for the labels that are made of the predictions.
        n_pixels = sum(sample.scribbles.size for sample in samples) * (passes + 1)
        try:
            with self.work.part("labelling the training images", n_pixels, lambda: self.stop_asked):
                return self.method.refresh(samples, self.predictor, progress)
        except Stopped:
            for sample, before in zip(samples, maps, strict=True):
                sample.memory = before
            self.method.restore(state)
            raise

    def _score(self) -> dict[str, float | str]:
        last_stage = not (self.method.two_stages and self.schedule.warming_up(self.epoch))
        if not self.windows:
            if last_stage:
                self.best.keep(self.network, self.epoch)
            return {}
        rng = np.random.default_rng([self.config.seed, self.epoch])
        score = score_strokes(self.windows, self.predictor.image, self.method.n_classes, rng)
        self.best.offer(self.network, self.epoch, score, last_stage=last_stage)
        return {
            "holdout_score": score.score,
            "holdout_low": "" if score.low is None else score.low,
            "holdout_high": "" if score.high is None else score.high,
        }

    def save(self) -> None:
        """Write last.pt; and best.pt where no state has been scored yet."""
        self.best.keep_unfinished(self.network, self.epoch)
        tensors = {
            "network": self.network.state_dict(),
            "beside": self.beside.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "memory": memory_tensors(self.samples),
        }
        save_state(self.folder / LAST, tensors, self._facts())
        self.history.save(self.folder / "history.csv")

    def _facts(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "step": self.step,
            "sums": self.sums,
            "schedule": asdict(self.schedule),
            "elapsed_s": self.pace.elapsed_s,
            "history": self.history.rows,
            **self.best.facts(),
            "method": self.method.state(),
        }

    def resume(self) -> None:
        """Continue from last.pt in the run folder."""
        # To the CPU first: the maps stay there, and both state dicts are copied where they belong.
        tensors, facts = load_state(self.folder / LAST, torch.device("cpu"))
        self.network.load_state_dict(tensors["network"])
        self.beside.load_state_dict(tensors.get("beside", {}))  # runs of 0.1.0 have none
        self.optimiser.load_state_dict(tensors["optimiser"])
        restore_memory(tensors["memory"], self.samples)
        self.epoch, self.step, self.sums = facts["epoch"], facts["step"], facts["sums"]
        self.schedule = Schedule(**facts["schedule"])
        self.pace = Pace(time.monotonic() - facts["elapsed_s"])
        self.history = History(facts["history"])
        self.best.restore(facts)
        self.method.restore(facts["method"])
