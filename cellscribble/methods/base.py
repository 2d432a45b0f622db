"""What a method of the literature is here: a few hooks around one shared training loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from cellscribble.core.errors import InputError
from cellscribble.core.progress import Done, unheard
from cellscribble.data.batch import Batch
from cellscribble.data.samples import Sample
from cellscribble.nn.heads import SoftmaxHead
from cellscribble.nn.resnet_unet import ResNetUNet
from cellscribble.nn.unet import LightUNet

Predict = Callable[[Sample], npt.NDArray[np.float32]]
"""Un-augmented prediction of a whole training image: probabilities (K, *spatial) float32."""


PAPER_REFRESH_SHARE = 5 / 200


@dataclass(frozen=True, slots=True)
class Progress:
    """Where training is.

    warming_up : True in the first stage, on strokes alone
    refresh_share : the part of the run that lies between two ensembling steps; the default is the
        published one, 5 of 200 epochs
    seed : of what a method draws at random in this step, so that a resumed run draws it again
    passes : predictions of an image that there is time for at an ensembling step, see `Method.most_passes`
    done : told at an ensembling step of the pixels whose labels are made, beside those that are predicted
    """

    epoch: int
    warming_up: bool
    refresh_share: float = PAPER_REFRESH_SHARE
    seed: tuple[int, ...] = (0,)
    passes: int = 1
    done: Done = unheard


@dataclass(frozen=True)
class MethodConfig:
    """A method's own settings; the paper's values are the defaults."""

    def _check(self, name: str, condition: bool, allowed: str) -> None:
        """Refuse a number out of range: `allowed` says what may stand there."""
        if not condition:
            raise InputError(f"{name} is {getattr(self, name)}; expected {allowed}")


class Method:
    """Base of all methods: every hook defaults to doing nothing.

    A method owns no loop, no tiler and no device. What it remembers of an image lives in
    `Sample.memory`, which is cropped and flipped with the image; what it remembers of the run
    goes through `state`, so that an interrupted run continues exactly.
    """

    Config: ClassVar[type[MethodConfig]] = MethodConfig
    two_stages: ClassVar[bool] = False
    """Strokes alone first, then what the method adds."""
    maps_from_the_start: ClassVar[bool] = False
    """The maps of `memory_layout` are learnt from in the first of two stages too."""
    average: ClassVar[str | None] = None
    """The map in `Sample.memory` that is an average of the image's predictions, (K-1, *spatial) without background."""
    needs_masks: ClassVar[bool] = False
    """Learns from dense labels; no other method may see them."""
    segmenter: ClassVar[str] = "instances"

    def __init__(self, config: MethodConfig, n_classes: int) -> None:
        self.config = config
        self.n_classes = n_classes
        self.warnings: list[str] = []
        """Sentences for the user, by `prepare`."""

    def out_channels(self) -> int:
        """Raw channels the network must give."""
        return self.n_classes

    def head(self, edge_level: float) -> nn.Module:
        """Module from raw channels to the exported outputs."""
        return SoftmaxHead(edge_level)

    def memory_layout(self) -> dict[str, tuple[int, float]]:
        """The maps that `loss` reads from a batch: name -> (how many, the value that says nothing)."""
        return {}

    def beside(self, network: LightUNet | ResNetUNet) -> nn.Module:
        """What is trained beside the network and not exported; called once, before the first step."""
        return nn.ModuleDict()

    def prepare(self, samples: Sequence[Sample], done: Done = unheard) -> None:
        """Once, before the first step; not again when a run is resumed. `done` hears of the pixels that are done."""

    def n_refreshes(self) -> int | None:
        """Ensembling steps of a run of two stages; None for the plan's own number."""
        return None

    def most_passes(self) -> int:
        """Predictions of each image at an ensembling step; a time budget may have room for fewer."""
        return 1

    def loss(self, network: nn.Module, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Named, weighted terms; the loop sums and logs them."""
        raise NotImplementedError

    def refresh(self, samples: Sequence[Sample], predict: Predict, progress: Progress) -> dict[str, float]:
        """At an ensembling step, with the images whose turn it is. Returns figures for the history.

        `predict` may raise, to stop: maps in `Sample.memory` are replaced and never changed in place, so that
        the caller can take back what was done.
        """
        return {}

    def learnt_labels(self, sample: Sample) -> npt.NDArray[np.int16] | None:
        """What the network is taught off the strokes, for the pictures of the run: (*spatial), -1 unsure;
        None where the method keeps nothing of an image."""
        return None

    def state(self) -> dict[str, Any]:
        """What resuming needs besides `Sample.memory`: plain JSON values."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """The reverse of `state`."""
