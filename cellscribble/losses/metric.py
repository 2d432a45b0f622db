"""Pixels of one class lie near one another, those of different classes apart."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

SHARPNESS = 10.0
"""beta of the generalised logistic loss."""


def pairwise_distance_loss(embedded: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """Mean generalised logistic loss over all pairs of pixels; 0, never NaN, where there is no pair.

    L = mean_(i < j) g(1 - l_ij (threshold - d_ij^2)),  g(z) = log(1 + exp(beta z)) / beta,

    d_ij the distance of two embedded pixels, l_ij = 1 for the same class, else -1: pixels of one class come nearer
    than threshold - 1, those of different classes go beyond threshold + 1 (squared).

    Parameters
    ----------
    embedded : (N, E) float
    labels : (N,) int64 classes
    threshold : tau, of the squared distance, > 1

    Source: Hu, Lu & Tan, "Discriminative Deep Metric Learning for Face Verification in the Wild", CVPR 2014,
    equations 7 to 9 with beta 10; the norm of the weights there is weight decay here.
    """
    n = len(labels)
    if n < 2:
        return (embedded * 0).sum()
    products = embedded @ embedded.T
    squared = products.diagonal()[:, None] + products.diagonal() - 2 * products
    sign = torch.where(labels[:, None] == labels, 1.0, -1.0)
    loss = F.softplus(1 - sign * (threshold - squared), beta=SHARPNESS)
    return (loss.sum() - loss.diagonal().sum()) / (n * (n - 1))
