"""The two parts of a model file: what gives features, and the last layer, which alone is changed.

The exporter names each node after the module it comes from, so the last layer of every network is found by name, and
what stands before it stays as it is, bit for bit. No training software needs to know how the network was built.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper

from cellscribble.bundle import METADATA_KEY, Model, ModelMetadata
from cellscribble.core.errors import ModelError

LAST_LAYER = "/network/classify/"
LOGITS = "/network/classify/Conv_output_0"
HEAD = "/head/"
BACKGROUND_BIAS = "head.background_bias"

Floats = npt.NDArray[np.float32]
Layer = tuple[Floats, Floats]
"""Weight (out, in) and bias (out,) of a layer that sees one pixel."""


@dataclass(frozen=True, slots=True)
class LastLayer:
    """What is behind the features: the metric's two layers, if the model was adapted before, and the classifier."""

    metric: tuple[Layer, Layer] | None
    classifier: Layer


class NetworkFile:
    """An ONNX network whose last layer can be read and replaced.

    Raises
    ------
    ModelError
        If the network has no such layer: it was not made by `cellscribble train`, or by a method whose last layer
        does not give one channel a class.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._proto = onnx.load(str(model.path))
        self._last = [node for node in self._proto.graph.node if node.name.startswith(LAST_LAYER)]
        self.last_layer = self._read()
        self._features: str = self._last[0].input[0]

    @property
    def n_features(self) -> int:
        """Features of a pixel."""
        layer = self.last_layer.metric[0] if self.last_layer.metric else self.last_layer.classifier
        return int(layer[0].shape[1])

    def write_features(self, path: Path) -> None:
        """Write the network without its last layer, as a model that has one class a feature."""
        proto = self._copy()
        graph = proto.graph
        kept = [node for node in graph.node if not node.name.startswith((LAST_LAYER, HEAD))]
        # What the head is given is the last layer's answer, or that without the halo (`trim` of `bundle`).
        by_head = {name for node in graph.node if node.name.startswith(HEAD) for name in node.input}
        cut = [name for node in kept if node.op_type != "Constant" for name in node.output if name in by_head]
        for node in kept:
            inputs = [self._features if name == LOGITS else name for name in node.input]
            del node.input[:]
            node.input.extend(inputs)
        self._set_nodes(proto, [*kept, self._node("Identity", cut or [self._features], "probability")])
        graph.output[0].type.tensor_type.shape.dim[1].dim_value = self.n_features
        self._save(proto, self._features_metadata(), path)

    def write_adapted(self, last: LastLayer, background_bias: float, metadata: ModelMetadata, path: Path) -> None:
        """Write the network with another last layer, and what it now says of itself.

        background_bias : logit of the edge level, added to the background's channel
        """
        proto = self._copy()
        graph = proto.graph
        nodes = list(graph.node)
        at = next(i for i, node in enumerate(nodes) if node.name == self._last[0].name)
        others = [node for node in nodes if not node.name.startswith(LAST_LAYER)]
        names = {name for node in self._last for name in node.input[1:]} | {BACKGROUND_BIAS}
        stored = [tensor for tensor in graph.initializer if tensor.name not in names]
        layers, inputs = [], self._features
        if last.metric is not None:
            first, second = last.metric
            layers += self._conv(stored, "first", first, inputs, "first")
            layers.append(self._node("Relu", [LAST_LAYER + "first"], LAST_LAYER + "relu"))
            layers += self._conv(stored, "second", second, LAST_LAYER + "relu", "second")
            layers.append(self._node("Add", [inputs, LAST_LAYER + "second"], LAST_LAYER + "embedded"))
            inputs = LAST_LAYER + "embedded"
        layers += self._conv(stored, "Conv", last.classifier, inputs, "Conv_output_0")
        stored.append(onnx.numpy_helper.from_array(np.array(background_bias, np.float32), BACKGROUND_BIAS))
        del graph.initializer[:]
        graph.initializer.extend(stored)
        self._set_nodes(proto, [*others[:at], *layers, *others[at:]])
        self._save(proto, metadata, path)

    def _read(self) -> LastLayer:
        stored = {t.name: onnx.numpy_helper.to_array(t) for t in self._proto.graph.initializer}
        convs = [node for node in self._last if node.op_type == "Conv"]
        weights = [stored.get(node.input[1]) for node in convs if len(node.input) == 3]
        whole = [w for w in weights if w is not None and w.ndim > 2 and max(w.shape[2:]) == 1]
        known = len(convs) == len(whole) in (1, 3) and BACKGROUND_BIAS in stored and convs[-1].output[0] == LOGITS
        if not known or len(whole[-1]) != len(self._model.metadata.classes):
            raise ModelError(
                f"{self._model.path} has no last layer with one channel a class that strokes could train "
                f"(method {self._model.metadata.method or 'unknown'}); give a model of another method, such as "
                "metric_learning or partial_cross_entropy"
            )
        layers = [(w.reshape(w.shape[:2]), stored[node.input[2]]) for w, node in zip(whole, convs, strict=True)]
        return LastLayer((layers[0], layers[1]) if len(layers) == 3 else None, layers[-1])

    def _conv(self, stored: list[Any], name: str, layer: Layer, inputs: str, output: str) -> list[Any]:
        """A convolution that sees one pixel; its weights are added to `stored`."""
        ndim = self._model.metadata.ndim
        arrays = {"weight": layer[0].reshape(*layer[0].shape, *(1,) * ndim), "bias": layer[1]}
        names = [f"{LAST_LAYER}{name}.{kind}" for kind in arrays]
        stored += [
            onnx.numpy_helper.from_array(np.ascontiguousarray(a, np.float32), n)
            for a, n in zip(arrays.values(), names, strict=True)
        ]
        return [self._node("Conv", [inputs, *names], LAST_LAYER + output, kernel_shape=[1] * ndim)]

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> Any:
        return onnx.helper.make_node(kind, inputs, [output], name=output, **attributes)

    def _copy(self) -> Any:
        proto = onnx.ModelProto()
        proto.CopyFrom(self._proto)
        return proto

    def _set_nodes(self, proto: Any, nodes: list[Any]) -> None:
        del proto.graph.node[:]
        proto.graph.node.extend(nodes)
        del proto.graph.value_info[:]

    def _features_metadata(self) -> ModelMetadata:
        names = tuple(f"feature {i}" for i in range(self.n_features))
        return replace(self._model.metadata, classes=names, colors=((0, 0, 0),) * len(names), graph_cut=None)

    def _save(self, proto: Any, metadata: ModelMetadata, path: Path) -> None:
        del proto.metadata_props[:]
        entry = proto.metadata_props.add()
        entry.key, entry.value = METADATA_KEY, metadata.to_json()
        onnx.checker.check_model(proto)
        path.write_bytes(proto.SerializeToString())
