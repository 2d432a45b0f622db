import numpy as np
import pytest
import torch

from cellscribble.nn.permutohedral import Lattice, _simplex


def features_of(shape, channels, sigma_px, sigma_intensity) -> torch.Tensor:
    torch.manual_seed(0)
    axes = torch.meshgrid(*[torch.arange(n, dtype=torch.float32) for n in shape], indexing="ij")
    places = torch.stack([a.flatten() for a in axes]) / sigma_px
    return torch.cat([places, torch.rand(channels, places.shape[1]) / sigma_intensity]).T


CASES = [((40, 40), 1, 10.0, 0.3), ((24, 20), 3, 5.0, 0.4), ((10, 10, 10), 1, 4.0, 0.3)]


@pytest.mark.parametrize("case", CASES)
def test_a_normalised_filter_is_near_that_of_all_pairs(case):
    features = features_of(*case)
    lattice = Lattice(features)
    exact = torch.exp(-(torch.cdist(features, features) ** 2) / 2)
    one = torch.ones(len(features), 1)
    ours, theirs = lattice(one).rsqrt(), exact.sum(dim=1, keepdim=True).rsqrt()
    torch.manual_seed(1)
    values = torch.rand(len(features), 2)
    near, truth = ours * lattice(ours * values), theirs * (exact @ (theirs * values))
    assert (near - truth).norm() < 0.05 * truth.norm()
    assert np.corrcoef(near.flatten(), truth.flatten())[0, 1] > 0.93


def test_pixels_far_apart_do_not_touch():
    features = torch.tensor([[0.0, 0.0], [0.3, 0.0], [40.0, 40.0]])
    out = Lattice(features)(torch.tensor([[1.0], [0.0], [0.0]]))
    assert out[1, 0] > 0.1
    assert out[2, 0] == 0


@pytest.mark.parametrize("n_features", [1, 3, 5])
def test_a_pixel_lies_in_its_simplex(n_features):
    torch.manual_seed(0)
    corners, weights = _simplex(3 * torch.randn(200, n_features, dtype=torch.float64))
    assert weights.min() > -1e-12
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(200, dtype=torch.float64))
    # The corners of a simplex differ, and have remainders 0..F, each once.
    f = n_features
    remainders = corners[:, :, 0] % (f + 1)
    assert (remainders == torch.arange(f + 1)).all()


def test_gradients_are_those_of_a_linear_map():
    lattice = Lattice(features_of((5, 6), 1, 2.0, 0.4).double())
    values = torch.rand(30, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lattice, (values,))
