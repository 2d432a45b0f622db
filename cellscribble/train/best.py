"""Which state of the network is kept to be exported. No mask is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from cellscribble.train.checkpoint import BEST, save_state
from cellscribble.train.score import HoldoutScore


@dataclass
class Best:
    """The state in best.pt, and why it is that one.

    score : the newest one, of whatever state; None before the first, or where no stroke is held out
    best_score : the highest of states that were kept
    epoch : of the state in best.pt; None as long as none was chosen
    """

    folder: Path
    score: HoldoutScore | None = None
    best_score: HoldoutScore | None = None
    epoch: int | None = None

    def offer(self, network: nn.Module, epoch: int, score: HoldoutScore, *, last_stage: bool) -> None:
        """Keep the state if the held-out strokes do not speak against it.

        Strokes cannot see a fat cell, so a warm-up state never competes with a later one; and of states that the
        strokes cannot tell apart (one standard error) the latest is taken, the one with the smallest learning rate.
        Too few of a class for an interval tell none apart.
        """
        self.score, best = score, self.best_score
        alike = best is None or score.low is None or score.score >= best.score - best.standard_error
        if last_stage and alike:
            self.keep(network, epoch)
            if best is None or score.score > best.score:
                self.best_score = score

    def keep(self, network: nn.Module, epoch: int) -> None:
        """Write best.pt, whatever strokes say."""
        self.epoch = epoch
        self._save(network, epoch, {})

    def keep_unfinished(self, network: nn.Module, epoch: int) -> None:
        """Write best.pt for now where no state was chosen yet, so that there is something to export."""
        if self.epoch is None:
            self._save(network, epoch, {"unfinished": True})

    def _save(self, network: nn.Module, epoch: int, more: Mapping[str, Any]) -> None:
        score = asdict(self.score) if self.score else None
        save_state(self.folder / BEST, {"network": network.state_dict()}, {"epoch": epoch, "score": score, **more})

    def facts(self) -> dict[str, Any]:
        """What resuming needs, plain values."""
        return {
            "score": asdict(self.score) if self.score else None,
            "best_score": asdict(self.best_score) if self.best_score else None,
            "best_epoch": self.epoch,
        }

    def restore(self, facts: Mapping[str, Any]) -> None:
        """The reverse of `facts`, which may stand among others."""
        self.score, self.best_score = _score_from(facts["score"]), _score_from(facts["best_score"])
        self.epoch = facts["best_epoch"]


def _score_from(values: Mapping[str, Any] | None) -> HoldoutScore | None:
    return None if values is None else HoldoutScore(**{**values, "n_strokes": tuple(values["n_strokes"])})
