"""Loaded networks that are kept for the next image."""

from __future__ import annotations

from cellscribble.bundle import Model
from cellscribble.infer.runner import Runner

MOST_WARM = 4
"""Networks that are kept, of those that were used last. A pipeline that finds nuclei, then cells, needs two."""


class WarmRunners:
    """Runners by what a model file holds and by device, so that a model that was trained anew is loaded anew."""

    def __init__(self) -> None:
        self._runners: dict[tuple[str, str], Runner] = {}

    def __call__(self, model: Model, device: str) -> Runner:
        """A runner of `model`, as `Runner(model, device)` and with what that raises."""
        key = (model.sha256, device)
        runner = self._runners.pop(key, None)
        if runner is None:
            while len(self._runners) >= MOST_WARM:
                # A dict keeps the order in which its entries came: this was used longest ago.
                del self._runners[next(iter(self._runners))]
            runner = Runner(model, device)
        self._runners[key] = runner
        return runner
