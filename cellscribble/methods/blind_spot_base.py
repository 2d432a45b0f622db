"""Blind-spot base: ImPartial without its mixture, what the mixture is measured against.

Source: Martinez et al., "ImPartial: Partial Annotations for Cell Instance Segmentation", bioRxiv 2021
(2021.01.20.427458); its comparison row of the same name:

    L = sum_k lambda_k L_seg^k,    sum_k lambda_k = 1,

L_seg^k the Brier score on the strokes of class k (`losses.brier`), of a network that sees each patch with a share of
its pixels replaced by a neighbour at most 5 px away (`data.blind_spots`). Each class counts alike, however long its
strokes. The network gives memberships of M components for a class and M for all else, a softmax over the 2 M; a
class is the sum of its components. Memberships become class probabilities in the head (`nn.heads.TaskHead`), and so
in the exported model.

Several tasks: the paper trains tasks that overlap (nucleus, cytoplasm) with one network. Strokes here exclude each
other, so that each class of cells is one task, with memberships of its own, and strokes of other classes are its
outside; draw nucleus, cytoplasm as two classes, and "both" is their union. All channels go into every task.

Where we differ, and why:
- Intensities are normalised as for every method, 0.5 to 99.8 % of each channel (paper: 0.1 to 99.8 %): one way for
  all, in training and prediction.
- All channels of a hidden pixel are replaced, by those of one neighbour; in a volume it lies in the same section.
- 5 % of the pixels are hidden and M is 2 for each side, as in the settings that the authors give with their program;
  they choose M by data set.
- The light network and its augmentation instead of a U-Net of 64 channels; no ensemble of checkpoints or dropout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from cellscribble.data.batch import Batch
from cellscribble.data.blind_spots import BlindSpots, draw_blind_spots
from cellscribble.losses.brier import balanced_brier
from cellscribble.methods.base import Method, MethodConfig, Progress
from cellscribble.nn.heads import TaskHead, by_task, task_logits


@dataclass(frozen=True)
class BlindSpotConfig(MethodConfig):
    """Share of the pixels that are hidden, and how far away at most is the one shown instead."""

    blind_share: float = 0.05
    radius_px: int = 5

    def __post_init__(self) -> None:
        self._check("blind_share", 0 < self.blind_share < 1, "a share of the pixels, more than 0 and less than 1")
        # The smallest patch has 32 px.
        self._check("radius_px", 1 <= self.radius_px <= 15, "1 to 15 px")


@dataclass(frozen=True)
class BlindSpotBaseConfig(BlindSpotConfig):
    """Also how many components M each side of a task has."""

    n_components: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("n_components", self.n_components >= 1, "1 or more")


class BlindSpotBase(Method):
    """One task for each class of cells; keeps nothing of an image."""

    Config: ClassVar[type[MethodConfig]] = BlindSpotBaseConfig
    config: BlindSpotBaseConfig

    def out_channels(self) -> int:
        return (self.n_classes - 1) * 2 * self.config.n_components

    def head(self, edge_level: float) -> nn.Module:
        return TaskHead(self.config.n_components, edge_level)

    def loss(self, network: nn.Module, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        raw = network(hide_some(batch, self.config, progress).hide(batch.image))
        return {"strokes": balanced_brier(task_logits(by_task(raw, self.config.n_components)), batch.scribbles)}


def hide_some(batch: Batch, config: BlindSpotConfig, progress: Progress) -> BlindSpots:
    """The blind spots of this step."""
    shape = (len(batch.image), *batch.image.shape[2:])
    return draw_blind_spots(shape, config.blind_share, config.radius_px, np.random.default_rng(progress.seed))
