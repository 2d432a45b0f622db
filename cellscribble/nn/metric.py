"""A deep metric: features of pixels to vectors whose distance tells the classes apart."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Metric(nn.Module):
    """Two fully connected layers, added to the features that go in: (N, E) float to (N, E) float.

    The second layer begins at zero, so that the metric begins as the plain distance of the features, and a
    classifier behind it with the answer that it gave without.
    """

    def __init__(self, width: int, hidden: int = 64) -> None:
        super().__init__()
        self.first = nn.Linear(width, hidden)
        self.second = nn.Linear(hidden, width)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = features + self.second(torch.relu(self.first(features)))
        return out
