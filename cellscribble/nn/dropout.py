"""Dropout that is put on a network from outside and can stay on for prediction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class HookedDropout:
    """Zeroes a share of what comes out of some blocks, and scales the rest (Srivastava et al., JMLR 2014).

    It hangs on the blocks as a hook: the network keeps its parameters and their names, and the exported one, which is
    built anew, has none of it. Every mask has its own number, from which it is drawn: `n_drawn` is all the
    state there is, so that a resumed run draws what the uninterrupted one does.

    share : of the values that are zeroed
    seed : of all masks
    """

    def __init__(self, blocks: Sequence[nn.Module], share: float, seed: int) -> None:
        self.share, self.seed = share, seed
        self.n_drawn = 0
        self.sampling = False
        for block in blocks:
            block.register_forward_hook(self.drop)

    def drop(self, block: nn.Module, inputs: Any, out: Tensor) -> Tensor:
        """While the network trains, or within `sampled`; else nothing."""
        if not (block.training or self.sampling):
            return out
        # On the CPU everywhere: the same masks on every device.
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + self.n_drawn)
        self.n_drawn += 1
        keep = torch.rand(out.shape, generator=generator) >= self.share
        return out * (keep.to(out.device) / (1 - self.share))

    @contextmanager
    def sampled(self) -> Iterator[None]:
        """Within, predictions are random draws too (Gal & Ghahramani, ICML 2016)."""
        self.sampling = True
        try:
            yield
        finally:
            self.sampling = False
