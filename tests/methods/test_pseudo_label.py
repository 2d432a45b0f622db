import pytest
import torch

from cellscribble.core.errors import InputError
from cellscribble.data.batch import Batch
from cellscribble.losses.cross_entropy import partial_cross_entropy
from cellscribble.methods.base import Progress
from cellscribble.methods.pseudo_label import PseudoLabel, PseudoLabelConfig, confident_labels

WARM, LATER = Progress(0, True), Progress(5, False)


class Fixed(torch.nn.Module):
    """Foreground probabilities that one weight may change."""

    def __init__(self, *foreground: float) -> None:
        super().__init__()
        p = torch.tensor(foreground).reshape(1, 1, 1, -1)
        self.logits = torch.cat([(1 - p).log(), p.log()], dim=1)
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.scale * self.logits


def test_labels_by_hand_with_three_classes():
    p = torch.tensor([[0.1, 0.85, 0.05], [0.1, 0.45, 0.45], [0.85, 0.1, 0.05], [0.0, 0.1, 0.9]]).T.reshape(1, 3, 1, 4)
    strokes = torch.tensor([[[-1, -1, 2, -1]]])
    assert confident_labels(p, strokes, 0.8).tolist() == [[[1, -1, -1, 2]]]


def test_the_second_stage_teaches_what_the_network_is_sure_of():
    network = Fixed(0.9, 0.7, 0.1, 0.6)
    strokes = torch.tensor([[[-1, -1, -1, 0]]])
    batch = Batch(torch.rand(1, 1, 1, 4), strokes, None, {})
    method = PseudoLabel(PseudoLabelConfig(tau=0.8, pseudo_weight=0.5), 2)
    assert list(method.loss(network, batch, WARM)) == ["strokes"]
    terms = method.loss(network, batch, LATER)
    logits = network(batch.image)
    torch.testing.assert_close(terms["strokes"], -torch.log(torch.tensor(0.4)))
    # Sure: .9 is a cell, .1 is background; .7 is unsure, .6 is stroked.
    expected = 0.5 * partial_cross_entropy(logits, torch.tensor([[[1, -1, 0, -1]]]))
    torch.testing.assert_close(terms["pseudo"], expected)
    torch.testing.assert_close(terms["pseudo"].detach(), -0.5 * torch.log(torch.tensor(0.9)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tau": 1.0}, r"tau is 1.0; expected a probability, 0.5 <= tau < 1"),
        ({"pseudo_weight": -1.0}, r"pseudo_weight is -1.0; expected 0 or more"),
    ],
)
def test_numbers_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        PseudoLabelConfig(**settings)
