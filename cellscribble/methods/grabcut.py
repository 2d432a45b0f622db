"""GrabCut proposals: the strokes are grown to whole labels once, before training, then learnt from.

Source: Rother, Kolmogorov & Blake, "GrabCut: Interactive Foreground Extraction using Iterated Graph Cuts",
SIGGRAPH 2004 (`propagation.grabcut` has the equations and where it differs); training on such proposals is what
the thesis (Lee, UNIST 2021) and Tang et al., ECCV 2018, section 1, compare with.

    L = CE(strokes) + lambda CE(proposals off the strokes)

An image with strokes of background and of a class gets proposals; others give their strokes alone. Errors of the
proposals are learnt with them: where cells have the colour of their surroundings (brightfield) the repeated fit of
colours runs away from the strokes. Mean IoU of the proposals with the masks, strokes 30 %, after 5 rounds as published
and after a single one, in which the colours are those of the strokes: `dsb_bf`, 10 images, .23 and .54; `dsb_histo`, 6
images, .62 and .72 (OpenCV's GrabCut on `dsb_bf`, 5 rounds: .21). `n_rounds = 1` is the first thing to try.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from cellscribble.core.errors import TrainingError
from cellscribble.core.progress import Done, unheard
from cellscribble.data.batch import Batch
from cellscribble.data.label_maps import from_maps, labels_of, to_maps
from cellscribble.data.samples import Sample
from cellscribble.losses.cross_entropy import partial_cross_entropy, stroke_cross_entropy
from cellscribble.methods.base import Method, MethodConfig, Progress
from cellscribble.propagation.grabcut import grabcut

PROPOSALS = "grabcut"


@dataclass(frozen=True)
class GrabCutConfig(MethodConfig):
    """Rounds of GrabCut, at most, and the weight lambda of its proposals."""

    n_rounds: int = 5
    proposal_weight: float = 1.0

    def __post_init__(self) -> None:
        self._check("n_rounds", self.n_rounds >= 1, "1 or more")
        self._check("proposal_weight", self.proposal_weight >= 0, "0 or more")


class GrabCut(Method):
    """`Sample.memory["grabcut"]` holds the proposals as one map a class."""

    Config: ClassVar[type[MethodConfig]] = GrabCutConfig
    config: GrabCutConfig

    def memory_layout(self) -> dict[str, tuple[int, float]]:
        return {PROPOSALS: (self.n_classes, 0)}

    def prepare(self, samples: Sequence[Sample], done: Done = unheard) -> None:
        for sample in samples:
            if (sample.scribbles == 0).any() and (sample.scribbles > 0).any():
                rng = np.random.default_rng(0)
                labels = grabcut(sample.normalised(), sample.scribbles, self.n_classes, self.config.n_rounds, rng)
                sample.memory[PROPOSALS] = to_maps(labels, self.n_classes)
            done(sample.scribbles.size)
        if not any(PROPOSALS in sample.memory for sample in samples):
            raise TrainingError(
                "no image has strokes both of background and of a cell, so no labels can be grown from them; draw "
                "both in one image at least, or choose --method partial_cross_entropy"
            )

    def loss(self, network: nn.Module, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        logits = network(batch.image)
        proposals = from_maps(batch.memory[PROPOSALS], batch.scribbles)
        return {
            "strokes": stroke_cross_entropy(logits, batch.scribbles),
            "proposals": self.config.proposal_weight * partial_cross_entropy(logits, proposals),
        }

    def learnt_labels(self, sample: Sample) -> npt.NDArray[np.int16] | None:
        maps = sample.memory.get(PROPOSALS)
        return None if maps is None else labels_of(maps)
