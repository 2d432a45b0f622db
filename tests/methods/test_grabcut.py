import dataclasses

import numpy as np
import pytest
import torch

from cellscribble.core.errors import InputError, TrainingError
from cellscribble.core.intensity import IntensityRule
from cellscribble.data.batch import Batch
from cellscribble.data.samples import make_sample
from cellscribble.losses.cross_entropy import partial_cross_entropy, stroke_cross_entropy
from cellscribble.methods.base import Progress
from cellscribble.methods.grabcut import PROPOSALS, GrabCut, GrabCutConfig
from cellscribble.train.run import train
from tests.train.runs import Quiet, training_set


def test_strokes_and_proposals_have_a_term_each():
    network = torch.nn.Conv2d(1, 2, 1)
    maps = torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 0]]).reshape(1, 2, 1, 4)
    strokes = torch.tensor([[[-1, -1, 1, -1]]])
    batch = Batch(torch.rand(1, 1, 1, 4), strokes, None, {PROPOSALS: maps})
    terms = GrabCut(GrabCutConfig(proposal_weight=0.5), 2).loss(network, batch, Progress(0, True))
    logits = network(batch.image)
    torch.testing.assert_close(terms["strokes"], stroke_cross_entropy(logits, strokes))
    off = torch.tensor([[[0, 1, -1, -1]]])
    torch.testing.assert_close(terms["proposals"], 0.5 * partial_cross_entropy(logits, off))


def test_an_image_without_strokes_of_a_cell_gets_no_proposals(disks_2d):
    strokes = disks_2d.scribbles.copy()
    bare = make_sample(disks_2d.image, np.where(strokes == 1, -1, strokes), IntensityRule())
    full = make_sample(disks_2d.image, strokes, IntensityRule())
    method = GrabCut(GrabCutConfig(), 2)
    method.prepare([bare, full])
    assert method.learnt_labels(bare) is None
    assert ((method.learnt_labels(full) == 1) == (disks_2d.mask > 0)).mean() > 0.95
    with pytest.raises(
        TrainingError, match=r"no image has strokes both of background and of a cell, .*; draw both in one"
    ):
        method.prepare([bare])


def test_a_run_of_one_stage_learns_from_its_maps_from_the_first_step(tiny_config, tmp_path):
    reporter = Quiet()
    train(training_set(), dataclasses.replace(tiny_config, epochs=1, method="grabcut"), tmp_path, reporter)
    assert reporter.ticks[0].terms["proposals"] > 0
    assert "loss_proposals" in (tmp_path / "history.csv").read_text().splitlines()[0]


@pytest.mark.parametrize("settings", [{"n_rounds": 0}, {"proposal_weight": -0.1}])
def test_numbers_out_of_range_are_refused(settings):
    (name,) = settings
    with pytest.raises(InputError, match=rf"{name} is .*; expected [01] or more"):
        GrabCutConfig(**settings)
