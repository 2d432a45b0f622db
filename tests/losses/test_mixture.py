import math

import pytest
import torch

from cellscribble.losses.mixture import component_means, mixture_loss


def test_two_pixels_by_hand():
    # Components at 0 and 1, sigma 1/2. The pixel at 0 has memberships (.8, .2), that at 1 has (.5, .5).
    memberships = torch.tensor([[[0.8, 0.2]], [[0.5, 0.5]]])
    means = torch.tensor([0.0, 1.0]).reshape(1, 1, 2, 1).expand(2, 1, 2, 1)
    x = torch.tensor([[0.0], [1.0]])
    far = math.exp(-2)
    expected = -(math.log(0.8 + 0.2 * far) + math.log(0.5 + 0.5 * far)) / 2
    assert mixture_loss(memberships.log(), means, x, 0.5).item() == pytest.approx(expected)


def test_channels_of_a_pixel_add_up():
    x, means = torch.tensor([[0.3, 0.4]]), torch.zeros(1, 1, 1, 2)
    assert mixture_loss(torch.zeros(1, 1, 1), means, x, 1.0).item() == pytest.approx((0.3**2 + 0.4**2) / 2)


def test_nothing_is_left_where_the_right_component_is_sure():
    log_memberships = torch.log_softmax(torch.tensor([[[40.0, 0.0], [40.0, 0.0]]]), dim=-1)
    means = torch.tensor([0.7, 0.1]).reshape(1, 1, 2, 1).expand(1, 2, 2, 1)
    assert mixture_loss(log_memberships, means, torch.tensor([[0.7]]), 0.1).item() == pytest.approx(0, abs=1e-6)


def test_the_honest_memberships_are_the_best():
    # Of ten hidden pixels in like surroundings three are bright.
    x = torch.tensor([1.0] * 3 + [0.0] * 7)[:, None]
    means = torch.tensor([0.0, 1.0]).reshape(1, 1, 2, 1).expand(10, 1, 2, 1)
    loss = [
        mixture_loss(torch.tensor([[[1 - p, p]]]).log().expand(10, 1, 2), means, x, 0.1).item()
        for p in (0.1, 0.2, 0.3, 0.4, 0.5)
    ]
    assert min(loss) == loss[2]


def test_gradient_is_the_derivative():
    torch.manual_seed(0)
    logits, means, x = (torch.randn(*s, dtype=torch.float64) for s in [(3, 2, 4), (3, 2, 4, 2), (3, 2)])
    logits.requires_grad_()
    means.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, m: mixture_loss(a.log_softmax(-1), m, x, 0.5), (logits, means))


def test_means_by_hand():
    # Of pixels at 0, 1 and 4 the first component has .5, .5 and 0, the second .5, .5 and 1.
    memberships = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 1.0]]).reshape(1, 1, 2, 1, 3)
    image = torch.tensor([[0.0, 1.0, 4.0], [10.0, 10.0, 10.0]]).reshape(1, 2, 1, 3)
    found = component_means((memberships + 1e-12).log(), image)
    torch.testing.assert_close(found, torch.tensor([[[[0.5, 10.0], [2.25, 10.0]]]]))


def test_each_patch_and_task_has_its_own_means_and_an_empty_component_is_harmless():
    components, image = torch.randn(2, 3, 4, 5, 6), torch.rand(2, 2, 5, 6)
    one = component_means(components[1:, 2:], image[1:])
    torch.testing.assert_close(component_means(components, image)[1:, 2:], one)
    components[:, :, 0] = -1e4
    assert torch.isfinite(component_means(components, image)).all()
