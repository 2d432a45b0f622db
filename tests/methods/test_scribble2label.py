import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cellscribble.core.intensity import IntensityRule
from cellscribble.data.batch import Batch
from cellscribble.data.samples import make_sample
from cellscribble.losses.cross_entropy import partial_cross_entropy, stroke_cross_entropy
from cellscribble.methods.base import Progress
from cellscribble.methods.scribble2label import EMA, Scribble2Label, Scribble2LabelConfig, pseudo_labels

WARM, LATER = Progress(0, True), Progress(5, False)
UNCALIBRATED = {"edge_calibration": False, "edge_snapping": False}  # as published


def constant(*classes: float):
    """A predictor that gives these probabilities at every pixel."""
    return lambda sample: np.stack([np.full(sample.scribbles.shape, p, np.float32) for p in classes])


@pytest.fixture
def sample(disks_2d):
    return make_sample(disks_2d.image, disks_2d.scribbles, IntensityRule())


def test_defaults_are_the_papers():
    config = Scribble2LabelConfig()
    assert (config.tau, config.alpha, config.pseudo_weight) == (0.8, 0.2, 0.5)


def test_the_first_average_is_a_copy_of_the_first_prediction(sample):
    method = Scribble2Label(Scribble2LabelConfig(**UNCALIBRATED), 2)
    prediction = np.random.default_rng(0).dirichlet([1, 1], 64 * 64).T.reshape(2, 64, 64).astype(np.float32)
    method.refresh([sample], lambda s: prediction, WARM)
    np.testing.assert_allclose(sample.memory[EMA], prediction[1:], atol=1e-6)
    kept = sample.memory[EMA].copy()
    prediction[:] = 0
    np.testing.assert_array_equal(sample.memory[EMA], kept)


def test_the_average_by_hand(sample):
    method = Scribble2Label(Scribble2LabelConfig(alpha=0.2, **UNCALIBRATED), 2)
    seen = []
    for p in (1.0, 0.5, 0.0):
        method.refresh([sample], constant(1 - p, p), WARM)
        seen.append(float(sample.memory[EMA][0, 3, 4]))
    # y0 = 1; y1 = .2 * .5 + .8 * 1 = .9; y2 = .2 * 0 + .8 * .9 = .72
    np.testing.assert_allclose(seen, [1, 0.9, 0.72], atol=1e-5)


def test_with_three_classes_each_foreground_class_is_averaged(sample):
    method = Scribble2Label(Scribble2LabelConfig(alpha=0.5, **UNCALIBRATED), 3)
    method.refresh([sample], constant(0.2, 0.5, 0.3), WARM)
    method.refresh([sample], constant(0.0, 0.1, 0.9), WARM)
    assert sample.memory[EMA].shape == (2, 64, 64)
    np.testing.assert_allclose(sample.memory[EMA][:, 0, 0], [0.3, 0.6], atol=1e-5)


def ema(*pixels: float) -> torch.Tensor:
    return torch.tensor(pixels).reshape(1, 1, 1, -1)


def test_pseudo_labels_by_hand_for_two_classes():
    y = ema(0.9, 0.81, 0.79, 0.5, 0.21, 0.19, 0.1)
    scribbles = torch.full((1, 1, 7), -1)
    assert pseudo_labels(y, scribbles, 0.8).tolist() == [[[1, 1, -1, -1, -1, 0, 0]]]


def test_pseudo_labels_by_hand_for_three_classes():
    # background, class 1, class 2:  (.1 .85 .05)  (.1 .45 .45)  (.85 .1 .05)  (.0 .1 .9)
    y = torch.tensor([[0.85, 0.45, 0.1, 0.1], [0.05, 0.45, 0.05, 0.9]]).reshape(1, 2, 1, 4)
    assert pseudo_labels(y, torch.full((1, 1, 4), -1), 0.8).tolist() == [[[1, -1, 0, 2]]]


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), k=st.integers(2, 4), ndim=st.sampled_from([2, 3]), tau=st.floats(0.5, 0.99))
def test_stroked_pixels_get_none_and_unsure_pixels_neither(seed, k, ndim, tau):
    rng = np.random.default_rng(seed)
    y = rng.dirichlet(0.3 * np.ones(k), (2, *(4,) * ndim)).astype(np.float32)
    scribbles = torch.from_numpy(rng.integers(-1, k, y.shape[:-1]))
    labels = pseudo_labels(torch.from_numpy(np.moveaxis(y, -1, 1)[:, 1:].copy()), scribbles, tau)
    assert (labels[scribbles >= 0] == -1).all()
    sure = y.max(axis=-1) > tau + 1e-5
    free = scribbles.numpy() < 0
    np.testing.assert_array_equal(labels.numpy()[sure & free], y.argmax(axis=-1)[sure & free])
    assert (labels.numpy()[y.max(axis=-1) < tau - 1e-5] == -1).all()


def batch_of(scribbles: torch.Tensor, y: torch.Tensor | None) -> Batch:
    return Batch(torch.rand(1, 1, *scribbles.shape[1:]), scribbles, None, {} if y is None else {EMA: y})


def test_the_pseudo_term_comes_after_the_warm_up_with_its_weight():
    network = torch.nn.Conv2d(1, 2, 1)
    method = Scribble2Label(Scribble2LabelConfig(pseudo_weight=0.5), 2)
    scribbles = torch.tensor([[[1, -1, -1, 0]]])
    batch = batch_of(scribbles, ema(0.95, 0.95, 0.02, 0.95))
    assert list(method.loss(network, batch, WARM)) == ["strokes"]
    terms = method.loss(network, batch, LATER)
    logits = network(batch.image)
    torch.testing.assert_close(terms["strokes"], stroke_cross_entropy(logits, scribbles))
    torch.testing.assert_close(terms["pseudo"], 0.5 * partial_cross_entropy(logits, torch.tensor([[[-1, 1, 0, -1]]])))


def test_nowhere_sure_gives_zero_not_nan():
    network = torch.nn.Conv2d(1, 2, 1)
    method = Scribble2Label(Scribble2LabelConfig(), 2)
    terms = method.loss(network, batch_of(torch.full((1, 1, 3), -1), ema(0.5, 0.6, 0.4)), LATER)
    assert {name: value.item() for name, value in terms.items()} == {"strokes": 0, "pseudo": 0}
    sum(terms.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_the_edge_level_is_reported_and_built_into_the_average(sample):
    method = Scribble2Label(Scribble2LabelConfig(), 2)
    figures = method.refresh([sample], constant(0.3, 0.7), WARM)
    # A flat prediction has no contour, so no evidence: nothing moves.
    assert figures == {"edge_level": 0.5}
    np.testing.assert_allclose(sample.memory[EMA], 0.7, atol=1e-5)
