"""DenoiSeg: strokes; and the same network guesses hidden pixels, which needs no strokes at all.

Source: Buchholz et al., "DenoiSeg: Joint Denoising and Segmentation", ECCV 2020 Workshops (arXiv 2005.02987):

    L = alpha L_d + (1 - alpha) L_s,

L_d the mean squared error at hidden pixels (Noise2Void; 1.5 % of them, replaced by a neighbour at most 5 px away,
`data.blind_spots`), L_s cross-entropy on the strokes, of the same pass. alpha 0.5. A comparison row of ImPartial
(Martinez et al., bioRxiv 2021). Denoised values come from a 1x1 convolution beside the classes, which is not exported.

Where we differ, and why:
- Two classes instead of three. The third is the border of each object, found in masks; strokes never say where a
  cell ends, so nothing would teach it, and the objects are told apart by a step of their own (`segment.instances`).
  ImPartial's authors draw strokes between neighbouring nuclei as a kind of their own, which a border class
  can be taught by; here they are strokes of background.
- Intensities are 0..1 here, of mean 0 and variance 1 there: what is guessed is the intensity made so over each channel
  of the batch, so that alpha weighs as published.
- All channels of a hidden pixel are replaced, and all are guessed. K classes; volumes too, within a section.

In a short run (640 steps, one seed) denoising takes from the strokes. `mibi_nuclei`, IoU and AUC: .435 and .831 at
alpha 0.5, .510 and .861 at 0.1, .552 and .861 at 0; partial cross-entropy .547 and .857. Its error was 6 % of the
variance after a quarter of the run and 3.5 % at the end: smooth pixels are soon guessed from their neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from cellscribble.data.batch import Batch
from cellscribble.losses.cross_entropy import stroke_cross_entropy
from cellscribble.methods.base import Method, MethodConfig, Progress
from cellscribble.methods.blind_spot_base import BlindSpotConfig, hide_some
from cellscribble.nn.resnet_unet import ResNetUNet
from cellscribble.nn.unet import LightUNet

MIN_VARIANCE = 1e-4
"""Of a channel that is all but constant in a batch, so that its noise is not blown up."""


@dataclass(frozen=True)
class DenoiSegConfig(BlindSpotConfig):
    """Noise2Void's blind spots, and alpha, the weight of denoising."""

    blind_share: float = 0.015
    alpha: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("alpha", 0 <= self.alpha < 1, "0 <= alpha < 1")


class DenoiSeg(Method):
    """With one layer for the denoised values."""

    Config: ClassVar[type[MethodConfig]] = DenoiSegConfig
    config: DenoiSegConfig

    def beside(self, network: LightUNet | ResNetUNet) -> nn.Module:
        # A 1x1 convolution, needed at the hidden pixels alone.
        self.denoise = nn.Linear(network.decoder_widths[-1], network.in_channels)
        return self.denoise

    def loss(self, network: nn.Module, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        assert isinstance(network, LightUNet | ResNetUNet)
        alpha = self.config.alpha
        spots = hide_some(batch, self.config, progress)
        features = network.decode(spots.hide(batch.image))[-1]
        variance, mean = torch.var_mean(batch.image.transpose(0, 1).flatten(1), dim=1)
        truth = (spots.at_hidden(batch.image) - mean) / variance.clamp(min=MIN_VARIANCE).sqrt()
        error = self.denoise(spots.at_hidden(features)) - truth
        return {
            "strokes": (1 - alpha) * stroke_cross_entropy(network.classify(features), batch.scribbles),
            "denoising": alpha * error.square().mean(),
        }
