import dataclasses

import numpy as np
import pytest
import torch

from cellscribble.core.errors import InputError
from cellscribble.data.batch import Batch
from cellscribble.export.onnx import export
from cellscribble.losses.cross_entropy import stroke_cross_entropy
from cellscribble.methods.base import Progress
from cellscribble.methods.blind_spot_base import hide_some
from cellscribble.methods.denoiseg import DenoiSeg, DenoiSegConfig
from cellscribble.nn.build import build_network
from cellscribble.train.checkpoint import load_state
from cellscribble.train.run import train
from tests.train.runs import Quiet, training_set

PROGRESS = Progress(0, False, seed=(3, 4))


def make_batch(*spatial: int) -> Batch:
    torch.manual_seed(1)
    # Channels of very different contrast.
    image = torch.rand(2, 2, *spatial) * torch.tensor([1.0, 0.01]).reshape(2, *[1] * len(spatial))
    return Batch(image, torch.randint(-1, 2, (2, *spatial)), None, {})


def test_defaults_are_the_papers():
    config = DenoiSegConfig()
    assert (config.alpha, config.blind_share, config.radius_px) == (0.5, 0.015, 5)


@pytest.mark.parametrize("spatial", [(32, 32), (16, 32, 32)])
def test_terms_by_hand(spatial):
    method = DenoiSeg(DenoiSegConfig(alpha=0.25), 2)
    torch.manual_seed(0)
    network = build_network("light", 2, method.out_channels(), len(spatial)).eval()
    layer = method.beside(network)
    batch = make_batch(*spatial)
    terms = method.loss(network, batch, PROGRESS)
    spots = hide_some(batch, method.config, PROGRESS)
    seen = spots.hide(batch.image)
    torch.testing.assert_close(terms["strokes"], 0.75 * stroke_cross_entropy(network(seen), batch.scribbles))
    guess = layer(network.decode(seen)[-1].movedim(1, -1)).movedim(-1, 1)
    expected = []
    for channel in range(2):
        x = batch.image[:, channel]
        truth = (x - x.mean()) / max(0.01, x.std())
        expected.append(spots.at_hidden((guess[:, channel] - truth)[:, None]).square().mean())
    torch.testing.assert_close(terms["denoising"], 0.25 * torch.stack(expected).mean())


def test_a_constant_channel_does_not_blow_up():
    method = DenoiSeg(DenoiSegConfig(), 2)
    network = build_network("light", 2, 2, 2)
    method.beside(network)
    batch = make_batch(32, 32)
    terms = method.loss(network, dataclasses.replace(batch, image=torch.zeros_like(batch.image)), PROGRESS)
    assert all(torch.isfinite(term) for term in terms.values())


def test_denoising_learns_without_strokes():
    method = DenoiSeg(DenoiSegConfig(), 2)
    torch.manual_seed(0)
    network = build_network("light", 1, 2, 2)
    layer = method.beside(network)
    smooth = torch.sin(torch.arange(32) / 4.0).expand(4, 1, 32, 32)
    batch = Batch(smooth + 0.1 * torch.randn(4, 1, 32, 32), torch.full((4, 32, 32), -1), None, {})
    optimiser = torch.optim.RAdam([*network.parameters(), *layer.parameters()], lr=1e-2)
    losses = []
    for step in range(80):
        terms = method.loss(network, batch, Progress(0, False, seed=(step,)))
        assert terms["strokes"] == 0
        optimiser.zero_grad()
        sum(terms.values()).backward()
        optimiser.step()
        losses.append(terms["denoising"].item())
    # At first no better than the mean, which is 0.5 (alpha); in the end much of the signal.
    assert np.mean(losses[-8:]) < 0.15


def test_the_denoising_layer_is_trained_kept_for_resuming_and_not_exported(tiny_config, tmp_path):
    config = dataclasses.replace(tiny_config, method="denoiseg", epochs=2)
    train(training_set(), config, tmp_path / "run", Quiet())
    kept, _ = load_state(tmp_path / "run" / "last.pt", torch.device("cpu"))
    assert kept["beside"]["weight"].shape == (1, 16)
    exported, _ = load_state(tmp_path / "run" / "best.pt", torch.device("cpu"))
    assert exported["network"].keys() == build_network("light", 1, 2, 2).state_dict().keys()
    _, comparisons = export(tmp_path / "run", tmp_path / "model.onnx")
    assert max(c.largest_difference for c in comparisons) < 1e-4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 1.0}, "alpha is 1.0; expected 0 <= alpha < 1"),
        ({"blind_share": 1.0}, "blind_share is 1.0; expected a share of the pixels"),
    ],
)
def test_numbers_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        DenoiSegConfig(**settings)
