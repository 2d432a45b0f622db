import math

import pytest
import torch

from cellscribble.losses.metric import SHARPNESS, pairwise_distance_loss


def g(z: float) -> float:
    return math.log1p(math.exp(SHARPNESS * z)) / SHARPNESS


def test_three_pixels_by_hand():
    embedded = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    # Squared distances: 1 within class 0; 4 and 5 between the classes; tau 3.
    expected = (g(1 - (3 - 1)) + g(1 + (3 - 4)) + g(1 + (3 - 5))) / 3
    assert pairwise_distance_loss(embedded, torch.tensor([0, 0, 1]), 3.0).item() == pytest.approx(expected)


def test_the_gradient_is_right():
    torch.manual_seed(0)
    embedded = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 1, 2, 0])
    assert torch.autograd.gradcheck(lambda z: pairwise_distance_loss(z, labels, 3.0), embedded)


def test_descent_draws_a_class_together_and_others_apart():
    torch.manual_seed(0)
    embedded = torch.randn(20, 4, requires_grad=True)
    labels = torch.arange(20) % 2
    optimiser = torch.optim.SGD([embedded], lr=2.0)
    for _ in range(300):
        optimiser.zero_grad()
        pairwise_distance_loss(embedded, labels, 3.0).backward()
        optimiser.step()
    squared = torch.cdist(embedded, embedded).square()
    same = labels[:, None] == labels
    assert squared[same].max() < 2.5
    assert squared[~same].min() > 3.5


@pytest.mark.parametrize("n", [0, 1])
def test_without_a_pair_the_loss_is_zero(n):
    embedded = torch.randn(n, 3, requires_grad=True)
    loss = pairwise_distance_loss(embedded, torch.zeros(n, dtype=torch.long), 3.0)
    loss.backward()
    assert loss.item() == 0
    assert not embedded.grad.any()
