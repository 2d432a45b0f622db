"""Training what is behind the features: a metric and a 1x1 layer, on the stroked pixels of one image.

Source: Harada, Hayashi & Bise, EMBC 2019, see `methods.metric_learning`; all but these layers is frozen, so that the
features of the stroked pixels are computed once and training takes seconds.

Where we differ, and why: cross-entropy and the metric's loss are minimised together; the layers begin with the
answer of the model that is adapted, so that few strokes change little. Labels are smoothed: a hundred pixels of
the middles of cells are soon known for certain, and a network that is certain everywhere leaves the cut nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from cellscribble.adapt.network import LastLayer, Layer
from cellscribble.core.errors import TrainingError
from cellscribble.losses.metric import pairwise_distance_loss
from cellscribble.methods.metric_learning import MetricLearningConfig
from cellscribble.nn.metric import Metric

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LearnConfig(MetricLearningConfig):
    """Also steps and their size, lambda of the norm of the weights, and how much of a label is left in doubt."""

    max_pixels_per_class: int = 100
    n_steps: int = 200
    learning_rate: float = 0.003
    weight_decay: float = 0.01
    label_smoothing: float = 0.2


class Classifier(nn.Module):
    """Features (N, F) to logits (N, K), and the embedded features (N, F) on the way."""

    def __init__(self, start: LastLayer) -> None:
        super().__init__()
        n_classes, width = start.classifier[0].shape
        hidden = start.metric[0][0].shape[0] if start.metric else None
        self.metric = Metric(width) if hidden is None else Metric(width, hidden)
        self.classify = nn.Linear(width, n_classes)
        if start.metric is not None:
            _fill(self.metric.first, start.metric[0])
            _fill(self.metric.second, start.metric[1])
        _fill(self.classify, start.classifier)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedded = self.metric(features)
        return self.classify(embedded), embedded

    def last_layer(self) -> LastLayer:
        """The layers as they are stored."""
        return LastLayer((_layer(self.metric.first), _layer(self.metric.second)), _layer(self.classify))

    @torch.inference_mode()
    def probability(self, features: Floats) -> Floats:
        """Softmax without the edge level, (K, *spatial) float32, of features (F, *spatial)."""
        flat = torch.from_numpy(features.reshape(len(features), -1).T)
        out: Floats = torch.softmax(self(flat)[0], dim=1).T.numpy()
        return np.ascontiguousarray(out).reshape(-1, *features.shape[1:])


def learn(
    start: LastLayer, features: Floats, labels: npt.NDArray[np.integer], config: LearnConfig, seed: int
) -> Classifier:
    """Train on stroked pixels; each step sees as many of each class that has strokes.

    Parameters
    ----------
    features : (N, F) float32
    labels : (N,) int, 0..K-1

    Raises
    ------
    TrainingError
        If the loss becomes infinite.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    classifier = Classifier(start)
    optimiser = torch.optim.AdamW(classifier.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.n_steps)
    pixels = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    for _ in range(config.n_steps):
        drawn = np.concatenate([rng.choice(own, config.max_pixels_per_class) for own in pixels])
        target = torch.from_numpy(labels[drawn].astype(np.int64))
        logits, embedded = classifier(torch.from_numpy(features[drawn]))
        metric = pairwise_distance_loss(embedded, target, config.threshold)
        loss = F.cross_entropy(logits, target, label_smoothing=config.label_smoothing) + config.metric_weight * metric
        if not torch.isfinite(loss):
            raise TrainingError(
                "the loss became infinite; the features of this model do not fit the image: train anew"
            )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return classifier.eval()


def _fill(linear: nn.Linear, layer: Layer) -> None:
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(layer[0].copy()))
        linear.bias.copy_(torch.from_numpy(layer[1].copy()))


def _layer(linear: nn.Linear) -> Layer:
    return linear.weight.detach().numpy().copy(), linear.bias.detach().numpy().copy()
