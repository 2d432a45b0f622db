import dataclasses

import numpy as np
import pytest
import torch

from cellscribble.core.errors import InputError
from cellscribble.data.batch import Batch
from cellscribble.export.onnx import export
from cellscribble.losses.contrastive import grid_labels, pairwise_contrast
from cellscribble.methods.base import Progress
from cellscribble.methods.multiscale_contrastive import (
    MultiscaleContrastive,
    MultiscaleContrastiveConfig,
    projection_head,
)
from cellscribble.methods.scribble2label import EMA, Scribble2Label, Scribble2LabelConfig, pseudo_labels
from cellscribble.nn.build import build_network
from cellscribble.train.checkpoint import load_state
from cellscribble.train.run import train
from tests.train.runs import Quiet, make_fit, training_set

WARM, LATER = Progress(0, True), Progress(9, False)


def make_batch() -> Batch:
    torch.manual_seed(1)
    strokes = torch.full((2, 32, 32), -1)
    strokes[:, 4:7, 4:20] = 1
    strokes[:, 20:22] = 0
    return Batch(torch.rand(2, 1, 32, 32), strokes, None, {EMA: torch.rand(2, 1, 32, 32)})


def test_defaults_are_the_papers_but_for_the_pixels():
    config = MultiscaleContrastiveConfig()
    assert (config.fine_weight, config.fine_temperature) == (0.5, 0.3)
    assert (config.coarse_weight, config.coarse_temperature) == (10, 0.1)
    assert (config.variant, config.tau, config.alpha) == ("both", 0.8, 0.2)


@pytest.mark.parametrize("name", ["light", "resnet34"])
def test_scribble2label_and_a_term_a_scale_on_the_right_layers(name):
    torch.manual_seed(0)
    network = build_network(name, 1, 2, 2).eval()
    method = MultiscaleContrastive(MultiscaleContrastiveConfig(), 2)
    heads = method.beside(network).eval()
    batch = make_batch()
    plain = Scribble2Label(Scribble2LabelConfig(), 2)
    assert method.loss(network, batch, WARM) == plain.loss(network, batch, WARM)
    terms = method.loss(network, batch, LATER)
    for term, value in plain.loss(network, batch, LATER).items():
        torch.testing.assert_close(terms.pop(term), value)
    assert list(terms) == ["contrast_fine", "contrast_coarse"]
    maps = network.decode(batch.image)
    assert maps[-3].shape[2:] == (8, 8)
    torch.testing.assert_close(network.classify(maps[-1]), network(batch.image))
    pseudo = pseudo_labels(batch.memory[EMA], batch.scribbles, 0.8)
    labels = torch.where(batch.scribbles == -1, pseudo, batch.scribbles)
    fine = pairwise_contrast(heads["fine"](maps[-1]), labels, 0.3, 1000)
    coarse = pairwise_contrast(heads["coarse"](maps[-3]), grid_labels(labels, (4, 4)), 0.1, 1000)
    torch.testing.assert_close(terms["contrast_fine"], 0.5 * fine)
    torch.testing.assert_close(terms["contrast_coarse"], 10 * coarse)


@pytest.mark.parametrize(("variant", "scales"), [("r1", ["fine"]), ("r4", ["coarse"]), ("both", ["fine", "coarse"])])
def test_variants_have_their_scales_alone(variant, scales):
    network = build_network("light", 1, 2, 2)
    method = MultiscaleContrastive(MultiscaleContrastiveConfig(variant=variant), 2)
    assert list(method.beside(network)) == scales
    assert list(method.loss(network, make_batch(), LATER)) == ["strokes", "pseudo", *(f"contrast_{s}" for s in scales)]


def test_a_head_can_turn_two_classes_away_from_each_other():
    torch.manual_seed(0)
    head = projection_head(2, 8)
    labels = (torch.arange(256) % 2).reshape(1, 16, 16)
    maps = torch.rand(1, 8, 16, 16) + 2 * torch.stack([labels, 1 - labels] * 4, dim=1)
    optimiser = torch.optim.Adam(head.parameters(), 0.03)
    for _ in range(100):
        loss = pairwise_contrast(head(maps), labels, 0.1, 100)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    # Features that are nowhere negative cannot do better than right angles: log 2 for half of the pairs.
    assert loss.item() < 0.1 * np.log(2) / 2


def test_heads_learn_are_kept_for_resuming_and_are_not_exported(tiny_config, tmp_path):
    config = dataclasses.replace(tiny_config, method="multiscale_contrastive", epochs=2)
    fresh = make_fit(config, tmp_path / "fresh", Quiet()).beside.state_dict()
    train(training_set(), config, tmp_path / "run", Quiet())
    kept, _ = load_state(tmp_path / "run" / "last.pt", torch.device("cpu"))
    assert kept["beside"].keys() == fresh.keys()
    assert not torch.equal(kept["beside"]["fine.0.weight"], fresh["fine.0.weight"])
    again = make_fit(config, tmp_path / "run", Quiet())
    again.resume()
    for name, value in again.beside.state_dict().items():
        assert torch.equal(value, kept["beside"][name]), name
    exported, _ = load_state(tmp_path / "run" / "best.pt", torch.device("cpu"))
    assert exported["network"].keys() == again.network.state_dict().keys()
    _, comparisons = export(tmp_path / "run", tmp_path / "model.onnx")
    assert max(c.largest_difference for c in comparisons) < 1e-4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"variant": "r2"}, "variant is r2; expected one of r1, r4, both"),
        ({"fine_temperature": 0.0}, "fine_temperature is 0.0; expected more than 0"),
        ({"coarse_weight": -1.0}, "coarse_weight is -1.0; expected 0 or more"),
        ({"max_pixels_per_class": 0}, "max_pixels_per_class is 0; expected 1 or more"),
        ({"tau": 0.2}, "tau is 0.2; expected a probability"),
    ],
)
def test_numbers_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        MultiscaleContrastiveConfig(**settings)
