"""Every method trains, becomes the same kind of model file, and that file segments an image."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from cellscribble.bundle import open_model
from cellscribble.config import TrainConfig
from cellscribble.export import onnx as export_module
from cellscribble.export.int8 import export_both
from cellscribble.export.onnx import TOLERANCE
from cellscribble.infer.blockwise import predict_probability
from cellscribble.infer.runner import Runner
from cellscribble.methods.registry import METHODS, get_method
from cellscribble.train.run import train
from tests.conftest import make_balls, make_disks
from tests.train.runs import Quiet, training_set


@pytest.mark.parametrize(("name", "ndim"), itertools.product(METHODS, (2, 3)))
def test_a_run_becomes_a_model_that_segments(name, ndim, tmp_path, monkeypatch):
    monkeypatch.setattr(export_module, f"SIZES_{ndim}D", (64,) if ndim == 2 else (32,))
    make = make_disks if ndim == 2 else make_balls
    examples = [make(0), make(1)]
    data = training_set(*examples)
    if get_method(name).needs_masks:
        masks = [(e.mask > 0).astype(np.int16) for e in examples]
        data = replace(data, pairs=tuple(replace(p, mask=m) for p, m in zip(data.pairs, masks, strict=True)))
    config = TrainConfig(method=name, minutes=None, epochs=2, patch_px=32, batch_size=2, device="cpu")
    train(data, config, tmp_path / "run", Quiet())
    exported = export_both(tmp_path / "run", tmp_path / "model.onnx")
    assert max(c.largest_difference for c in exported.comparisons) <= TOLERANCE
    # After two epochs a network may know too little for 8 bits, which is then said.
    assert (exported.int8 is None) == (ndim == 3 or "of the pixels of the training tiles" in exported.why_not)
    model = open_model(tmp_path / "model.onnx")
    assert (model.metadata.method, model.metadata.ndim) == (name, ndim)
    assert model.metadata.classes == ("background", "cell")
    image = make(2).image
    probability = predict_probability(image, model, Runner(model, "cpu", threads=1))
    assert probability.shape == (2, *image.spatial_shape)
    np.testing.assert_allclose(probability.sum(axis=0), 1, atol=1e-4)
