import numpy as np
import pytest
import torch

from cellscribble.losses.contrastive import every, grid_labels, pairwise_contrast


def row(*vectors):
    return torch.tensor(vectors, dtype=torch.float64).T.reshape(1, len(vectors[0]), 1, len(vectors))


def test_three_pixels_by_hand():
    # a and b alike and of one class, c at right angles and of another; temperature 1/2: logits 2, 0, 0.
    features = row((3.0, 0.0), (1.0, 0.0), (0.0, 2.0), (5.0, 5.0))
    labels = torch.tensor([[[1, 1, 0, -1]]])
    # Pairs: (a, b) attract, -log sigmoid(2); (a, c) and (b, c) repel, -log(1 - sigmoid(0)) = log 2.
    expected = (np.log1p(np.exp(-2)) + 2 * np.log(2)) / 3
    assert pairwise_contrast(features, labels, 0.5, 100).item() == pytest.approx(expected)


def test_two_background_pixels_attract():
    alike, apart = row((1.0, 0.0), (1.0, 0.0)), row((1.0, 0.0), (0.0, 1.0))
    labels = torch.zeros(1, 1, 2, dtype=torch.int64)
    assert pairwise_contrast(alike, labels, 0.3, 9) < pairwise_contrast(apart, labels, 0.3, 9)


@pytest.mark.parametrize(("label", "sign"), [(1, -1), (0, 1)])
def test_turning_towards_a_pixel_of_the_same_class_lowers_it_and_of_another_raises_it(label, sign):
    def loss(angle):
        turned = (np.cos(angle), np.sin(angle))
        return pairwise_contrast(row((0.0, 1.0), turned), torch.tensor([[[1, label]]]), 0.1, 9).item()

    # From right angles, where the sigmoid is 1/2: the derivative is 1 / (2 temperature) either way.
    slope = (loss(1e-4) - loss(-1e-4)) / 2e-4
    assert slope == pytest.approx(sign * 5, rel=1e-3)


@pytest.mark.parametrize("labels", [[-1, -1, -1], [-1, 1, -1]])
def test_without_a_pair_it_is_zero_with_a_finite_gradient(labels):
    features = torch.randn(1, 4, 1, 3, requires_grad=True)
    loss = pairwise_contrast(features, torch.tensor([[labels]]), 0.1, 9)
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(features.grad).all()


@pytest.mark.parametrize("spatial", [(2, 3), (2, 2, 2)])
def test_gradient_is_the_derivative(spatial):
    torch.manual_seed(0)
    features = torch.randn(2, 3, *spatial, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(-1, 3, (2, *spatial))
    assert torch.autograd.gradcheck(lambda x: pairwise_contrast(x, labels, 0.3, 100), (features,))


def test_of_many_pixels_an_even_choice_enters():
    chosen = torch.tensor([0, 1, 1, 1, 1, 1, 1, 1], dtype=torch.bool)
    assert every(chosen, 3).tolist() == [1, 3, 5]
    assert every(chosen, 7).tolist() == [1, 2, 3, 4, 5, 6, 7]
    torch.manual_seed(0)
    features, labels = torch.randn(1, 2, 8, 8), torch.randint(0, 2, (1, 8, 8))
    kept = torch.full((64,), -1)
    for label in (0, 1):
        drawn = every(labels.flatten() == label, 5)
        kept[drawn] = label
    few = pairwise_contrast(features, kept.reshape(1, 8, 8), 0.3, 100)
    torch.testing.assert_close(pairwise_contrast(features, labels, 0.3, 5), few)


def test_cells_by_hand():
    labels = torch.tensor(
        [
            [1, 1, 0, -1, -1, -1],
            [1, 1, -1, -1, -1, -1],
            [0, 1, 2, 2, 0, 0],
            [1, 1, -1, 2, 0, 1],
        ]
    )[None]
    # All cell; background and nothing else; nothing; mixed; second class; mixed.
    assert grid_labels(labels, (2, 2)).tolist() == [[[1, 0, -1], [-1, 2, -1]]]
    assert torch.equal(grid_labels(labels, (1, 1)), labels)


def test_cells_of_a_volume_may_be_one_section_deep():
    labels = torch.tensor([[[[0, 0], [0, 0]], [[1, 1], [-1, 1]]]])
    assert grid_labels(labels, (1, 2, 2)).tolist() == [[[[0]], [[1]]]]
    assert grid_labels(labels, (2, 2, 2)).tolist() == [[[[-1]]]]
