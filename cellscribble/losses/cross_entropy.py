"""Cross-entropy on the pixels that have a label."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from cellscribble.core.labels import UNLABELLED


def partial_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over labelled pixels; 0, never NaN, where none is labelled.

    Parameters
    ----------
    logits : (B, K, *spatial) float
    labels : (B, *spatial) int64, -1 where unlabelled, else 0..K-1

    Source: Scribble2Label (Lee & Jeong, MICCAI 2020), equation 1 (scribbled pixels) and
    equation 3 (the pseudo-labelled ones); the sets differ, the mean is the same.
    """
    total = F.cross_entropy(logits, labels, ignore_index=UNLABELLED, reduction="sum")
    n_labelled = (labels != UNLABELLED).sum()
    return total / n_labelled.clamp(min=1)
