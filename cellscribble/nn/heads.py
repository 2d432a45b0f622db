"""From raw logits to the named outputs that the exported model has."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class SoftmaxHead(nn.Module):
    """Softmax with the edge level built in.

    `edge_level` is the foreground probability at which the image's edges lie (see
    `segment.edge_level`). Its logit is added to the background's logit, so that the exported
    probability is 0.5 where the edge is: with two classes logit p' = logit p - logit t.
    """

    background_bias: Tensor

    def __init__(self, edge_level: float = 0.5) -> None:
        super().__init__()
        bias = math.log(edge_level) - math.log1p(-edge_level)
        self.register_buffer("background_bias", torch.tensor(bias))

    def forward(self, logits: Tensor) -> dict[str, Tensor]:
        shifted = torch.cat([logits[:, :1] + self.background_bias, logits[:, 1:]], dim=1)
        return {"probability": torch.softmax(shifted, dim=1)}


class WithHead(nn.Module):
    """Network and head as one module, as it is exported."""

    def __init__(self, network: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.network, self.head = network, head

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        out: dict[str, Tensor] = self.head(self.network(image))
        return out
