"""A network whose answer can be worked out: no training, no torch.

probability of the object = clip(0.5 * box blur of 5 + 0.5 * mean of each 2x2(x2) cell, 0, 1), the
channels averaged. It sees 2 px around a pixel and has stride 2, so halo and stride matter.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from scipy import ndimage

from cellscribble.bundle import METADATA_KEY, ModelMetadata
from cellscribble.core.intensity import IntensityRule

BLUR = 5


def metadata(ndim: int = 2, n_channels: int = 1, **changes: Any) -> ModelMetadata:
    settings: dict[str, Any] = {
        "name": "box blur",
        "classes": ("background", "cell"),
        "colors": ((0, 0, 0), (255, 0, 0)),
        "axes": "CYX" if ndim == 2 else "CZYX",
        "channels": ("DAPI", "GFP", "RFP")[:n_channels],
        "stride_multiple": (2,) * ndim,
        "halo_px": (2,) * ndim,
        "segmenter": "instances",
        "segmenter_parameters": {"threshold": 0.5, "smallest_object_px": 1},
        "intensity": IntensityRule("percentile", 0.0, 100.0),
        "method": "none",
        "license": "CC0-1.0",
    }
    return ModelMetadata(**(settings | changes))


def write_model(path: Path, meta: ModelMetadata | None = None, *, text: str | None = None) -> Path:
    """Write the network with `meta`; `text` takes the place of the JSON, "" leaves it out."""
    meta = meta or metadata()
    ndim, channels = meta.ndim, len(meta.channels)
    ones = [1] * ndim
    constants = {
        "blur": np.full((1, channels, *([BLUR] * ndim)), 1 / (channels * BLUR**ndim), np.float32),
        "coarse": np.full((1, channels, *([2] * ndim)), 1 / (channels * 2**ndim), np.float32),
        "spread": np.ones((1, 1, *([2] * ndim)), np.float32),
        "half": np.array(0.5, np.float32),
        "zero": np.array(0, np.float32),
        "one": np.array(1, np.float32),
    }
    pad = [BLUR // 2] * (2 * ndim)
    nodes = [
        helper.make_node("Conv", ["image", "blur"], ["blurred"], pads=pad, strides=ones),
        helper.make_node("Conv", ["image", "coarse"], ["cells"], strides=[2] * ndim),
        helper.make_node("ConvTranspose", ["cells", "spread"], ["flat"], strides=[2] * ndim),
        helper.make_node("Add", ["blurred", "flat"], ["sum"]),
        helper.make_node("Mul", ["sum", "half"], ["mean"]),
        helper.make_node("Clip", ["mean", "zero", "one"], ["p"]),
        helper.make_node("Sub", ["one", "p"], ["q"]),
    ]
    share = len(meta.classes) - 1
    if share > 1:
        # Classes beyond the first share the object's probability equally.
        constants["share"] = np.array(1 / share, np.float32)
        nodes.append(helper.make_node("Mul", ["p", "share"], ["part"]))
    parts = ["q", *(["part" if share > 1 else "p"] * share)]
    nodes.append(helper.make_node("Concat", parts, ["probability"], axis=1))
    space = ["z", "y", "x"][-ndim:]
    graph = helper.make_graph(
        nodes,
        "box_blur",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", channels, *space])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", share + 1, *space])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    text = meta.to_json() if text is None else text
    if text:
        helper.set_model_props(model, {"other": "kept", METADATA_KEY: text})
    onnx.save(model, path)
    return path


def expected_object_probability(normalised: np.ndarray) -> np.ndarray:
    """What `write_model`'s network must answer to a whole image (C, *spatial) of even size."""
    image = normalised.mean(axis=0)
    blurred = ndimage.uniform_filter(image.astype(np.float64), BLUR, mode="constant")
    flat = image.astype(np.float64)
    for axis in range(image.ndim):
        pairs = flat.reshape(*flat.shape[:axis], -1, 2, *flat.shape[axis + 1 :])
        flat = pairs.mean(axis=axis + 1).repeat(2, axis=axis)
    return np.clip(0.5 * blurred + 0.5 * flat, 0, 1)


def disks(shape: tuple[int, ...] = (48, 64), value: int = 200) -> np.ndarray:
    """(1, *shape) uint8 with two bright balls of radius 7 on black, 4 px from the left border."""
    grid = np.indices(shape)
    out = np.zeros(shape, np.uint8)
    for x in (12, shape[-1] - 14):
        centre = (*(n // 2 for n in shape[:-1]), x)
        out[sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) <= 49] = value
    return out[np.newaxis]
