import pytest
import torch

from cellscribble.core.errors import InputError
from cellscribble.data.batch import Batch
from cellscribble.losses.dense_crf import dense_crf_energy
from cellscribble.methods.base import Progress
from cellscribble.methods.regularized import Regularized, RegularizedConfig


def test_defaults_are_the_papers():
    config = RegularizedConfig()
    assert (config.sigma_px, 255 * config.sigma_intensity) == (100, pytest.approx(15))


def test_the_energy_comes_after_the_warm_up_with_its_weight():
    torch.manual_seed(0)
    network = torch.nn.Conv2d(1, 2, 1)
    batch = Batch(torch.rand(2, 1, 16, 16), torch.randint(-1, 2, (2, 16, 16)), None, {})
    method = Regularized(RegularizedConfig(crf_weight=0.5, grid_px=4), 2)
    assert list(method.loss(network, batch, Progress(0, True))) == ["strokes"]
    terms = method.loss(network, batch, Progress(9, False))
    energy = dense_crf_energy(network(batch.image), batch.image, 100.0, 15 / 255, 4)
    torch.testing.assert_close(terms["crf"], 0.5 * energy)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crf_weight": -1.0}, "crf_weight is -1.0; expected 0 or more"),
        ({"sigma_px": 0.0}, "sigma_px is 0.0; expected more than 0 px"),
        ({"sigma_intensity": 0.0}, "sigma_intensity is 0.0; expected more than 0, of intensities from 0 to 1"),
        ({"grid_px": 0}, r"grid_px is 0; expected 1 \(every pixel\) or more"),
    ],
)
def test_numbers_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        RegularizedConfig(**settings)
