"""Partial cross-entropy: learn from the stroked pixels and nothing else.

Source: the first term of Tang et al., "On regularized losses for weakly-supervised CNN
segmentation", ECCV 2018, equation 1; the stroke term L_sp of Scribble2Label, equation 1. Every more
elaborate method must beat it in the same run.

Where we differ, and why: each class counts alike, however long its strokes
(`losses.cross_entropy.stroke_cross_entropy`), in all methods that learn from strokes by cross-entropy.
"""

from __future__ import annotations

from torch import Tensor, nn

from cellscribble.data.batch import Batch
from cellscribble.losses.cross_entropy import stroke_cross_entropy
from cellscribble.methods.base import Method, Progress


class PartialCrossEntropy(Method):
    """The honest baseline."""

    def loss(self, network: nn.Module, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        return {"strokes": stroke_cross_entropy(network(batch.image), batch.scribbles)}
