"""What this machine can do in the time a user gives it: measured, then planned."""

from __future__ import annotations

import copy
import time
from dataclasses import replace

import numpy as np
import torch

from cellscribble.data.batch import collate
from cellscribble.methods.base import Progress
from cellscribble.train.loop import Fit
from cellscribble.train.pace import Pace
from cellscribble.train.plan import Speed, budget_schedule, crops_in, epochs_schedule

RESERVE_S_PER_MPIX = 0.5
RESERVE_S = 4.0
MAX_RESERVE_MPIX = 8.0
"""Of a time budget kept for calibration, pictures and export."""
N_PREDICTIONS = 3
"""Of the smallest image, to measure their speed."""


def plan_run(fit: Fit, began: float) -> None:
    """Give `fit` its schedule: the published one for epochs, a measured one for a time budget.

    began : time.monotonic() when the run began; the budget counts from there
    """
    config = fit.config
    patch_px = fit.source.patch_px
    if config.epochs is not None:
        n_crops = crops_in([s.scribbles.shape for s in fit.samples], patch_px)
        fit.schedule = epochs_schedule(
            config, n_crops, fit.method.two_stages, fit.method.n_refreshes(), fit.method.most_passes()
        )
        return
    assert config.minutes is not None
    n_pixels = N_PREDICTIONS * min(s.scribbles.size for s in fit.samples)
    with fit.work.part("measuring this machine's speed", n_pixels):
        speed = measure_speed(fit)
    budget_s = max(1.0, config.minutes * 60 - reserved_s(fit))
    fit.pace = Pace(began, budget_s, speed)
    left_s = max(1.0, budget_s - fit.pace.elapsed_s)
    fit.schedule = budget_schedule(
        left_s, speed, fit.method.two_stages, fit.method.n_refreshes(), fit.method.most_passes()
    )


def reserved_s(fit: Fit) -> float:
    """Seconds of a time budget that are kept for what follows the last step."""
    n_pixels = sum(s.scribbles.size for s in fit.samples)
    return RESERVE_S + min(MAX_RESERVE_MPIX, n_pixels / 1e6) * RESERVE_S_PER_MPIX


def measure_speed(fit: Fit) -> Speed:
    """Time a few steps and predictions on a copy of the network; the run itself is untouched."""
    # Together: what a method trains beside the network must not learn from this either.
    network, method = copy.deepcopy((fit.network, fit.method))
    first = Progress(0, True)
    fit.look_at(first)
    optimiser = torch.optim.RAdam(network.parameters(), lr=1e-6)
    rng = np.random.default_rng([fit.config.seed, 2])
    times = []
    for _ in range(4):
        began = time.perf_counter()
        batch = collate(fit.source.draw_batch(fit.config.batch_size, rng), fit.predictor.device)
        terms = method.loss(network, batch, first)
        optimiser.zero_grad()
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        times.append(time.perf_counter() - began)
    sample = min(fit.samples, key=lambda s: s.scribbles.size)
    fit.predictor(sample)
    began = time.perf_counter()
    fit.predictor(sample)
    per_pixel_s = (time.perf_counter() - began) / sample.scribbles.size
    n_window_px = len(fit.windows) * int(np.prod(fit.source.patch_px))
    n_pixels = sum(s.scribbles.size for s in fit.samples)
    began = time.perf_counter()
    method.refresh([replace(sample, memory={})], fit.predictor, first)
    refresh_s = (time.perf_counter() - began) / sample.scribbles.size * n_pixels
    return Speed(min(times[1:]), max(refresh_s, 1e-3), per_pixel_s * n_window_px)
