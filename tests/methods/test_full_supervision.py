import dataclasses

import numpy as np
import pytest
import torch

from cellscribble.data.batch import Batch
from cellscribble.methods.base import MethodConfig, Progress
from cellscribble.methods.full_supervision import FullSupervision
from cellscribble.train.run import train
from tests.train.runs import Quiet, training_set


def test_every_pixel_of_the_mask_counts_and_strokes_do_not():
    method = FullSupervision(MethodConfig(), 2)
    mask = torch.tensor([[[1, 0, 1, -1]]])
    batch = Batch(torch.rand(1, 1, 1, 4), torch.tensor([[[0, 1, 0, 0]]]), mask, {})
    # p of the foreground 1/2, 1/2, 3/4: -ln 1/2, -ln 1/2, -ln 3/4; beyond the image nothing.
    margin = torch.tensor([0.0, 0.0, np.log(3), 9.0], dtype=torch.float32)
    logits = torch.stack([torch.zeros(4), margin]).reshape(1, 2, 1, 4)
    (term,) = method.loss(lambda image: logits, batch, Progress(0, True)).values()
    assert term.item() == pytest.approx((2 * np.log(2) + np.log(4 / 3)) / 3, rel=1e-6)


def test_a_run_learns_from_masks_that_are_blank_under_held_out_strokes(tiny_config, tmp_path):
    data = training_set()
    masks = [np.zeros(p.image.spatial_shape, np.int16) for p in data.pairs]
    for mask, pair in zip(masks, data.pairs, strict=True):
        mask[pair.image.data[0] > 600] = 1
    pairs = tuple(dataclasses.replace(p, mask=m) for p, m in zip(data.pairs, masks, strict=True))
    data = dataclasses.replace(data, pairs=pairs)
    config = dataclasses.replace(tiny_config, method="full_supervision")
    reporter = Quiet()
    result = train(data, config, tmp_path, reporter)
    assert result.holdout.n_held == (6, 4)
    assert set(reporter.ticks[0].terms) == {"labels"}
    # The caller's masks are untouched.
    assert all((m >= 0).all() for m in masks)
    hashes = (tmp_path / "inputs.json").read_text()
    assert "disks0 (labels)" in hashes
