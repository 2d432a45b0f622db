import pytest
import torch

from cellscribble.losses.brier import balanced_brier


def row(*p: float) -> torch.Tensor:
    return torch.tensor(p, dtype=torch.float64).logit().reshape(1, 1, 1, -1)


def test_one_task_by_hand():
    logits, labels = row(0.9, 0.6, 0.2, 0.5, 0.3), torch.tensor([[[1, 1, 0, -1, 0]]])
    cells, background = (0.1**2 + 0.4**2) / 2, (0.2**2 + 0.3**2) / 2
    assert balanced_brier(logits, labels).item() == pytest.approx((cells + background) / 2)


def test_a_long_stroke_weighs_as_much_as_a_short_one():
    short = balanced_brier(row(0.7, 0.1), torch.tensor([[[1, 0]]]))
    long = balanced_brier(row(0.7, *[0.1] * 30), torch.tensor([[[1, *[0] * 30]]]))
    torch.testing.assert_close(long, short)


def test_strokes_of_the_other_class_are_outside_a_task():
    # Of the class 1 pixel the tasks say .8 and .3, of the class 2 pixel .4 and .9; there is no background.
    p = torch.tensor([[0.8, 0.3], [0.4, 0.9]], dtype=torch.float64).T.reshape(1, 2, 1, 2)
    first, second = (0.2**2 + 0.4**2) / 2, (0.1**2 + 0.3**2) / 2
    assert balanced_brier(p.logit(), torch.tensor([[[1, 2]]])).item() == pytest.approx((first + second) / 2)


@pytest.mark.parametrize("labels", [[-1, -1, -1], [-1, 1, -1], [0, 0, -1]])
def test_missing_strokes_give_a_finite_gradient(labels):
    logits = torch.randn(1, 1, 1, 3, requires_grad=True)
    loss = balanced_brier(logits, torch.tensor([[labels]]))
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad.flatten()[2] == 0
    assert bool(logits.grad.any()) == any(label >= 0 for label in labels)


@pytest.mark.parametrize("spatial", [(2, 3), (2, 2, 2)])
def test_gradient_is_the_derivative(spatial):
    torch.manual_seed(0)
    logits = torch.randn(2, 2, *spatial, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(-1, 3, (2, *spatial))
    assert torch.autograd.gradcheck(lambda x: balanced_brier(x, labels), (logits,))
