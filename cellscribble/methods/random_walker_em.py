"""Strokes alone: seed areas by a random walker, then train and relabel in turn, the seeds fixed.

Source: Can et al., "Learning to Segment Medical Images with Scribble-Supervision Alone", DLMIA 2018 (arXiv
1807.04668). Seed areas are where a random walker is surer than tau (section 2.1, `propagation.random_walk`). The
network learns from them (M step); then all training images are labelled by what maximises the posterior under the
network as it is, the seeds kept (E step, section 2.2), and so on: hard expectation maximisation, each turn a
recursion. The E step, `relabel`, is

- "unary": the class of largest probability;
- "crf": mean field in a dense CRF (`nn.mean_field`) with unary term -log f(x), w1, w2, sigma_alpha, sigma_beta,
  sigma_gamma, which a grid search on held-out strokes adapts (`crf_search`);
- "crf_rnn": the same CRF as a layer behind the network, its weights learnt with the network (section 2.4).

With `uncertainty` (section 2.3) dropout of 0.5 acts in the five innermost blocks, a training image is predicted 50
times with it on, and pixels whose two best classes Welch's t-test does not tell apart (p >= 0.05) stay unlabelled.

    L = CE(strokes) + lambda CE(labels off the strokes)     [+ the same of the CRF's output for "crf_rnn"]

Where we differ, and why:
- The walker tires (`propagation.random_walk`): not every cell has a stroke. An image with strokes of one class alone
  has no seed areas; it is labelled from the first recursion on, as images without strokes are.
- Strokes have a term of their own, which keeps them from drowning in seed areas a hundred times as large.
- Training goes on from recursion to recursion with the learning rate of `train.plan`: half of the run on seeds alone,
  then `n_recursions` at equal distances. A time budget has room for fewer passes than 50; not below 10
  (`train.plan.MIN_PASSES`), rather for fewer images. With few passes the test leaves more pixels unlabelled.
- Strokes do not say where a cell ends, and labels of p > 0.5 teach the network its own fat shape. The E step therefore
  decides at the edge level (`segment.edge_level`, measured anew in each recursion, `edge_calibration`), as
  Scribble2Label does; Welch's test then compares the background's probability times level / (1 - level). With
  `edge_snapping` a doubtful rim goes to the image's edges ("unary" alone: a CRF pulls there itself); it gained objects
  on one set and lost pixels on another, so it is off. Both false is the published rule.
- The test is of probabilities, not of logits: these have a constant to each pixel that says nothing.
- The grid is searched one number at a time, by factors of 3, on windows around 8 held-out strokes at most, at the
  first recursion; where strokes cannot tell two values apart the given one stays. The hold-out score then has seen
  these strokes, for five numbers.
- The CRF is not exported, and not run when images are segmented: it looks at all pixels of an image at once, and
  blocks would not equal the whole. So for "crf_rnn" the network's own output has the loss too.
- K classes, two and three dimensions alike. tau, beta, the number of recursions and the CRF's numbers are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cellscribble.core.labels import UNLABELLED
from cellscribble.core.progress import Done, unheard
from cellscribble.data.batch import Batch
from cellscribble.data.label_maps import from_maps, labels_of, to_maps
from cellscribble.data.samples import Sample
from cellscribble.losses.cross_entropy import partial_cross_entropy, stroke_cross_entropy
from cellscribble.methods.base import Method, MethodConfig, Predict, Progress
from cellscribble.methods.crf_search import search_crf
from cellscribble.methods.edges import edge_level, even_choice
from cellscribble.nn.dropout import HookedDropout
from cellscribble.nn.mean_field import CrfRnn, CrfWeights, refine
from cellscribble.nn.resnet_unet import ResNetUNet
from cellscribble.nn.unet import LightUNet
from cellscribble.propagation.certainty import Spread, welch_p
from cellscribble.propagation.random_walk import seed_areas
from cellscribble.segment.edge_level import shift_to_edge
from cellscribble.segment.edge_snap import snap_to_edges

SEEDS, LABELS = "seeds", "labels"
RELABEL = ("unary", "crf", "crf_rnn")
SIGNIFICANT = 0.05

Labels = npt.NDArray[np.int16]


@dataclass(frozen=True)
class RandomWalkerEMConfig(MethodConfig):
    """The walker's numbers; how the E step labels; dropout; and the CRF, or where its search and learning begin."""

    beta: float = 1000.0
    reach_px: float = 10.0
    tau: float = 0.9
    n_recursions: int = 3
    label_weight: float = 1.0
    relabel: str = "unary"
    uncertainty: bool = True
    n_passes: int = 50
    dropout: float = 0.5
    edge_calibration: bool = True
    edge_snapping: bool = False
    crf_search: bool = True
    w1: float = 4.0
    w2: float = 2.0
    sigma_alpha_px: float = 20.0
    sigma_beta: float = 0.08
    sigma_gamma_px: float = 2.0

    def __post_init__(self) -> None:
        self._check("beta", self.beta > 0, "more than 0")
        self._check("reach_px", self.reach_px >= 1, "1 px or more")
        self._check("tau", 0.5 <= self.tau < 1, "a share, 0.5 <= tau < 1")
        self._check("n_recursions", self.n_recursions >= 0, "0 (seed areas alone) or more")
        self._check("label_weight", self.label_weight >= 0, "0 or more")
        self._check("relabel", self.relabel in RELABEL, f"one of {', '.join(RELABEL)}")
        self._check("n_passes", self.n_passes >= 2, "2 or more: one prediction has no spread")
        self._check("dropout", 0 < self.dropout < 1, "0 < dropout < 1; uncertainty = false is without")
        for name in ("w1", "w2"):
            self._check(name, getattr(self, name) >= 0, "0 or more")
        for name in ("sigma_alpha_px", "sigma_beta", "sigma_gamma_px"):
            self._check(name, getattr(self, name) > 0, "more than 0")

    @property
    def crf(self) -> CrfWeights:
        return CrfWeights(self.w1, self.w2, self.sigma_alpha_px, self.sigma_beta, self.sigma_gamma_px)


