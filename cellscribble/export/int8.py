"""A model in 8-bit arithmetic, which takes less time on processors, compared with the one it comes from.

Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
CVPR 2018, section 2, by ONNX Runtime's static quantisation; nothing is trained again.

Weights have a scale for each output channel and use 7 of the 8 bits: processors without VNNI add two products in 16
bits, which would overflow. The range of each activation is the mean of its ranges on single tiles; the extremes of all
tiles together are set by the oddest one, and every tile more makes the steps coarser. The convolutions of the image
stay float (8 bits are slower for one channel, and too coarse where few pixels are far brighter than all others), and
so does all from the last convolution on, where the edge level is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from cellscribble.bundle import INT8, METADATA_KEY, Model, int8_path, open_model
from cellscribble.core.blocks import padded_shape, read_padded
from cellscribble.core.errors import ModelError
from cellscribble.core.progress import Tell, Work
from cellscribble.export.onnx import Comparison, export
from cellscribble.infer.runner import Runner
from cellscribble.io.atomic import atomic_path, check_writable, remove
from cellscribble.train.run_folder import load_tiles

INPUT, OUTPUT = "image", "probability"
LARGEST_CHANGE = 1e-3
"""Share of the pixels that may be decided otherwise than by the float model."""

Tiles = Sequence[npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Exported:
    """A run's model, and its int8 form for processors.

    comparisons : of the float model with torch
    int8 : None where there is none
    changed_share : of the training tiles' pixels, how many int8 puts into another class; None where it was not tried
    why_not : why there is no int8 model; else empty
    """

    model: Model
    comparisons: list[Comparison]
    int8: Model | None = None
    changed_share: float | None = None
    why_not: str = ""


def export_both(
    run: Path,
    path: Path,
    *,
    about: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    tell: Tell | None = None,
) -> Exported:
    """`onnx.export` of a run folder, and beside it the same in int8, which `predict` takes on processors.

    Parameters as `onnx.export`. Where `to_int8` refuses there is the float model only: an older int8 model is removed.

    Raises
    ------
    ModelError, OutputError
        As `onnx.export`; also if the int8 model's place is taken and `overwrite` is not given.
    """
    beside = int8_path(path)
    for place in (path, beside):
        check_writable(place, overwrite)
    model, comparisons = export(run, path, about=about, overwrite=overwrite, tell=tell)
    if model.metadata.ndim == 3:
        remove(beside)
        return Exported(model, comparisons)
    try:
        with Work(tell).part("the model in 8 bits", 1):
            int8, share = to_int8(model, load_tiles(run), beside, overwrite=True)
    except ModelError as error:
        remove(beside)
        return Exported(model, comparisons, why_not=str(error))
    return Exported(model, comparisons, int8, share)


def to_int8(model: Model, tiles: Tiles, path: Path, *, overwrite: bool = False) -> tuple[Model, float]:
    """Write `model` in 8-bit arithmetic to `path`.

    Parameters
    ----------
    model : a float model of planes
    tiles : real images, (C, *spatial) float32 each and normalised, to which it is fitted and on which it is compared

    Returns
    -------
    The new model, and the share of the tiles' pixels that it puts into another class.

    Raises
    ------
    ModelError
        If the model is in 8 bits already or of volumes, or if more than .1 % of the pixels change; then nothing
        is written.
    OutputError
        If `path` exists and `overwrite` is not given, or cannot be written.
    """
    meta = model.metadata
    if meta.precision == INT8:
        raise ModelError(f"{model.path} is an int8 model already; give the float model that it was made of")
    if meta.ndim == 3:
        raise ModelError(
            "int8 is for models of planes; convolutions of volumes gain little from it: use the float model as it is"
        )
    shapes = [padded_shape(tile.shape[1:], meta.stride_multiple) for tile in tiles]
    blocks = [read_padded(tile, tuple(map(slice, (0,) * len(s), s))) for tile, s in zip(tiles, shapes, strict=True)]
    with atomic_path(path, overwrite=overwrite) as temporary:
        _quantise(model, blocks, temporary)
        share = changed_share(Runner(model, "cpu"), Runner(open_model(temporary), "cpu"), blocks)
        if not share <= LARGEST_CHANGE:
            raise ModelError(
                f"int8 decides {share:.2%} of the pixels of the training tiles otherwise than the float "
                f"model (allowed {LARGEST_CHANGE:.1%}), so it was not written: use the float model, or train longer"
            )
    return open_model(path), share


def changed_share(one: Runner, other: Runner, blocks: Tiles) -> float:
    """Share of the pixels of normalised blocks (C, *spatial) that two models put into different classes."""
    changed = [(one(block).argmax(axis=0) != other(block).argmax(axis=0)).ravel() for block in blocks]
    return float(np.concatenate(changed).mean())


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Hands blocks (C, *spatial) to ONNX Runtime."""

    def __init__(self, blocks: Tiles) -> None:
        self._left = iter(blocks)

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        block = next(self._left, None)
        return None if block is None else {INPUT: block[np.newaxis]}


def _quantise(model: Model, blocks: Tiles, path: Path) -> None:
    proto = onnx.load(str(model.path))
    # ONNX Runtime asks for its pre-processing, which is to fold batch norms; our exporter has done that.
    onnx.helper.set_model_props(proto, {"onnx.quant.pre_process": "onnxruntime.quant"})
    # Its session warns of an input that need not be given, which is meant.
    onnxruntime.set_default_logger_severity(3)
    try:
        quantize_static(
            proto,
            str(path),
            _Reader(blocks),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            nodes_to_exclude=float_nodes(proto.graph),
            extra_options={"CalibMovingAverage": True},
        )
    finally:
        onnxruntime.set_default_logger_severity(2)
    written = onnx.load(str(path))
    onnx.helper.set_model_props(
        written, {METADATA_KEY: replace(model.metadata, precision=INT8, made_of=model.sha256).to_json()}
    )
    onnx.checker.check_model(written)
    path.write_bytes(written.SerializeToString())


def float_nodes(graph: Any) -> list[str]:
    """Names of the nodes that stay float: the convolutions of the image, and all from the last ones to the output."""
    made_by = {output: node for node in graph.node for output in node.output}
    image = {INPUT}
    for node in graph.node:
        if node.op_type == "Slice" and node.input[0] in image:
            image.update(node.output)
    names = [node.name for node in graph.node if node.op_type == "Conv" and node.input[0] in image]
    asked = [OUTPUT]
    while asked:
        node = made_by.get(asked.pop())
        if node is None:
            continue
        names.append(node.name)
        if node.op_type != "Conv":
            asked += node.input
    return list(dict.fromkeys(names))
