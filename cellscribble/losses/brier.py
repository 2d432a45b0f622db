"""Squared error of a probability on the pixels that have a label, each class counting alike."""

from __future__ import annotations

import torch
from torch import Tensor


def balanced_brier(logits: Tensor, labels: Tensor) -> Tensor:
    """Class-balanced Brier score of independent yes-or-no tasks; 0, never NaN, where nothing is labelled.

    For the task of cell class k against all else, with p = sigmoid(logits):

        1/2 mean over strokes of k of (1 - p)^2  +  1/2 mean over all other strokes of p^2,

    averaged over the tasks.

    Parameters
    ----------
    logits : (B, K-1, *spatial) float, one task for each class of cells
    labels : (B, *spatial) int64, -1 unlabelled, 0 background, 1..K-1

    Source: Martinez et al., 2021, the term L_seg; Brier, Monthly Weather Review 1950.
    """
    p = torch.sigmoid(logits)
    terms = []
    for task in range(logits.shape[1]):
        inside = labels == task + 1
        outside = (labels >= 0) & ~inside
        yes = ((1 - p[:, task]).square() * inside).sum() / inside.sum().clamp(min=1)
        no = (p[:, task].square() * outside).sum() / outside.sum().clamp(min=1)
        terms.append((yes + no) / 2)
    return torch.stack(terms).mean()
