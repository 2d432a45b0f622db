"""Features of pixels of one class attract, those of different classes repel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from cellscribble.core.labels import UNLABELLED

POOL = {2: F.max_pool2d, 3: F.max_pool3d}


def pairwise_contrast(features: Tensor, labels: Tensor, temperature: float, max_per_class: int) -> Tensor:
    """Mean binary cross-entropy over all pairs of labelled pixels; 0, never NaN, where there is no pair.

    L_c = - mean_(i != j) y_ij log s_ij + (1 - y_ij) log(1 - s_ij),  s_ij = sigmoid(z_i . z_j / temperature),

    z the features, of length 1; y_ij = 1 for two pixels of the same class, else 0.

    Parameters
    ----------
    features : (B, E, *grid) float
    labels : (B, *grid) int64, -1 unlabelled, else 0..K-1
    max_per_class : pixels of a class that enter, at most: every n-th of them, over the whole batch

    Source: Oh, Lee & Jeong, ISBI 2022, equations 3 and 4. Equation 4 writes the target as "y_i and y_j" and the text
    calls it an "or"; the text also says that features of the same class shall be alike and of different classes shall
    not. So "the same class" is meant: "and" would push two background pixels apart, "or" would pull a cell and
    background together.
    """
    z = F.normalize(features.movedim(1, -1).flatten(0, -2), dim=1)
    flat = labels.flatten()
    drawn = torch.cat([every(flat == label, max_per_class) for label in range(int(flat.max()) + 1)] or [flat[:0]])
    n = len(drawn)
    if n < 2:
        return (z * 0).sum()
    z, classes = z[drawn], flat[drawn]
    logits = z @ z.T / temperature
    same = (classes[:, None] == classes).to(logits.dtype)
    terms = F.binary_cross_entropy_with_logits(logits, same, reduction="none")
    return (terms.sum() - terms.diagonal().sum()) / (n * (n - 1))


def every(chosen: Tensor, most: int) -> Tensor:
    """Flat indices of the chosen pixels, spread evenly over them if there are more than `most`.

    Even, not at random: patches are random already, and a step needs no generator of its own.
    """
    indices = chosen.nonzero().flatten()
    if len(indices) <= most:
        return indices
    return indices[torch.arange(most, device=indices.device) * len(indices) // most]


def grid_labels(labels: Tensor, cell_px: Sequence[int]) -> Tensor:
    """Labels of the cells of a grid: the class that all labelled pixels of a cell have, else -1.

    labels : (B, *spatial) int64, -1 unlabelled; `cell_px` divides each axis. Returns (B, *grid) int64.

    With y the share of foreground among the labelled pixels of a cell these are the thresholds nu_1 = 0 (y <= nu_1 is
    background) and nu_2 = 1 (y >= nu_2 is foreground) of the paper, for any number of classes.
    """
    pool = POOL[labels.ndim - 1]
    cell = tuple(cell_px)
    high = pool(labels[:, None].float(), cell)
    # From above: unlabelled pixels count as a class beyond all others.
    low = -pool(-torch.where(labels == UNLABELLED, torch.inf, labels.float())[:, None], cell)
    return torch.where(high == low, high, UNLABELLED)[:, 0].long()
