"""How long each part of a run takes: stages, epochs, ensembling steps."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from cellscribble.config import EPOCHS_OF_A_BUDGET, TrainConfig
from cellscribble.data.samples import first_that_fit

GOLDEN_RATIO = 0.618033988749895
PAPER_WARMUP_EPOCHS = 100
PAPER_REFRESH_EPOCHS = 5
REFRESH_SHARE = 0.15
"""Largest share of a time budget that predicting the training images may take."""
MIN_REFRESHES, MAX_REFRESHES = 6, 12
"""Ensembling steps of a time budget. Labels must follow the network as it learns, or the second stage
teaches it its own first guess. Where six over all images take too long, the second stage has fewer
images: measured better than more images with older labels."""
MIN_PASSES = 10
"""Predictions of an image, of a method that needs their spread; for more images rather than for more of them."""
SCORE_SHARE = 0.05
"""The same for scoring the held-out strokes."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The plan of a run in whole epochs. Written into every checkpoint, so that a resumed run
    follows the plan of the interrupted one.

    steps_per_epoch : optimiser steps of one epoch
    warmup_epochs : epochs of the first stage; n_epochs for a method of one stage
    n_epochs : all epochs
    refresh_every : epochs between ensembling steps, 0 for never
    refresh_from : epoch of the first one
    refresh_part : share of the pixels that are predicted in each, and on which the second stage trains
    passes : predictions of an image in each
    score_every : epochs between two scores of the held-out strokes
    """

    steps_per_epoch: int
    warmup_epochs: int
    n_epochs: int
    refresh_every: int
    score_every: int
    refresh_from: int = 0
    refresh_part: float = 1.0
    passes: int = 1

    def warming_up(self, epoch: int) -> bool:
        return epoch < self.warmup_epochs

    def refresh_after(self, epoch: int) -> bool:
        """Ensembling after this epoch; always at the end of the warm-up, never after the last."""
        if self.refresh_every == 0 or epoch + 1 >= self.n_epochs:
            return False
        beats = epoch - self.refresh_from
        return epoch + 1 == self.warmup_epochs or (beats >= 0 and beats % self.refresh_every == 0)

    def ensembled(self, n_pixels: Sequence[int], classes: Sequence[Collection[int]]) -> list[int]:
        """The images that are predicted at ensembling steps, by number: always the same.

        Each class that is stroked anywhere is stroked in one of them, even if they are more then than fit: the
        network would unlearn it. Else stroked images come first; steps of the golden ratio spread the choice over the
        whole list, in which images that are alike stand together.

        classes : of each image, those that are stroked in it
        """
        order = sorted(range(len(n_pixels)), key=lambda i: (not classes[i], i * GOLDEN_RATIO % 1))
        needed: list[int] = []
        seen: set[int] = set()
        for i in order:
            if not seen.issuperset(classes[i]):
                needed.append(i)
                seen.update(classes[i])
        left = self.refresh_part * sum(n_pixels) - sum(n_pixels[i] for i in needed)
        others = [i for i in order if i not in needed]
        fitting = [i for i in others if n_pixels[i] <= left] if needed else others
        return sorted(needed + (first_that_fit(fitting, n_pixels, left) if fitting else []))

    @property
    def refresh_share(self) -> float:
        """The part of the run between two ensembling steps."""
        return self.refresh_every / self.n_epochs

    def score_after(self, epoch: int) -> bool:
        return epoch + 1 == self.n_epochs or (epoch + 1) % self.score_every == 0

    def learning_rate(self, base: float, epoch: int, step: int) -> float:
        """Cosine annealing to zero in each stage (Loshchilov & Hutter, ICLR 2017, equation 5).

        The second stage restarts from the base rate. A short linear rise at each start spares the
        batch norm statistics a jump.
        """
        start, stop = (0, self.warmup_epochs) if self.warming_up(epoch) else (self.warmup_epochs, self.n_epochs)
        done = (epoch - start) * self.steps_per_epoch + step
        total = max(1, (stop - start) * self.steps_per_epoch)
        rise = min(1.0, (done + 1) / max(1.0, RISE_SHARE * total))
        return base * rise * 0.5 * (1 + math.cos(math.pi * min(1.0, done / total)))


RISE_SHARE = 0.05
SPEED_UPDATE = 0.3
"""Weight of the newest epoch in the running mean of a step's time."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Measured on this machine with this network, in seconds.

    step_s : one optimiser step
    refresh_s : one ensembling over all training images, of one prediction each
    score_s : one score of the held-out strokes
    """

    step_s: float
    refresh_s: float
    score_s: float

    def updated(self, step_s: float, refresh_s: float | None, score_s: float | None) -> Speed:
        """Follow new measurements; one slow moment of a shared machine must not turn the plan over."""
        return Speed(
            self.step_s + SPEED_UPDATE * (step_s - self.step_s),
            self.refresh_s if refresh_s is None else refresh_s,
            self.score_s if score_s is None else score_s,
        )


def epochs_schedule(
    config: TrainConfig, n_crops: int, two_stages: bool, n_refreshes: int | None = None, passes: int = 1
) -> Schedule:
    """The published schedule: an epoch shows as many crops as the training images hold.

    n_refreshes, passes : what the method asks for, see `Method`
    """
    assert config.epochs is not None
    n_epochs = config.epochs
    warmup = config.warmup_epochs or min(PAPER_WARMUP_EPOCHS, math.ceil(n_epochs / 2))
    plan = Schedule(
        steps_per_epoch=max(1, math.ceil(n_crops / config.batch_size)),
        warmup_epochs=warmup if two_stages else n_epochs,
        n_epochs=n_epochs,
        refresh_every=(config.refresh_every_epochs or PAPER_REFRESH_EPOCHS) if two_stages else 0,
        score_every=max(1, n_epochs // 40),
        passes=passes,
    )
    if n_refreshes is None or not two_stages:
        return plan
    every = -(-(n_epochs - warmup) // n_refreshes) if n_refreshes else 0
    return replace(plan, refresh_every=every, refresh_from=warmup - 1)


def budget_schedule(
    budget_s: float, speed: Speed, two_stages: bool, n_refreshes: int | None = None, passes: int = 1
) -> Schedule:
    """A plan that fills `budget_s` seconds: both stages alike, ensembling at most a fifth of it.

    n_refreshes, passes : what the method asks for, see `Method`; there are fewer passes where the time is short
    """
    n_refresh, part = 0, 1.0
    if two_stages and n_refreshes != 0:
        affordable = REFRESH_SHARE * budget_s / speed.refresh_s
        n_refresh = n_refreshes or int(min(MAX_REFRESHES, max(MIN_REFRESHES, affordable)))
        passes = int(min(passes, max(MIN_PASSES, affordable / n_refresh)))
        part = min(1.0, affordable / (n_refresh * passes))
    n_scores = int(max(1, min(EPOCHS_OF_A_BUDGET // 3, SCORE_SHARE * budget_s / max(speed.score_s, 1e-3))))
    for_steps = budget_s - n_refresh * passes * part * speed.refresh_s - n_scores * speed.score_s
    n_steps = max(2, int(for_steps / speed.step_s))
    steps_per_epoch = max(1, n_steps // EPOCHS_OF_A_BUDGET)
    n_epochs = max(2, n_steps // steps_per_epoch)
    warmup = max(1, n_epochs // 2) if two_stages else n_epochs
    return Schedule(
        steps_per_epoch=steps_per_epoch,
        warmup_epochs=warmup,
        n_epochs=n_epochs,
        # The first ensembling ends the warm-up: an average over earlier, worse predictions is a
        # luxury of long runs.
        refresh_every=max(1, (n_epochs - warmup) // n_refresh) if n_refresh else 0,
        score_every=max(1, n_epochs // n_scores),
        refresh_from=warmup - 1,
        refresh_part=part,
        passes=passes,
    )


def seconds_left(schedule: Schedule, epoch: int, speed: Speed) -> float:
    """How long the plan takes from here, `epoch` epochs being done."""
    epochs = range(epoch, schedule.n_epochs)
    return (
        len(epochs) * schedule.steps_per_epoch * speed.step_s
        + sum(map(schedule.refresh_after, epochs)) * speed.refresh_s * schedule.refresh_part * schedule.passes
        + sum(map(schedule.score_after, epochs)) * speed.score_s
    )


def fit_to_time_left(schedule: Schedule, epoch: int, left_s: float, speed: Speed) -> Schedule:
    """Lengthen or shorten the run when the machine turned out faster or slower.

    epoch : epochs done; speed : as measured lately
    """
    fits, too_long = epoch + 1, epoch + 2
    while seconds_left(with_epochs(schedule, epoch, too_long), epoch, speed) <= left_s:
        fits, too_long = too_long, 2 * too_long
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if seconds_left(with_epochs(schedule, epoch, middle), epoch, speed) <= left_s:
            fits = middle
        else:
            too_long = middle
    return with_epochs(schedule, epoch, fits)


def with_epochs(schedule: Schedule, epoch: int, n_epochs: int) -> Schedule:
    """The plan with another end, `epoch` epochs being done. Both stages alike while the first goes on."""
    if schedule.warmup_epochs == schedule.n_epochs:  # a method of one stage
        return replace(schedule, n_epochs=n_epochs, warmup_epochs=n_epochs)
    if not schedule.warming_up(epoch):
        return replace(schedule, n_epochs=n_epochs)
    # At least one epoch of either stage: without the second there is no model to keep.
    warmup = max(epoch + 1, n_epochs // 2)
    n_epochs = max(n_epochs, warmup + 1)
    n_refreshes = (schedule.n_epochs - schedule.warmup_epochs) / max(1, schedule.refresh_every)
    return replace(
        schedule,
        n_epochs=n_epochs,
        warmup_epochs=warmup,
        refresh_every=max(1, round((n_epochs - warmup) / n_refreshes)) if schedule.refresh_every else 0,
        refresh_from=warmup - 1,
    )


def crops_in(shapes: Sequence[Sequence[int]], patch_px: Sequence[int]) -> int:
    """How many patches the images hold; at least one an image."""
    return sum(max(1, round(math.prod(s) / math.prod(patch_px))) for s in shapes)
