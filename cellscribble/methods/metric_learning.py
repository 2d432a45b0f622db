"""Metric learning: strokes, and a distance between features of pixels that tells the classes apart.

Source: Harada, Hayashi & Bise, "Scribbles for Metric Learning in Histological Image Segmentation", EMBC 2019: a
network of several fields of view (`nn.multi_field`, --network multi_field) is trained first; then strokes on the
very image that is to be segmented train a discriminative metric, fully connected layers over its last features,
and a 1x1 layer behind it, while the rest is frozen; last comes a graph cut. The second and the last step are
`cellscribble adapt` (`adapt`, `segment.graph_cut`), which takes a model of any method. This method is the first:

    L = CE(strokes) + lambda L_metric,

L_metric the generalised logistic loss over pairs of stroked pixels (`losses.metric`), with the threshold tau.

Where we differ, and why:
- The paper learns from masks first; here are strokes, and the metric is trained along, so that the features are
  fit for it. Its layers (`nn.metric`) stand beside the network and are not exported: `adapt` begins its own.
- The weights of the loss are ours; of a class at most 200 pixels a step enter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from cellscribble.data.batch import Batch
from cellscribble.losses.contrastive import every
from cellscribble.losses.cross_entropy import stroke_cross_entropy
from cellscribble.losses.metric import pairwise_distance_loss
from cellscribble.methods.base import Method, MethodConfig, Progress
from cellscribble.nn.metric import Metric
from cellscribble.nn.resnet_unet import ResNetUNet
from cellscribble.nn.unet import LightUNet


@dataclass(frozen=True)
class MetricLearningConfig(MethodConfig):
    """Weight lambda of the metric's loss, its threshold tau, and pixels of a class that enter."""

    metric_weight: float = 0.1
    threshold: float = 3.0
    max_pixels_per_class: int = 200

    def __post_init__(self) -> None:
        self._check("metric_weight", self.metric_weight >= 0, "0 or more")
        self._check("threshold", self.threshold > 1, "more than 1")
        self._check("max_pixels_per_class", self.max_pixels_per_class >= 1, "1 or more")


class MetricLearning(Method):
    """The metric stands beside the network."""

    Config: ClassVar[type[MethodConfig]] = MetricLearningConfig
    config: MetricLearningConfig

    def beside(self, network: LightUNet | ResNetUNet) -> nn.Module:
        self.metric = Metric(network.decoder_widths[-1])
        return self.metric

    def loss(self, network: nn.Module, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        assert isinstance(network, LightUNet | ResNetUNet)
        features = network.decode(batch.image)[-1]
        labels = batch.scribbles.flatten()
        most = self.config.max_pixels_per_class
        drawn = torch.cat([every(labels == label, most) for label in range(self.n_classes)])
        embedded = self.metric(features.movedim(1, -1).flatten(0, -2)[drawn])
        metric = pairwise_distance_loss(embedded, labels[drawn], self.config.threshold)
        return {
            "strokes": stroke_cross_entropy(network.classify(features), batch.scribbles),
            "metric": self.config.metric_weight * metric,
        }
