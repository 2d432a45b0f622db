"""How a run keeps to the time it was given."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from cellscribble.train.plan import Schedule, Speed, fit_to_time_left, seconds_left

REPLAN_TOLERANCE = 0.1
"""A plan is changed when it would miss the time budget by more than this share."""


@dataclass
class Pace:
    """When a run began, what time it has, and how fast it lately was.

    started : time.monotonic() when it began; the budget counts from there
    budget_s : seconds until the last step; None for a run of epochs, whose plan stays
    """

    started: float = field(default_factory=time.monotonic)
    budget_s: float | None = None
    speed: Speed | None = None

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started

    def adjusted(self, schedule: Schedule, epoch: int, steps_s: float, refresh_s: float, score_s: float) -> Schedule:
        """The plan after an epoch in which steps, ensembling and score took these seconds."""
        if self.budget_s is None or self.speed is None or epoch + 1 >= schedule.n_epochs:
            return schedule
        self.speed = self.speed.updated(
            steps_s / schedule.steps_per_epoch,
            refresh_s / (schedule.refresh_part * schedule.passes) if schedule.refresh_after(epoch) else None,
            score_s if schedule.score_after(epoch) else None,
        )
        left_s = self.budget_s - self.elapsed_s
        if abs(seconds_left(schedule, epoch + 1, self.speed) - left_s) > REPLAN_TOLERANCE * self.budget_s:
            return fit_to_time_left(schedule, epoch + 1, left_s, self.speed)
        return schedule
