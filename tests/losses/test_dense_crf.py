import numpy as np
import pytest
import torch

from cellscribble.losses.dense_crf import _every, dense_crf_energy
from tests.conftest import make_disks


def exact(logits: torch.Tensor, image: torch.Tensor, sigma_px: float, sigma_intensity: float) -> torch.Tensor:
    """The definition, pair by pair, for one image."""
    s = torch.softmax(logits[0], dim=0).flatten(1)
    places = torch.tensor(np.indices(image.shape[2:]).reshape(image.ndim - 2, -1), dtype=image.dtype)
    colours = image[0].flatten(1)
    apart = (
        torch.cdist(places.T, places.T) ** 2 / sigma_px**2
        + torch.cdist(colours.T, colours.T) ** 2 / sigma_intensity**2
    )
    w = torch.exp(-apart / 2)
    return torch.einsum("kp,pq,kq->", s, w, 1 - s) / w.sum()


def test_two_pixels_by_hand():
    # One px apart, one sigma of intensity apart: W = exp(-1/2 - 1/2) = 1/e off the diagonal, 1 on it.
    # S^1 = (3/4, 1/4): per class S_p (1 - S_p) = 3/16 twice, and W (3/4 * 3/4 + 1/4 * 1/4) = 10/16 W.
    logits = torch.log(torch.tensor([[[[0.25, 0.75]], [[0.75, 0.25]]]]))
    image = torch.tensor([[[[0.0, 0.5]]]])
    expected = 2 * (6 / 16 + 10 / 16 / np.e) / (2 + 2 / np.e)
    assert dense_crf_energy(logits, image, 1.0, 0.5, 1).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("shape", "channels", "k"), [((5, 7), 1, 2), ((4, 6), 3, 3), ((3, 4, 5), 2, 2)])
def test_value_and_gradient_are_those_of_all_pairs(shape, channels, k):
    torch.manual_seed(0)
    logits = torch.randn(1, k, *shape, dtype=torch.float64, requires_grad=True)
    image = torch.rand(1, channels, *shape, dtype=torch.float64)
    value = dense_crf_energy(logits, image, 3.0, 0.4, 1)
    truth = exact(logits, image, 3.0, 0.4)
    torch.testing.assert_close(value, truth)
    # By finite differences too: half of the gradient is followed and counted twice.
    assert torch.autograd.gradcheck(lambda x: dense_crf_energy(x, image, 3.0, 0.4, 1), (logits,))
    ours, theirs = torch.autograd.grad(value, logits)[0], torch.autograd.grad(truth, logits)[0]
    torch.testing.assert_close(ours, theirs)


def test_the_grid_of_pixels_stands_for_all_of_them():
    example = make_disks()
    image = torch.tensor(np.asarray(example.image.data), dtype=torch.float32)[None] / 1200
    torch.manual_seed(0)
    inside = torch.tensor(example.mask > 0).float()
    margin = 2 * inside - 1 + 0.5 * torch.randn(inside.shape)
    found = []
    for grid_px in (1, 5):
        logits = torch.stack([-margin, margin])[None].requires_grad_()
        energy = dense_crf_energy(logits, image, 100.0, 15 / 255, grid_px)
        found.append((energy.item(), torch.autograd.grad(energy, logits)[0]))
    (value, gradient), (near, near_gradient) = found
    assert near == pytest.approx(value, rel=0.1)
    assert (near_gradient - gradient).norm() < 0.1 * gradient.norm()


def test_certain_and_uniform_patches_cost_nothing_and_a_cut_through_one_colour_costs():
    image = torch.full((1, 1, 8, 8), 0.3)
    halves = torch.full((8, 8), -30.0)
    halves[:, 4:] = 30
    logits = torch.stack([-halves, halves])[None]
    cut = dense_crf_energy(logits, image, 1e6, 0.1, 1).item()
    # All pixels alike: half of all pairs are of two classes.
    assert cut == pytest.approx(0.5, abs=1e-4)
    image[..., 4:] = 0.9
    assert dense_crf_energy(logits, image, 1e6, 0.1, 1).item() == pytest.approx(0, abs=1e-6)
    assert (
        dense_crf_energy(torch.zeros_like(logits) + torch.tensor([9.0, -9.0])[:, None, None], image, 5.0, 0.1, 1)
        < 1e-6
    )


def test_the_grid_is_even_and_centred():
    assert _every(torch.Size([9]), 4, torch.device("cpu")).tolist() == [0, 4, 8]
    assert _every(torch.Size([8]), 4, torch.device("cpu")).tolist() == [1, 5]
    assert _every(torch.Size([2, 3]), 2, torch.device("cpu")).tolist() == [0, 2]
