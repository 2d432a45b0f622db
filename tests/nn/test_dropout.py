import copy

import pytest
import torch

from cellscribble.nn.build import build_network
from cellscribble.nn.dropout import HookedDropout


@pytest.fixture(params=["light", "resnet34"])
def network(request):
    torch.manual_seed(0)
    return build_network(request.param, 1, 2, 2).eval()


def test_it_leaves_the_network_as_it_is_for_prediction(network):
    image = torch.rand(1, 1, 64, 64)
    before, names = network(image), list(network.state_dict())
    HookedDropout(network.innermost_blocks(), 0.5, 0)
    torch.testing.assert_close(network(image), before, rtol=0, atol=0)
    assert list(network.state_dict()) == names


def test_predictions_vary_within_sampled_and_again_do_not_after(network):
    image = torch.rand(1, 1, 64, 64)
    dropout = HookedDropout(network.innermost_blocks(), 0.5, 0)
    assert len(network.innermost_blocks()) == 5
    with dropout.sampled():
        one, other = network(image), network(image)
    assert not torch.equal(one, other)
    assert dropout.n_drawn == 10
    assert torch.equal(network(image), network(image))
    # Where it left off is a number: the same masks come again.
    dropout.n_drawn = 5
    with dropout.sampled():
        torch.testing.assert_close(network(image), other, rtol=0, atol=0)


def test_half_of_the_values_go_and_the_mean_stays():
    block = torch.nn.Identity()
    HookedDropout([block], 0.5, 3)
    out = block.train()(torch.ones(4, 8, 50, 50))
    assert set(out.unique().tolist()) == {0, 2}
    assert out.mean().item() == pytest.approx(1, abs=0.02)


def test_a_copy_of_network_and_dropout_draws_for_itself(network):
    dropout = HookedDropout(network.innermost_blocks(), 0.5, 0)
    twin, its = copy.deepcopy((network, dropout))
    with its.sampled():
        twin(torch.rand(1, 1, 64, 64))
    assert (its.n_drawn, dropout.n_drawn) == (5, 0)
