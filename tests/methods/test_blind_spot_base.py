import numpy as np
import pytest
import torch

from cellscribble.core.errors import InputError
from cellscribble.data.batch import Batch
from cellscribble.losses.brier import balanced_brier
from cellscribble.methods.base import Progress
from cellscribble.methods.blind_spot_base import BlindSpotBase, BlindSpotBaseConfig, hide_some
from cellscribble.nn.build import build_network
from cellscribble.nn.heads import by_task, task_logits


def make_batch(n_classes: int = 2) -> Batch:
    torch.manual_seed(1)
    return Batch(torch.rand(2, 3, 32, 32), torch.randint(-1, n_classes, (2, 32, 32)), None, {})


def test_defaults_are_those_of_the_authors():
    config = BlindSpotBaseConfig()
    assert (config.blind_share, config.radius_px, config.n_components) == (0.05, 5, 2)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_brier_of_what_is_said_about_the_blinded_patch(n_classes):
    method = BlindSpotBase(BlindSpotBaseConfig(), n_classes)
    assert method.out_channels() == 4 * (n_classes - 1)
    network = build_network("light", 3, method.out_channels(), 2).eval()
    batch, progress = make_batch(n_classes), Progress(0, False, seed=(7, 1))
    (term,) = method.loss(network, batch, progress).values()
    seen = []
    network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    method.loss(network, batch, progress)
    changed = (seen[0] != batch.image).any(dim=1)
    assert changed.float().mean().item() == pytest.approx(0.05, abs=0.001)
    raw = network(hide_some(batch, method.config, progress).hide(batch.image))
    torch.testing.assert_close(term, balanced_brier(task_logits(by_task(raw, 2)), batch.scribbles))


def test_each_step_hides_other_pixels_and_the_same_step_the_same():
    batch, config = make_batch(), BlindSpotBaseConfig()
    one, again, other = (hide_some(batch, config, Progress(0, False, seed=s)).hidden for s in [(1, 2), (1, 2), (1, 3)])
    np.testing.assert_array_equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"blind_share": 0.0}, "blind_share is 0.0; expected a share of the pixels, more than 0 and less than 1"),
        ({"radius_px": 16}, "radius_px is 16; expected 1 to 15 px"),
        ({"n_components": 0}, "n_components is 0; expected 1 or more"),
    ],
)
def test_numbers_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        BlindSpotBaseConfig(**settings)
