import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cellscribble.nn.heads import SoftmaxHead, TaskHead, WithHead, by_task, task_logits
from cellscribble.segment.edge_level import shift_to_edge

levels = st.floats(0.1, 0.98)


@given(level=levels)
def test_the_level_becomes_one_half(level):
    logits = torch.tensor([[[0.0]], [[np.log(level / (1 - level))]]]).float()[None]
    assert SoftmaxHead(level)(logits)["probability"][0, 1].item() == pytest.approx(0.5, abs=1e-6)


def test_values_by_hand():
    # raw p = 0.9 is odds 9; the level 0.75 is odds 3; shifted odds 3, p' = 3/4.
    logits = torch.log(torch.tensor([0.1, 0.9])).reshape(1, 2, 1, 1)
    out = SoftmaxHead(0.75)(logits)["probability"].flatten()
    torch.testing.assert_close(out, torch.tensor([0.25, 0.75]))


@settings(max_examples=50)
@given(level=levels, k=st.integers(2, 5), ndim=st.sampled_from([2, 3]), seed=st.integers(0, 10**6))
def test_head_equals_the_shift_of_probabilities(level, k, ndim, seed):
    logits = 3 * torch.randn(1, k, *(3,) * ndim, generator=torch.Generator().manual_seed(seed))
    raw = torch.softmax(logits, dim=1)[0].numpy()
    out = SoftmaxHead(level)(logits)["probability"][0].numpy()
    np.testing.assert_allclose(out, shift_to_edge(raw, level), atol=1e-5)
    np.testing.assert_allclose(out.sum(axis=0), 1, atol=1e-5)
    # Classes keep their proportions to one another.
    np.testing.assert_allclose(out[1:] * raw[1:2], out[1:2] * raw[1:], atol=1e-5)
    # What was more than the level is more than one half.
    clear = np.abs(1 - raw[0] - level) > 1e-4
    np.testing.assert_array_equal((out[0] < 0.5)[clear], (1 - raw[0] > level)[clear])


def test_one_half_changes_nothing():
    logits = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(SoftmaxHead()(logits)["probability"], torch.softmax(logits, 1))


def test_the_level_travels_in_the_state_and_the_whole_is_network_then_head():
    network = torch.nn.Conv2d(1, 2, 1)
    module = WithHead(network, SoftmaxHead(0.8))
    assert module.state_dict()["head.background_bias"].item() == pytest.approx(np.log(4), abs=1e-6)
    image = torch.rand(1, 1, 4, 4)
    torch.testing.assert_close(module(image)["probability"], SoftmaxHead(0.8)(network(image))["probability"])


def test_components_of_a_side_add_up():
    # Memberships .1 and .3 outside, .2 and .4 inside: the class has .6.
    raw = torch.log(torch.tensor([0.1, 0.3, 0.2, 0.4])).reshape(1, 4, 1, 1)
    out = TaskHead(2)(raw)["probability"].flatten()
    torch.testing.assert_close(out, torch.tensor([0.4, 0.6]))
    # Odds 1.5 over those of the level .75, which are 3: odds 1/2.
    out = TaskHead(2, 0.75)(raw)["probability"].flatten()
    torch.testing.assert_close(out, torch.tensor([2 / 3, 1 / 3]))


def test_classes_are_tasks_of_which_at_most_one_says_yes():
    # Tasks say .5 and .8: none .5 x .2, the first alone .5 x .2, the second alone .5 x .8; both is ruled out.
    raw = torch.log(torch.tensor([0.5, 0.5, 0.2, 0.8])).reshape(1, 4, 1, 1)
    out = TaskHead(1)(raw)["probability"].flatten()
    torch.testing.assert_close(out, torch.tensor([0.1, 0.1, 0.4]) / 0.6)


@pytest.mark.parametrize("spatial", [(3, 4), (2, 3, 4)])
def test_a_tasks_logit_is_of_its_own_memberships(spatial):
    raw = torch.randn(2, 12, *spatial)
    memberships = torch.softmax(raw[:, 6:], dim=1)
    torch.testing.assert_close(torch.sigmoid(task_logits(by_task(raw, 3))[:, 1]), memberships[:, 3:].sum(dim=1))
