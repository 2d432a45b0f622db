"""What a method of the literature is here: a few hooks around one shared training loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from cellscribble.data.batch import Batch
from cellscribble.data.samples import Sample
from cellscribble.nn.heads import SoftmaxHead

Predict = Callable[[Sample], npt.NDArray[np.float32]]
"""Un-augmented prediction of a whole training image: probabilities (K, *spatial) float32."""


PAPER_REFRESH_SHARE = 5 / 200


@dataclass(frozen=True, slots=True)
class Progress:
    """Where training is.

    warming_up : True in the first stage, on strokes alone
    refresh_share : the part of the run that lies between two ensembling steps; the default is the
        published one, 5 of 200 epochs
    """

    epoch: int
    warming_up: bool
    refresh_share: float = PAPER_REFRESH_SHARE


@dataclass(frozen=True)
class MethodConfig:
    """A method's own settings; the paper's values are the defaults."""


class Method:
    """Base of all methods: every hook defaults to doing nothing.

    A method owns no loop, no tiler and no device. What it remembers of an image lives in
    `Sample.memory`, which is cropped and flipped with the image; what it remembers of the run
    goes through `state`, so that an interrupted run continues exactly.
    """

    Config: ClassVar[type[MethodConfig]] = MethodConfig
    two_stages: ClassVar[bool] = False
    needs_masks: ClassVar[bool] = False
    segmenter: ClassVar[str] = "instances"

    def __init__(self, config: MethodConfig, n_classes: int) -> None:
        self.config = config
        self.n_classes = n_classes

    def out_channels(self) -> int:
        """Raw channels the network must give."""
        return self.n_classes

    def head(self, edge_level: float) -> nn.Module:
        """Module from raw channels to the exported outputs."""
        return SoftmaxHead(edge_level)

    def memory_layout(self) -> dict[str, tuple[int, float]]:
        """The maps that `loss` reads from a batch: name -> (how many, the value that says nothing)."""
        return {}

    def prepare(self, samples: Sequence[Sample]) -> None:
        """Once, before the first step."""

    def loss(self, network: nn.Module, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Named, weighted terms; the loop sums and logs them."""
        raise NotImplementedError

    def refresh(self, samples: Sequence[Sample], predict: Predict, progress: Progress) -> dict[str, float]:
        """At an ensembling step, with the images whose turn it is. Returns figures for the history."""
        return {}

    def state(self) -> dict[str, Any]:
        """What resuming needs besides `Sample.memory`: plain JSON values."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """The reverse of `state`."""
