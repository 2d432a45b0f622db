"""From raw logits to the named outputs that the exported model has."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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
        # Two ways to write a softmax over channels, for which ONNX Runtime's own takes twenty and five times as long,
        # a twelfth of the light network's time.
        if logits.shape[1] == 2:
            cell = torch.sigmoid(logits[:, 1:] - logits[:, :1] - self.background_bias)
            return {"probability": torch.cat([1 - cell, cell], dim=1)}
        shifted = torch.cat([logits[:, :1] + self.background_bias, logits[:, 1:]], dim=1)
        powers = torch.exp(shifted - shifted.amax(dim=1, keepdim=True))
        return {"probability": powers / powers.sum(dim=1, keepdim=True)}


class TaskHead(nn.Module):
    """Memberships of mixture components to class probabilities, with the edge level built in.

    Each class of cells is a task of its own, that class against all else; a task's memberships are a softmax over
    its components, and a side's probability is the sum over the side's components. The exported classes exclude each
    other: their probabilities are those of the tasks, given that at most one of them says yes, which is a softmax
    over the tasks' logits and 0 for the background. With one class of cells that is the task's own probability.
    """

    def __init__(self, n_components: int, edge_level: float = 0.5) -> None:
        super().__init__()
        self.n_components = n_components
        self.softmax = SoftmaxHead(edge_level)

    def forward(self, raw: Tensor) -> dict[str, Tensor]:
        logits = task_logits(by_task(raw, self.n_components))
        # Padded, not joined to zeros: the exporter would keep the size of these.
        background_first = F.pad(logits, [0, 0] * (logits.ndim - 2) + [1, 0])
        out: dict[str, Tensor] = self.softmax(background_first)
        return out


def by_task(raw: Tensor, n_components: int) -> Tensor:
    """(B, T * 2 * M, *spatial) as (B, T, 2 * M, *spatial): M components outside, then M inside the task's class."""
    return raw.reshape(raw.shape[0], raw.shape[1] // (2 * n_components), 2 * n_components, *raw.shape[2:])


def task_logits(components: Tensor) -> Tensor:
    """(B, T, *spatial) logits of the tasks, of (B, T, 2 * M, *spatial)."""
    outside, inside = components.chunk(2, dim=2)
    return torch.logsumexp(inside, dim=2) - torch.logsumexp(outside, dim=2)


class WithHead(nn.Module):
    """Network and head as one module, as it is exported."""

    def __init__(self, network: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.network, self.head = network, head

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        out: dict[str, Tensor] = self.head(self.network(image))
        return out
