import dataclasses

import numpy as np
import onnx
import pytest

from cellscribble.adapt.network import NetworkFile
from cellscribble.bundle import open_model
from cellscribble.core.errors import ModelError
from cellscribble.infer.runner import Runner
from cellscribble.segment.edge_level import shift_to_edge
from tests.infer.analytic import write_model


def block(model, rng) -> np.ndarray:
    return rng.random((1, *(2 * m for m in model.metadata.stride_multiple))).astype(np.float32)


@pytest.mark.parametrize("ndim", [2, 3])
def test_features_and_last_layer_together_are_the_network(models, ndim, tmp_path, rng):
    model = models[ndim]
    network = NetworkFile(model)
    network.write_features(tmp_path / "features.onnx")
    image = block(model, rng)
    features = Runner(open_model(tmp_path / "features.onnx"), "cpu")(image)
    assert len(features) == network.n_features == 16
    weight, bias = network.last_layer.classifier
    logits = np.einsum("kf,f...->k...", weight, features) + bias.reshape(-1, *(1,) * ndim)
    raw = np.exp(logits) / np.exp(logits).sum(axis=0)
    expected = shift_to_edge(raw, model.metadata.edge_threshold)
    np.testing.assert_allclose(Runner(model, "cpu")(image), expected, atol=1e-5)


def test_a_last_layer_that_is_put_back_changes_nothing(models, tmp_path, rng):
    model = models[2]
    network = NetworkFile(model)
    level = model.metadata.edge_threshold
    network.write_adapted(network.last_layer, np.log(level / (1 - level)), model.metadata, tmp_path / "same.onnx")
    same = open_model(tmp_path / "same.onnx")
    onnx.checker.check_model(str(same.path), full_check=True)
    assert same.metadata == model.metadata
    image = block(model, rng)
    np.testing.assert_allclose(Runner(same, "cpu")(image), Runner(model, "cpu")(image), atol=1e-6)


def test_all_but_the_last_layer_stays_bit_for_bit(models, tmp_path):
    model = models[2]
    network = NetworkFile(model)
    network.write_adapted(network.last_layer, 0.0, model.metadata, tmp_path / "other.onnx")
    stored = [
        {t.name: t.raw_data for t in onnx.load(str(path)).graph.initializer}
        for path in (model.path, tmp_path / "other.onnx")
    ]
    same = [name for name, data in stored[0].items() if stored[1].get(name) == data]
    changed = set(stored[0]) - set(same)
    assert len(same) > 20
    assert changed <= {"network.classify.weight", "network.classify.bias", "head.background_bias"}


def test_a_network_that_was_not_trained_here_is_refused(tmp_path):
    model = open_model(write_model(tmp_path / "model.onnx"))
    with pytest.raises(ModelError, match=r"no last layer with one channel a class .* give a model of another method"):
        NetworkFile(model)


def test_a_last_layer_with_other_channels_is_refused(models, tmp_path):
    model = models[2]
    three = dataclasses.replace(
        model.metadata, classes=("background", "a", "b"), colors=((0, 0, 0), (1, 1, 1), (2, 2, 2))
    )
    with pytest.raises(ModelError, match="one channel a class"):
        NetworkFile(dataclasses.replace(model, metadata=three))