class RandomWalkerEM(Method):
    """`Sample.memory` holds the seed areas and the labels of the last recursion, as one map a class."""

    Config: ClassVar[type[MethodConfig]] = RandomWalkerEMConfig
    two_stages: ClassVar[bool] = True
    maps_from_the_start: ClassVar[bool] = True
    config: RandomWalkerEMConfig

    def __init__(self, config: MethodConfig, n_classes: int) -> None:
        super().__init__(config, n_classes)
        self.found: CrfWeights | None = None
        self.dropout: HookedDropout | None = None
        self.crf_rnn: CrfRnn | None = None

    def memory_layout(self) -> dict[str, tuple[int, float]]:
        return {LABELS: (self.n_classes, 0)}

    def n_refreshes(self) -> int | None:
        return self.config.n_recursions

    def most_passes(self) -> int:
        return self.config.n_passes if self.config.uncertainty else 1

    def beside(self, network: LightUNet | ResNetUNet) -> nn.Module:
        if self.config.uncertainty:
            seed = torch.initial_seed() % 2**31
            self.dropout = HookedDropout(network.innermost_blocks(), self.config.dropout, seed)
        if self.config.relabel == "crf_rnn":
            self.crf_rnn = CrfRnn(self.n_classes, network.ndim, self.config.crf)
            return self.crf_rnn
        return super().beside(network)

    def prepare(self, samples: Sequence[Sample], done: Done = unheard) -> None:
        without, c = [], self.config
        for sample in samples:
            image, strokes = sample.normalised(), sample.scribbles
            if len(np.unique(strokes[strokes != UNLABELLED])) < 2:
                without.append(sample.name)
            else:
                seeds = seed_areas(image, strokes, self.n_classes, c.beta, c.reach_px, c.tau, sample.image.spacing)
                sample.memory[SEEDS] = to_maps(seeds, self.n_classes)
                sample.memory[LABELS] = sample.memory[SEEDS].copy()
            done(strokes.size)
        self.warnings += _warnings(samples, without, self.n_classes)

    def loss(self, network: nn.Module, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        logits = network(batch.image)
        labels = from_maps(batch.memory[LABELS], batch.scribbles)
        terms = self._terms(logits, batch.scribbles, labels, "")
        if self.crf_rnn is not None:
            log_q = self.crf_rnn(logits, batch.image)
            terms |= self._terms(log_q, batch.scribbles, labels, "_crf")
        return terms

    def _terms(self, logits: Tensor, strokes: Tensor, labels: Tensor, of: str) -> dict[str, Tensor]:
        return {
            f"strokes{of}": stroke_cross_entropy(logits, strokes),
            f"labels{of}": self.config.label_weight * partial_cross_entropy(logits, labels),
        }

    def refresh(self, samples: Sequence[Sample], predict: Predict, progress: Progress) -> dict[str, float]:
        if self.config.relabel == "crf" and self.config.crf_search and self.found is None:
            learnt_from = [sample for sample in samples if LABELS in sample.memory]
            self.found = search_crf(learnt_from, predict, self.config.crf, self.n_classes)
        # The level comes first; of the images on which it is not measured no prediction has to wait for it.
        first = samples[even_choice(samples)] if self.config.edge_calibration else []
        spreads = {id(sample): self._predictions(sample, predict, progress.passes) for sample in first}
        level = edge_level(first, [spreads[id(sample)].mean for sample in first]) if first else 0.5
        n_labelled = n_changed = n_pixels = 0
        for sample in samples:
            before = self.learnt_labels(sample)
            spread = spreads.pop(id(sample), None) or self._predictions(sample, predict, progress.passes)
            labels = self._relabel(sample, spread, level)
            if SEEDS in sample.memory:
                seeds = labels_of(sample.memory[SEEDS])
                labels = np.where(seeds == UNLABELLED, labels, seeds)
            sample.memory[LABELS] = to_maps(labels, self.n_classes)
            n_labelled += int((labels != UNLABELLED).sum())
            n_changed += labels.size if before is None else int((labels != before).sum())
            n_pixels += labels.size
            progress.done(labels.size)
        return {"labelled": n_labelled / n_pixels, "relabelled": n_changed / n_pixels, "edge_level": level}

    def _relabel(self, sample: Sample, spread: Spread, level: float) -> Labels:
        probability = shift_to_edge(spread.mean, level)
        if self.config.edge_snapping and self.config.relabel == "unary":
            probability = snap_to_edges(sample.normalised(), probability)
        logits = np.log(np.maximum(probability, 1e-6))
        if self.config.relabel == "crf":
            logits = refine(logits, sample.normalised(), self.found or self.config.crf)
        elif self.crf_rnn is not None:
            logits = refine(logits, sample.normalised(), self.crf_rnn)
        labels: Labels = logits.argmax(axis=0).astype(np.int16)
        if spread.n > 1:
            labels[welch_p(spread.at_level(level)) >= SIGNIFICANT] = UNLABELLED
        return labels

    def _predictions(self, sample: Sample, predict: Predict, n_passes: int) -> Spread:
        if self.dropout is None:
            return Spread.of(predict(sample))
        with self.dropout.sampled():
            spread = Spread.of(predict(sample))
            for _ in range(n_passes - 1):
                spread.add(predict(sample))
        return spread

    def learnt_labels(self, sample: Sample) -> Labels | None:
        maps = sample.memory.get(LABELS)
        return None if maps is None else labels_of(maps)

    def state(self) -> dict[str, Any]:
        return {
            "n_drawn": 0 if self.dropout is None else self.dropout.n_drawn,
            "crf": None if self.found is None else asdict(self.found),
        }

    def restore(self, state: dict[str, Any]) -> None:
        if self.dropout is not None:
            self.dropout.n_drawn = state["n_drawn"]
        self.found = None if state["crf"] is None else CrfWeights(**state["crf"])


def _warnings(samples: Sequence[Sample], without: Sequence[str], n_classes: int) -> list[str]:
    """Sentences for the user on images and classes whose strokes are too few for seed areas."""
    out = []
    if without:
        shown = ", ".join(without[:3]) + (" ..." if len(without) > 3 else "")
        out.append(
            f"{len(without)} of {len(samples)} images have strokes of fewer than two classes and so no seed areas "
            f"({shown}); draw background and a cell in each"
        )
    for label in range(n_classes):
        drawn = sum(int((s.scribbles == label).sum()) for s in samples)
        grown = sum(int(s.memory[SEEDS][label].sum()) for s in samples if SEEDS in s.memory)
        if drawn and grown < 2 * drawn:
            out.append(
                f"the {drawn} stroked pixels of class {label} have grown to {grown} only; "
                "lower tau or beta in [method_settings], or draw more strokes"
            )
    return out
