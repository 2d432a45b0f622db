"""Scribble2Label: strokes first, then the network's own confident, averaged predictions.

Source: Lee & Jeong, "Scribble2Label: Scribble-Supervised Cell Segmentation via Self-Generating
Pseudo-Labels with Consistency", MICCAI 2020; Lee, thesis, UNIST 2021.

Warm-up (equation 1): L_sp, cross-entropy on stroke pixels. Every gamma epochs, from the first on,
the un-augmented training images are predicted and averaged (equation 2)

    y_n = alpha f(x) + (1 - alpha) y_(n-1),    y_0 = f(x), a copy and not zeros.

After the warm-up L = L_sp + lambda L_up, where L_up (equation 3) is cross-entropy on the unstroked
pixels with max(y, 1 - y) > tau, against the one-hot of y.

Where we differ, and why:
- L_sp is a mean over classes (`losses.cross_entropy.stroke_cross_entropy`): strokes of background that are three
  times as long made cells of probability 1/4 of what tau must see, and nuclei came out small. L_up is a mean over
  pixels, as published: pseudo-labels are as frequent as the classes are.
- A time budget has room for few ensembling steps. Then each counts for more, so that the average
  spans the same part of the run as published (1 / alpha = 5 steps of 5 epochs in 200); and where even
  those take too long for all images, the second stage has fewer images (`train.plan`).
- K classes: the condition is max_k y_k > tau. Two and three dimensions alike.
- Strokes do not say where a cell ends, so f is fat: at p = 0.5 the contour lies outside the cell.
  Pseudo-labels of it would teach the fat shape. What is averaged is therefore the prediction with
  the edge level built in (`segment.edge_level`, measured on the training images without masks, anew
  at every ensembling): 0.5 lies on the image's edges, and tau acts on both sides of them.
  Without both (`edge_calibration`, `edge_snapping` false) the rule is the published one.
- Pixels that this still leaves in doubt (0.27 to 0.73) take the side from which a watershed over the
  image's gradient floods them (`segment.edge_snap`), so that the network is taught the image's edge and
  not its own blur; averaging over the ensembling steps keeps what is decided alike each time.
  `edge_snapping = false` leaves them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cellscribble.core.labels import UNLABELLED
from cellscribble.data.batch import Batch
from cellscribble.data.samples import Sample
from cellscribble.losses.cross_entropy import partial_cross_entropy, stroke_cross_entropy
from cellscribble.methods.base import PAPER_REFRESH_SHARE, Method, MethodConfig, Predict, Progress
from cellscribble.methods.edges import edge_level, even_choice
from cellscribble.methods.pseudo_label import confident_labels
from cellscribble.segment.edge_level import shift_to_edge
from cellscribble.segment.edge_snap import snap_to_edges

EMA = "ema"


@dataclass(frozen=True)
class Scribble2LabelConfig(MethodConfig):
    """tau, alpha, lambda as published; for noisy images the paper takes tau 0.95, alpha 0.1."""

    tau: float = 0.8
    alpha: float = 0.2
    pseudo_weight: float = 0.5
    edge_calibration: bool = True
    edge_snapping: bool = True

    def __post_init__(self) -> None:
        self._check("tau", 0.5 <= self.tau < 1, "a probability, 0.5 <= tau < 1")
        self._check("alpha", 0 < self.alpha <= 1, "0 < alpha <= 1")
        self._check("pseudo_weight", self.pseudo_weight >= 0, "0 or more")


class Scribble2Label(Method):
    """The default method. `Sample.memory["ema"]` holds y without its background: (K-1, *spatial)."""

    Config: ClassVar[type[MethodConfig]] = Scribble2LabelConfig
    two_stages: ClassVar[bool] = True
    average: ClassVar[str | None] = EMA
    config: Scribble2LabelConfig

    def memory_layout(self) -> dict[str, tuple[int, float]]:
        return {EMA: (self.n_classes - 1, 1 / self.n_classes)}

    def loss(self, network: nn.Module, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        logits = network(batch.image)
        terms = {"strokes": stroke_cross_entropy(logits, batch.scribbles)}
        if not progress.warming_up and EMA in batch.memory:
            labels = pseudo_labels(batch.memory[EMA], batch.scribbles, self.config.tau)
            terms["pseudo"] = self.config.pseudo_weight * partial_cross_entropy(logits, labels)
        return terms

    def refresh(self, samples: Sequence[Sample], predict: Predict, progress: Progress) -> dict[str, float]:
        level, found = 0.5, {}
        if self.config.edge_calibration:
            some = even_choice(samples)
            # These are kept until their turn comes; those of all images would be as much as the images.
            found = {k: predict(samples[k]) for k in range(len(samples))[some]}
            level = edge_level(samples[some], list(found.values()))
        alpha = np.float32(self.alpha(progress.refresh_share))
        for k, sample in enumerate(samples):
            new = shift_to_edge(found.pop(k) if k in found else predict(sample), level)
            if self.config.edge_snapping:
                new = snap_to_edges(sample.normalised(), new)
            new = new[1:]
            old = sample.memory.get(EMA)
            sample.memory[EMA] = new if old is None else alpha * new + (1 - alpha) * old
            progress.done(sample.scribbles.size)
        return {"edge_level": level}

    def learnt_labels(self, sample: Sample) -> npt.NDArray[np.int16] | None:
        y = sample.memory.get(EMA)
        if y is None:
            return None
        y = np.concatenate([1 - y.sum(axis=0, keepdims=True), y])
        return np.where(y.max(axis=0) > self.config.tau, y.argmax(axis=0), UNLABELLED).astype(np.int16)

    def alpha(self, refresh_share: float) -> float:
        """The weight of a new prediction where `refresh_share` of the run lies between two of them."""
        steps = max(1.0, refresh_share / PAPER_REFRESH_SHARE)
        return float(1 - (1 - self.config.alpha) ** steps)


def pseudo_labels(ema: Tensor, scribbles: Tensor, tau: float) -> Tensor:
    """Labels of the unstroked pixels that y is sure of.

    Parameters
    ----------
    ema : (B, K-1, *spatial) float, y of the classes without the background
    scribbles : (B, *spatial) int64; stroked pixels get no pseudo-label
    tau : confidence that y must exceed

    Returns
    -------
    (B, *spatial) int64, -1 where unsure or stroked
    """
    y = torch.cat([1 - ema.sum(dim=1, keepdim=True), ema], dim=1)
    return confident_labels(y, scribbles, tau)
