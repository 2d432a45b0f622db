"""Multiscale contrastive regularisation: Scribble2Label, and features that tell the classes apart.

Source: Oh, Lee & Jeong, "Scribble-Supervised Cell Segmentation Using Multiscale Contrastive Regularization",
ISBI 2022 (arXiv 2306.14136, 2023), equations 2 to 5:

    L = L_S2L + lambda_1 L_c(fine) + lambda_2 L_c(coarse).

L_c (`losses.contrastive`) acts on the features of two decoder layers, each through a projection head and scaled to
length 1: the last one, at every pixel (delta 1, temperature 0.3, lambda 0.5), and the third from the end, in cells of
4 x 4 px (delta 4, temperature 0.1, lambda 10). A cell has the class that all its labelled pixels have, by stroke or by
Scribble2Label's pseudo-label. The paper's variants are "r1" (fine alone), "r4" (coarse alone) and "both". The heads
are trained beside the network and are not exported.

The paper calls a head "convolution, batch norm, activation". Behind an activation that is nowhere negative no two
vectors can be further apart than a right angle, where a pair of different classes still costs log 2 and goes on
pushing; so here, as in the authors' published program, a second convolution and batch norm follow. And, as there,
L_c acts in the second stage alone: the first is Scribble2Label's own.

Where we differ, and why:
- Of a class at most 1000 pixels a scale enter instead of 6000: all pairs of them take 0.07 s a step and scale on
  one core instead of 5. They are spread evenly over the batch instead of drawn, which lets a resumed run equal an
  uninterrupted one.
- The coarse layer is the one whose grid has cells of 4 px: the third of the ResNet's five decoder layers, as
  published, and the second of the light network's four. In a volume of thick sections a cell is one section deep.
- Unlabelled pixels of a cell are ignored; a cell without a labelled pixel has no class. (Asked of all 16 pixels, no
  cell would have a class by strokes: of 210 that have one in a batch of `dsb_bf` none is stroked all over.)
  K classes: two pixels attract where their classes are the same.
- Scribble2Label as it is here, with the edge level and snapping (`methods.scribble2label`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from cellscribble.core.labels import UNLABELLED
from cellscribble.data.batch import Batch
from cellscribble.losses.contrastive import grid_labels, pairwise_contrast
from cellscribble.losses.cross_entropy import partial_cross_entropy, stroke_cross_entropy
from cellscribble.methods.base import MethodConfig, Progress
from cellscribble.methods.scribble2label import EMA, Scribble2Label, Scribble2LabelConfig, pseudo_labels
from cellscribble.nn.layers import CONV, NORM, conv_block
from cellscribble.nn.resnet_unet import ResNetUNet
from cellscribble.nn.unet import LightUNet

SCALES = {"fine": -1, "coarse": -3}
"""The decoder layer of each scale, counted from the last one."""
EMBEDDING = 32
"""Length of the vectors that are compared."""
VARIANTS = {"r1": ("fine",), "r4": ("coarse",), "both": ("fine", "coarse")}


@dataclass(frozen=True)
class MultiscaleContrastiveConfig(Scribble2LabelConfig):
    """Those of Scribble2Label; which scales, and lambda and temperature of each."""

    variant: str = "both"
    fine_weight: float = 0.5
    fine_temperature: float = 0.3
    coarse_weight: float = 10.0
    coarse_temperature: float = 0.1
    max_pixels_per_class: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("variant", self.variant in VARIANTS, f"one of {', '.join(VARIANTS)}")
        for scale in SCALES:
            self._check(f"{scale}_weight", getattr(self, f"{scale}_weight") >= 0, "0 or more")
            self._check(f"{scale}_temperature", getattr(self, f"{scale}_temperature") > 0, "more than 0")
        self._check("max_pixels_per_class", self.max_pixels_per_class >= 1, "1 or more")


class MultiscaleContrastive(Scribble2Label):
    """Scribble2Label with one projection head a scale."""

    Config: ClassVar[type[MethodConfig]] = MultiscaleContrastiveConfig
    config: MultiscaleContrastiveConfig

    def beside(self, network: LightUNet | ResNetUNet) -> nn.Module:
        widths = {scale: network.decoder_widths[SCALES[scale]] for scale in VARIANTS[self.config.variant]}
        self.heads = nn.ModuleDict({s: projection_head(network.ndim, n) for s, n in widths.items()})
        return self.heads

    def loss(self, network: nn.Module, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        assert isinstance(network, LightUNet | ResNetUNet)
        maps = network.decode(batch.image)
        logits = network.classify(maps[-1])
        terms = {"strokes": stroke_cross_entropy(logits, batch.scribbles)}
        if progress.warming_up or EMA not in batch.memory:
            return terms
        pseudo = pseudo_labels(batch.memory[EMA], batch.scribbles, self.config.tau)
        terms["pseudo"] = self.config.pseudo_weight * partial_cross_entropy(logits, pseudo)
        labels = torch.where(batch.scribbles == UNLABELLED, pseudo, batch.scribbles)
        for scale, head in self.heads.items():
            features = head(maps[SCALES[scale]])
            cell_px = [n // m for n, m in zip(labels.shape[1:], features.shape[2:], strict=True)]
            weight, temperature = (getattr(self.config, f"{scale}_{what}") for what in ("weight", "temperature"))
            cells = grid_labels(labels, cell_px)
            contrast = pairwise_contrast(features, cells, temperature, self.config.max_pixels_per_class)
            terms[f"contrast_{scale}"] = weight * contrast
        return terms


def projection_head(ndim: int, width: int) -> nn.Sequential:
    """Convolution, batch norm, ReLU; convolution, batch norm: (B, width, *grid) -> (B, EMBEDDING, *grid).

    No ReLU at the end: features that are nowhere negative are at right angles at most, and pairs of different classes
    would push for ever.
    """
    last = CONV[ndim](width, EMBEDDING, 1, bias=False)
    return nn.Sequential(*conv_block(ndim, width, width, kernel=1), last, NORM[ndim](EMBEDDING))
