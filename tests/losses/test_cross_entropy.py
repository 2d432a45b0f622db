import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cellscribble.losses.cross_entropy import partial_cross_entropy, stroke_cross_entropy


def test_value_of_a_2x2_by_hand():
    # Two classes; the foreground's logit minus the background's is 0, ln 3, ln 3, 5: p = 1/2, 3/4, 3/4, -.
    margin = torch.tensor([[[0.0, np.log(3)], [np.log(3), 5.0]]])
    logits = torch.stack([torch.zeros_like(margin), margin], dim=1)
    labels = torch.tensor([[[1, 1], [0, -1]]])
    # -ln 1/2, -ln 3/4, -ln 1/4, unlabelled; the mean is over three pixels.
    expected = (np.log(2) + np.log(4 / 3) + np.log(4)) / 3
    assert partial_cross_entropy(logits, labels).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("cross_entropy", [partial_cross_entropy, stroke_cross_entropy])
@pytest.mark.parametrize("spatial", [(3, 4), (2, 3, 4)])
def test_no_labelled_pixel_gives_zero_and_a_finite_gradient(spatial, cross_entropy):
    logits = torch.randn(2, 3, *spatial, requires_grad=True)
    loss = cross_entropy(logits, torch.full((2, *spatial), -1))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), ndim=st.sampled_from([2, 3]), k=st.integers(2, 4))
def test_unlabelled_pixels_do_not_change_the_loss(seed, ndim, k):
    generator = torch.Generator().manual_seed(seed)
    spatial = (4,) * ndim
    logits = torch.randn(2, k, *spatial, generator=generator)
    labels = torch.randint(-1, k, (2, *spatial), generator=generator)
    other = torch.where((labels == -1)[:, None], 50 * torch.randn(logits.shape, generator=generator), logits)
    assert torch.equal(partial_cross_entropy(logits, labels), partial_cross_entropy(other, labels))


@pytest.mark.parametrize("spatial", [(2, 2), (2, 2, 2)])
def test_gradient_is_the_derivative(spatial):
    torch.manual_seed(0)
    logits = torch.randn(1, 3, *spatial, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(-1, 3, (1, *spatial))
    labels.view(-1)[:2] = torch.tensor([-1, 2])
    assert torch.autograd.gradcheck(lambda x: partial_cross_entropy(x, labels), (logits,))


def test_each_class_counts_alike_however_long_its_strokes():
    # p of cell 1/2 on one pixel of cell; 3/4 on three of background, one of them in another patch: by hand.
    margin = torch.tensor([[[0.0, np.log(3)]], [[np.log(3), np.log(3)]]])
    logits = torch.stack([torch.zeros_like(margin), margin], dim=1)
    strokes = torch.tensor([[[1, 0]], [[0, 0]]])
    expected = (np.log(2) + np.log(4)) / 2
    assert stroke_cross_entropy(logits, strokes).item() == pytest.approx(expected, rel=1e-6)
    # A class without strokes has no say.
    strokes = torch.tensor([[[-1, 0]], [[0, -1]]])
    assert stroke_cross_entropy(logits, strokes).item() == pytest.approx(np.log(4), rel=1e-6)


def test_what_cannot_be_told_from_the_other_has_one_half_whatever_the_strokes():
    # One constant for all pixels: the best answer to nine pixels of background and one of cell.
    margin = torch.zeros((), requires_grad=True)
    strokes = torch.zeros(1, 10, dtype=torch.long)
    strokes[0, 0] = 1
    logits = torch.stack([torch.zeros(10), margin.expand(10)])[None]
    (slope,) = torch.autograd.grad(stroke_cross_entropy(logits, strokes), margin, retain_graph=True)
    assert slope.item() == pytest.approx(0, abs=1e-6)
    (slope,) = torch.autograd.grad(partial_cross_entropy(logits, strokes), margin)
    assert slope.item() == pytest.approx(0.4, abs=1e-6)
