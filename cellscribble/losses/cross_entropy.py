"""Cross-entropy on the pixels that have a label."""

from __future__ import annotations

import torch
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


def stroke_cross_entropy(logits: Tensor, strokes: Tensor) -> Tensor:
    """Mean over the classes of the mean cross-entropy on the strokes of each; 0, never NaN, where there are none.

    How long a person's strokes of a class are says nothing of how frequent it is. In a mean over all pixels it would
    move the probability: with three times as many pixels of background, what is as much cell as background has 1/4.

    Parameters
    ----------
    logits : (B, K, *spatial) float
    strokes : (B, *spatial) int64, -1 where unlabelled, else 0..K-1
    """
    n_pixels = torch.bincount(strokes[strokes != UNLABELLED], minlength=logits.shape[1])
    each = 1 / n_pixels.clamp(min=1).to(logits.dtype)
    total = F.cross_entropy(logits, strokes, each, ignore_index=UNLABELLED, reduction="sum")
    return total / (n_pixels > 0).sum().clamp(min=1)
