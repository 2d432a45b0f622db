"""Pseudo-label: strokes first, then also the network's own confident answers of the moment.

Source: Lee, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural
Networks", ICML 2013 Workshop, equations 14 and 15; with the threshold tau as the thesis (Lee, UNIST 2021)
compares it to Scribble2Label.

After a first stage on strokes alone

    L = CE(strokes) + lambda CE(unstroked pixels with max_k f_k(x) > tau, argmax_k f_k(x)),

where f is the prediction of the very step, without gradient: nothing is averaged and nothing is kept, so
what the network errs in it teaches itself. That is what Scribble2Label's average is measured against.

Where we differ, and why:
- lambda is constant after the first stage (equation 16 raises it slowly to 3, over 500 epochs of MNIST,
  without a threshold); tau and lambda are those of Scribble2Label, so that only the averaging differs.
- K classes, two and three dimensions alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from cellscribble.core.labels import UNLABELLED
from cellscribble.data.batch import Batch
from cellscribble.losses.cross_entropy import partial_cross_entropy, stroke_cross_entropy
from cellscribble.methods.base import Method, MethodConfig, Progress


@dataclass(frozen=True)
class PseudoLabelConfig(MethodConfig):
    """tau and the weight lambda of the pseudo-labels, as Scribble2Label has them."""

    tau: float = 0.8
    pseudo_weight: float = 0.5

    def __post_init__(self) -> None:
        self._check("tau", 0.5 <= self.tau < 1, "a probability, 0.5 <= tau < 1")
        self._check("pseudo_weight", self.pseudo_weight >= 0, "0 or more")


class PseudoLabel(Method):
    """Keeps nothing: the labels are those of the step."""

    Config: ClassVar[type[MethodConfig]] = PseudoLabelConfig
    two_stages: ClassVar[bool] = True
    config: PseudoLabelConfig

    def loss(self, network: nn.Module, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        logits = network(batch.image)
        terms = {"strokes": stroke_cross_entropy(logits, batch.scribbles)}
        if not progress.warming_up:
            labels = confident_labels(torch.softmax(logits.detach(), dim=1), batch.scribbles, self.config.tau)
            terms["pseudo"] = self.config.pseudo_weight * partial_cross_entropy(logits, labels)
        return terms


def confident_labels(probability: Tensor, scribbles: Tensor, tau: float) -> Tensor:
    """Labels of the unstroked pixels that a prediction is sure of.

    Parameters
    ----------
    probability : (B, K, *spatial) float
    scribbles : (B, *spatial) int64; stroked pixels get no pseudo-label
    tau : confidence that the largest probability must exceed

    Returns
    -------
    (B, *spatial) int64, -1 where unsure or stroked
    """
    confidence, label = probability.max(dim=1)
    sure = (confidence > tau) & (scribbles == UNLABELLED)
    return torch.where(sure, label, UNLABELLED)
