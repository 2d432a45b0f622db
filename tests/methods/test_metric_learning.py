import dataclasses

import pytest
import torch

from cellscribble.core.errors import InputError
from cellscribble.data.batch import Batch
from cellscribble.losses.cross_entropy import stroke_cross_entropy
from cellscribble.losses.metric import pairwise_distance_loss
from cellscribble.methods.base import Progress
from cellscribble.methods.metric_learning import MetricLearning, MetricLearningConfig
from cellscribble.nn.build import build_network
from cellscribble.nn.metric import Metric

NOW = Progress(0, True)


def make_batch() -> Batch:
    torch.manual_seed(1)
    strokes = torch.full((2, 32, 32), -1)
    strokes[:, 4:7, 4:20] = 1
    strokes[:, 20:22] = 0
    return Batch(torch.rand(2, 1, 32, 32), strokes, None, {})


@pytest.mark.parametrize("name", ["light", "multi_field", "resnet34"])
def test_the_metric_sees_the_features_of_stroked_pixels(name):
    torch.manual_seed(0)
    network = build_network(name, 1, 2, 2).eval()
    method = MetricLearning(MetricLearningConfig(metric_weight=0.5), 2)
    method.beside(network)
    batch = make_batch()
    terms = method.loss(network, batch, NOW)
    torch.testing.assert_close(terms["strokes"], stroke_cross_entropy(network(batch.image), batch.scribbles))
    # All 96 pixels of cells and 128 of background enter: fewer than 200 of each. The metric begins as no change.
    at = batch.scribbles >= 0
    features = network.decode(batch.image)[-1].movedim(1, -1)[at]
    expected = 0.5 * pairwise_distance_loss(features, batch.scribbles[at], 3.0)
    torch.testing.assert_close(terms["metric"], expected)


def test_so_many_pixels_of_a_class_enter_at_most():
    torch.manual_seed(0)
    network = build_network("light", 1, 2, 2).eval()
    method = MetricLearning(MetricLearningConfig(max_pixels_per_class=1, metric_weight=1), 2)
    method.beside(network)
    batch = make_batch()
    features = network.decode(batch.image)[-1]
    one, other = features[0, :, 4, 4], features[0, :, 20, 0]
    expected = pairwise_distance_loss(torch.stack([one, other]), torch.tensor([1, 0]), 3.0)
    torch.testing.assert_close(method.loss(network, batch, NOW)["metric"], expected)


def test_a_metric_begins_as_the_features_and_learns_both_layers():
    torch.manual_seed(0)
    metric, features = Metric(4), torch.randn(6, 4)
    torch.testing.assert_close(metric(features), features)
    labels = torch.arange(6) % 2
    before = [p.detach().clone() for p in metric.parameters()]
    optimiser = torch.optim.SGD(metric.parameters(), lr=0.1)
    for _ in range(2):
        optimiser.zero_grad()
        pairwise_distance_loss(metric(features), labels, 3.0).backward()
        optimiser.step()
    assert not any(torch.equal(a, b) for a, b in zip(before, metric.parameters(), strict=True))


@pytest.mark.parametrize("change", [{"metric_weight": -1}, {"threshold": 1.0}, {"max_pixels_per_class": 0}])
def test_numbers_out_of_range_are_refused(change):
    with pytest.raises(InputError, match=next(iter(change))):
        dataclasses.replace(MetricLearningConfig(), **change)
