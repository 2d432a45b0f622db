import dataclasses

import numpy as np
import pytest
import torch

from cellscribble.bundle import open_model
from cellscribble.core.errors import InputError
from cellscribble.data.batch import Batch
from cellscribble.export.onnx import export
from cellscribble.infer.predict import predict
from cellscribble.losses.mixture import component_means, mixture_loss
from cellscribble.methods.base import Progress
from cellscribble.methods.blind_spot_base import BlindSpotBase, BlindSpotBaseConfig, hide_some
from cellscribble.methods.impartial import ImPartial, ImPartialConfig
from cellscribble.nn.build import build_network
from cellscribble.nn.heads import by_task
from cellscribble.train.run import train
from tests.conftest import make_balls, make_disks
from tests.train.runs import Quiet, training_set

PROGRESS = Progress(0, False, seed=(3, 4))


def make_batch() -> Batch:
    torch.manual_seed(1)
    return Batch(torch.rand(2, 3, 32, 32), torch.randint(-1, 3, (2, 32, 32)), None, {})


def make_method(**settings) -> tuple[ImPartial, torch.nn.Module]:
    torch.manual_seed(0)
    method = ImPartial(ImPartialConfig(**settings), 3)
    return method, build_network("light", 3, method.out_channels(), 2).eval()


def test_defaults_are_the_papers_and_a_width_of_ours():
    config = ImPartialConfig()
    assert (config.mixture_weight, config.blind_share, config.radius_px, config.n_components) == (0.1, 0.05, 5, 2)
    assert config.sigma_intensity == 0.2


def test_the_strokes_have_the_weight_that_the_mixture_leaves():
    method, network = make_method(mixture_weight=0.01)
    terms = method.loss(network, make_batch(), PROGRESS)
    base = BlindSpotBase(BlindSpotBaseConfig(), 3).loss(network, make_batch(), PROGRESS)
    assert list(terms) == ["strokes", "mixture"]
    torch.testing.assert_close(terms["strokes"], 0.99 * base["strokes"])


def test_hidden_pixels_are_explained_by_the_means_of_what_is_seen_of_their_own_patch():
    method, network = make_method()
    batch = make_batch()
    spots = hide_some(batch, method.config, PROGRESS)
    seen = spots.hide(batch.image)
    raw = network(seen)
    terms = []
    sigma = method.config.sigma_intensity
    for patch, y, x in np.array(np.unravel_index(spots.hidden.numpy(), (2, 32, 32))).T:
        truth = batch.image[patch, :, y, x][None]
        for task in range(2):
            components = raw[patch, 4 * task : 4 * task + 4][None, None]
            means = component_means(components, seen[patch][None])
            terms.append(mixture_loss(components[..., y, x].log_softmax(-1), means, truth, sigma))
    found = method.loss(network, batch, PROGRESS)["mixture"]
    torch.testing.assert_close(found, 0.1 * torch.stack(terms).mean())


def test_the_mixture_finds_the_intensities_of_dark_cells_without_any_stroke():
    # Dark squares of .2 on a background of .8: the components must settle on both.
    method = ImPartial(ImPartialConfig(n_components=1, mixture_weight=0.9), 2)
    torch.manual_seed(0)
    network = build_network("light", 1, method.out_channels(), 2)
    y, x = np.indices((32, 32)) // 8 % 2
    image = torch.from_numpy(np.where((y + x) % 2, 0.2, 0.8)).float().expand(4, 1, 32, 32)
    batch = Batch(image, torch.full((4, 32, 32), -1), None, {})
    optimiser = torch.optim.RAdam(network.parameters(), lr=1e-2)
    for step in range(100):
        loss = method.loss(network, batch, Progress(0, False, seed=(step,)))["mixture"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        found = component_means(by_task(network(image), 1), image)[0].flatten()
    np.testing.assert_allclose(sorted(found.tolist()), [0.2, 0.8], atol=0.05)


@pytest.mark.parametrize(("make", "axes"), [(make_disks, 2), pytest.param(make_balls, 3, marks=pytest.mark.slow)])
def test_two_channels_and_two_classes_train_export_and_predict(make, axes, tiny_config, tmp_path):
    examples = []
    for seed in (0, 1):
        example = make(seed, n_channels=2)
        right = np.arange(example.mask.shape[-1]) >= example.mask.shape[-1] // 2
        examples.append(example._replace(scribbles=np.where((example.scribbles == 1) & right, 2, example.scribbles)))
    data = dataclasses.replace(
        training_set(*examples), classes=("background", "a", "b"), colors=((0, 0, 0), (255, 0, 0), (0, 255, 0))
    )
    config = dataclasses.replace(tiny_config, method="impartial", epochs=2)
    train(data, config, tmp_path / "run", Quiet())
    model, comparisons = export(tmp_path / "run", tmp_path / "model.onnx")
    assert max(c.largest_difference for c in comparisons) < 1e-4
    found = predict(examples[0].image, open_model(model.path))
    assert np.asarray(found.probability).shape == (3, *examples[0].mask.shape)
    np.testing.assert_allclose(np.asarray(found.probability).sum(axis=0), 1, atol=1e-5)
    assert np.asarray(found.labels).ndim == axes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mixture_weight": 1.0}, r"mixture_weight is 1.0; expected 0 <= weight < 1 \(published: 0.01 to 0.1\)"),
        ({"sigma_intensity": 0.0}, "sigma_intensity is 0.0; expected more than 0"),
        ({"n_components": 0}, "n_components is 0; expected 1 or more"),
    ],
)
def test_numbers_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        ImPartialConfig(**settings)
