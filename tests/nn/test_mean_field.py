import numpy as np
import pytest
import torch

from cellscribble.nn import mean_field as module
from cellscribble.nn.mean_field import CrfRnn, CrfWeights, Kernels, mean_field, refine
from tests.conftest import make_balls, make_disks

WEIGHTS = CrfWeights(4.0, 2.0, 8.0, 0.15, 1.5)


def exact(logits: torch.Tensor, image: torch.Tensor, w: CrfWeights) -> torch.Tensor:
    """Mean field with every pair of pixels, by the definition."""
    shape = image.shape[1:]
    places = torch.tensor(np.indices(shape).reshape(len(shape), -1).T, dtype=image.dtype)
    colours = image.flatten(1).T
    apart = torch.cdist(places, places) ** 2
    alike = torch.exp(-apart / (2 * w.sigma_alpha_px**2) - torch.cdist(colours, colours) ** 2 / (2 * w.sigma_beta**2))
    near = torch.exp(-apart / (2 * w.sigma_gamma_px**2))
    kernels = [k / torch.sqrt(k.sum(dim=0)[:, None] * k.sum(dim=1)[None]) for k in (alike, near)]
    unary = logits.flatten(1)
    q = torch.softmax(unary, dim=0)
    for _ in range(module.N_ITERATIONS):
        q = torch.softmax(unary + w.w1 * q @ kernels[0] + w.w2 * q @ kernels[1], dim=0)
    return q.reshape(logits.shape)


def noisy(example, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that know the cells badly, and the image."""
    image = torch.tensor((np.asarray(example.image.data, np.float32) - 200) / 800)
    torch.manual_seed(0)
    margin = torch.tensor(example.mask > 0).float() - 0.5 + noise * torch.randn(example.mask.shape)
    return torch.stack([-margin, margin]), image


@pytest.mark.parametrize(("example", "crop"), [(make_disks(), (32, 32)), (make_balls(), (10, 16, 16))])
def test_mean_field_is_near_that_of_all_pairs(example, crop):
    logits, image = (x[(slice(None), *(slice(8, 8 + n) for n in crop))] for x in noisy(example, 0.7))
    found = mean_field(logits, Kernels(image, WEIGHTS), WEIGHTS.w1, WEIGHTS.w2).exp()
    truth = exact(logits, image, WEIGHTS)
    assert (found - truth).abs().mean() < 0.02
    assert (found.argmax(dim=0) == truth.argmax(dim=0)).float().mean() > 0.98


def test_without_weights_nothing_changes():
    logits, image = noisy(make_disks(), 0.7)
    out = mean_field(logits, Kernels(image, WEIGHTS), 0.0, 0.0)
    torch.testing.assert_close(out, torch.log_softmax(logits, dim=0))


def test_it_cleans_up_along_the_images_edges():
    example = make_disks()
    logits, image = noisy(example, 0.7)
    truth = example.mask > 0
    before = (logits.argmax(dim=0).numpy() == truth).mean()
    after = (refine(logits.numpy(), image.numpy(), WEIGHTS).argmax(axis=0) == truth).mean()
    assert before < 0.8
    assert after > 0.97


def test_the_learnt_layer_begins_as_the_fixed_one_and_learns():
    logits, image = noisy(make_disks(), 0.7)
    layer = CrfRnn(2, 2, WEIGHTS)
    out = layer(logits[None].requires_grad_(), image[None])
    torch.testing.assert_close(out[0], mean_field(logits, Kernels(image, WEIGHTS), WEIGHTS.w1, WEIGHTS.w2))
    truth = torch.tensor(make_disks().mask > 0).long()[None]
    torch.nn.functional.nll_loss(out, truth).backward()
    assert all(p.grad.abs().sum() > 0 for p in layer.parameters())


def test_a_large_image_in_blocks_is_nearly_the_whole(monkeypatch):
    logits, image = noisy(make_disks(), 0.7)
    whole = refine(logits.numpy(), image.numpy(), WEIGHTS)
    monkeypatch.setattr(module, "LARGEST_WHOLE_PX", 1000)
    monkeypatch.setattr(module, "BLOCK_PX", {2: (32, 32)})
    parts = refine(logits.numpy(), image.numpy(), WEIGHTS)
    assert (parts.argmax(axis=0) == whole.argmax(axis=0)).mean() > 0.98
