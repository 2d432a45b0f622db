"""What every method owes the loop, whatever its paper: checked for each in two and three dimensions."""

import dataclasses
import importlib
import itertools
import json

import numpy as np
import pytest
import torch

from cellscribble.config import AugmentConfig, TrainConfig, method_settings
from cellscribble.core.errors import InputError
from cellscribble.core.intensity import IntensityRule
from cellscribble.data.batch import Batch, collate
from cellscribble.data.patches import PatchSource
from cellscribble.data.samples import make_sample
from cellscribble.methods.base import Method, Progress
from cellscribble.methods.registry import METHODS, get_method
from cellscribble.nn.build import build_network
from cellscribble.train.predictor import Predictor
from tests.conftest import make_balls, make_disks

CPU = torch.device("cpu")
WARM, LATER = Progress(0, True), Progress(50, False)
CASES = list(itertools.product(METHODS, (2, 3)))


class Case:
    """A method with a network and samples of one kind, prepared as the loop does it."""

    def __init__(self, name: str, ndim: int, n_classes: int = 2) -> None:
        torch.manual_seed(0)
        example = make_disks() if ndim == 2 else make_balls()
        patch_px = (32, 32) if ndim == 2 else (16, 32, 32)
        self.method: Method = get_method(name)(get_method(name).Config(), n_classes)
        # With three classes the cells of the right half are of the second one.
        classes = np.where(np.arange(example.mask.shape[-1]) < example.mask.shape[-1] // 2, 1, n_classes - 1)
        scribbles = np.where(example.scribbles == 1, classes, example.scribbles).astype(np.int16)
        mask = np.where(example.mask > 0, classes, 0).astype(np.int16)
        self.n_classes = n_classes
        self.samples = [make_sample(example.image, scribbles, IntensityRule(), mask)]
        self.network = build_network("light", 1, self.method.out_channels(), ndim, (1.0,) * ndim)
        self.predictor = Predictor(self.network, 1, self.method, CPU) if ndim == 2 else None
        self.source = PatchSource(self.samples, n_classes, patch_px, 0.2, AugmentConfig(scale=1, rotate=False))
        self.rng = np.random.default_rng(0)
        self.beside = self.method.beside(self.network)
        self.method.prepare(self.samples)
        self.source.look_at([0], self.method.memory_layout())

    def predict(self, sample):
        """The answer of a trained network, at no cost; it cannot tell cells of two classes apart."""
        p = np.clip(sample.normalised().mean(axis=0), 0.02, 0.98)
        return np.stack([1 - p, *[p / (self.n_classes - 1)] * (self.n_classes - 1)]).astype(np.float32)

    def batch(self, n: int = 2) -> Batch:
        return collate([self.source.draw(self.rng) for _ in range(n)], CPU)


@pytest.fixture(params=CASES, ids=lambda c: f"{c[0]}-{c[1]}D")
def case(request) -> Case:
    return Case(*request.param)


@pytest.mark.parametrize("progress", [WARM, LATER], ids=["first", "later"])
def test_terms_are_named_finite_and_reach_every_parameter(case, progress):
    case.method.refresh(case.samples, case.predict, progress)
    terms = case.method.loss(case.network, case.batch(), progress)
    assert all(isinstance(name, str) and name.isidentifier() for name in terms)
    assert all(t.ndim == 0 and torch.isfinite(t) for t in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    without = [name for name, p in case.network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


@pytest.mark.parametrize("progress", [WARM, LATER], ids=["first", "later"])
def test_a_batch_without_strokes_gives_a_finite_loss(case, progress):
    case.method.refresh(case.samples, case.predict, progress)
    batch = case.batch()
    batch = dataclasses.replace(batch, scribbles=torch.full_like(batch.scribbles, -1))
    loss = torch.stack(list(case.method.loss(case.network, batch, progress).values())).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in case.network.parameters())


def test_the_loss_falls_on_bright_disks(case):
    optimiser = torch.optim.RAdam([*case.network.parameters(), *case.beside.parameters()], lr=5e-3)
    losses = []
    for step in range(24):
        progress = Progress(step, step < 12)
        if step == 12:
            case.method.refresh(case.samples, case.predict, progress)
        terms = case.method.loss(case.network, case.batch(), progress)
        loss = torch.stack(list(terms.values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(terms.get("strokes", loss).detach()))
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:4])


@pytest.mark.parametrize("name", METHODS)
def test_two_classes_of_cells_are_learnt_too(name):
    case = Case(name, 2, n_classes=3)
    case.method.refresh(case.samples, case.predict, LATER)
    terms = case.method.loss(case.network, case.batch(4), LATER)
    loss = torch.stack(list(terms.values())).sum()
    loss.backward()
    assert torch.isfinite(loss)
    gradient = case.network.classify.weight.grad
    assert (gradient.flatten(1).abs().sum(dim=1) > 0).tolist() == [True] * case.method.out_channels()
    raw = torch.randn(2, case.method.out_channels(), 8, 8)
    probability = case.method.head(0.8)(raw)["probability"]
    assert probability.shape[1] == 3
    torch.testing.assert_close(probability.sum(dim=1), torch.ones(2, 8, 8))
    learnt = case.method.learnt_labels(case.samples[0])
    assert learnt is None or (learnt.shape == (64, 64) and set(np.unique(learnt)) <= {-1, 0, 1, 2})


def test_the_head_sums_to_one(case):
    raw = torch.randn(2, case.method.out_channels(), *(8,) * case.network.ndim)
    out = case.method.head(0.8)(raw)["probability"]
    assert out.shape[1] == 2
    torch.testing.assert_close(out.sum(dim=1), torch.ones_like(out[:, 0]))
    assert (out >= 0).all()


def test_the_state_survives_json(case):
    case.method.refresh(case.samples, case.predict, WARM)
    state = json.loads(json.dumps(case.method.state()))
    case.method.restore(state)
    assert case.method.state() == state


def test_memory_maps_have_the_images_shape(case):
    case.method.refresh(case.samples, case.predict, WARM)
    shape = case.samples[0].scribbles.shape
    for name, values in case.samples[0].memory.items():
        assert "/" not in name
        assert values.shape[-len(shape) :] == shape
        assert values.ndim <= len(shape) + 1


def test_refreshing_gives_figures(case):
    figures = case.method.refresh(case.samples, case.predict, WARM)
    assert all(isinstance(value, float) for value in figures.values())


@pytest.mark.parametrize("name", METHODS)
def test_the_network_can_be_asked_for_whole_images(name):
    case = Case(name, 2)
    probability = case.predictor(case.samples[0])
    assert probability.shape == (2, 64, 64)
    np.testing.assert_allclose(probability.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_config_survives_json_and_refuses_unknown_keys(name):
    settings = get_method(name).Config()
    stored = json.loads(json.dumps(dataclasses.asdict(settings)))
    config = TrainConfig(method=name, method_settings=stored)
    assert method_settings(config, get_method(name).Config) == settings
    with pytest.raises(InputError, match=f"of {name}: unknown setting 'no_such_setting'"):
        method_settings(TrainConfig(method=name, method_settings={"no_such_setting": 1}), get_method(name).Config)


@pytest.mark.parametrize("name", METHODS)
def test_the_docstring_cites_the_paper(name):
    text = importlib.import_module(get_method(name).__module__).__doc__
    assert "Source:" in text
    authors, _, venue = METHODS[name].paper.rpartition(", ")
    assert authors in text
    assert venue in text
