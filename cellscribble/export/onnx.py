"""From a run folder to one model file, checked number by number."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cellscribble.bundle import METADATA_KEY, TRIM, Model, ModelMetadata, open_model
from cellscribble.config import config_from_mapping
from cellscribble.core.blocks import Slices, read_padded
from cellscribble.core.errors import ModelError
from cellscribble.core.progress import Done, Tell, Work, unheard
from cellscribble.io.atomic import atomic_path
from cellscribble.nn.build import build_network
from cellscribble.nn.heads import WithHead
from cellscribble.nn.resnet_unet import ResNetUNet
from cellscribble.nn.unet import LightUNet
from cellscribble.train.checkpoint import BEST, load_state
from cellscribble.train.run_folder import load_facts, load_tiles
from cellscribble.train.start import make_method

OPSET = 17
TOLERANCE = 1e-4
SIZES_2D = (64, 192, 512)
SIZES_3D = (32, 64)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Largest difference between torch and ONNX Runtime, for one tile size in px."""

    size_px: int
    largest_difference: float


def export(
    run: Path,
    path: Path,
    *,
    about: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    tell: Tell | None = None,
) -> tuple[Model, list[Comparison]]:
    """Write `path` from the best state of a run folder.

    Parameters
    ----------
    about : what the model says of itself instead of what the run says: its "name", "license", "citation"
    tell : told how far the comparison with torch is

    Raises
    ------
    ModelError
        If the folder is no run, or if ONNX Runtime's probabilities differ from torch's by more
        than 1e-4 on real tiles of several sizes; then nothing is written.
    OutputError
        If `path` exists and `overwrite` is not given, or cannot be written.
    """
    metadata, work = replace(load_facts(run), **(about or {})), Work(tell)
    module = load_module(run, metadata)
    with atomic_path(path, overwrite=overwrite) as temporary, work.part("exporting the model", 1):
        temporary.write_bytes(to_onnx(module, metadata))
        comparisons = compare(module, open_model(temporary), load_tiles(run), done=work.done)
        for worst in comparisons:
            if worst.largest_difference <= TOLERANCE:
                continue
            raise ModelError(
                f"the exported model differs from the trained one by {worst.largest_difference:.2g} on a "
                f"{worst.size_px} px tile (allowed {TOLERANCE:g}); do not use it, and report this with doctor's output"
            )
    return open_model(path), comparisons


def load_module(run: Path, metadata: ModelMetadata) -> WithHead:
    """The trained network with its head, in evaluation mode, on the CPU."""
    config = config_from_mapping(metadata.config, str(run))
    method = make_method(config, len(metadata.classes))
    network = build_network(
        config.network, len(metadata.channels), method.out_channels(), metadata.ndim, metadata.pixel_size_um
    )
    tensors, _ = load_state(run / BEST, torch.device("cpu"))
    try:
        network.load_state_dict(tensors["network"])
    except (KeyError, RuntimeError) as error:
        raise ModelError(f"{run / BEST} does not fit the network of this run ({error}); train again") from error
    level = 0.5 if metadata.edge_threshold is None else metadata.edge_threshold
    return WithHead(network, method.head(level)).eval()


class _Trimmed(nn.Module):
    """Network and head for a block with its halo, see `nn.trim`."""

    def __init__(self, network: LightUNet | ResNetUNet, head: nn.Module, halo_px: Sequence[int]) -> None:
        super().__init__()
        self.network, self.head, self.halo_px = network, head, halo_px

    def forward(self, image: Tensor, trim: Tensor) -> Tensor:
        logits = self.network(image, self.network.trim(trim, self.halo_px))
        out: Tensor = self.head(logits)["probability"]
        return out


def to_onnx(module: WithHead, metadata: ModelMetadata) -> bytes:
    """The model file of a network with its head, in evaluation mode."""
    import onnx

    space = {2 + a: "zyx"[-metadata.ndim :][a] for a in range(metadata.ndim)}
    example = torch.zeros(1, len(metadata.channels), *(2 * m for m in metadata.stride_multiple))
    trimmed = None
    if isinstance(module.network, LightUNet | ResNetUNet) and module.network.can_trim:
        trimmed = _Trimmed(module.network, module.head, metadata.read_halo_px).eval()
    nothing = torch.zeros(metadata.ndim, 2, dtype=torch.int64)
    around = {2 + a: f"inner_{name}" for a, name in enumerate(space.values())} if trimmed else space
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The tracing exporter is deprecated but takes 1 s where its successor takes 15, and its file
        # gives the same numbers (compared below in every export).
        warnings.simplefilter("ignore")
        torch.onnx.export(
            trimmed or module,
            (example, nothing) if trimmed else (example,),
            buffer,  # type: ignore[arg-type]
            input_names=["image", TRIM] if trimmed else ["image"],
            output_names=["probability"],
            dynamic_axes={"image": {0: "n", **space}, "probability": {0: "n", **around}},
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load_from_string(buffer.getvalue())
    if trimmed:
        # What nobody gives is nothing: without it this is a network like any other.
        model.graph.initializer.append(onnx.numpy_helper.from_array(nothing.numpy(), TRIM))
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, metadata.to_json()
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def compare(
    module: WithHead,
    model: Model,
    tiles: Sequence[npt.NDArray[np.float32]],
    sizes_px: Sequence[int] | None = None,
    *,
    done: Done = unheard,
) -> list[Comparison]:
    """Run torch and ONNX Runtime over real tiles (C, *spatial) cut or mirrored to several sizes.

    The largest ones are also asked about without their halo, as in large images, where they are larger than that.

    sizes_px : edges of the tiles, rounded down to the network's stride; None for those of every export
    done : told after each comparison which share of all it is
    """
    from cellscribble.infer.runner import Runner

    runner = Runner(model, device="cpu")
    multiple = model.metadata.stride_multiple
    out = []
    shapes = {
        size: tuple(max(1, size // m) * m for m in multiple)
        for size in sizes_px or (SIZES_2D if model.metadata.ndim == 2 else SIZES_3D)
    }
    n_pixels = len(tiles) * sum(map(math.prod, shapes.values()))
    for size, shape in shapes.items():
        worst = 0.0
        for tile in tiles:
            block = read_padded(tile, tuple(slice(0, n) for n in shape))
            with torch.inference_mode():
                expected = module(torch.from_numpy(block)[None])["probability"][0].numpy()
            # np.maximum, not max: NaN must stay.
            worst = float(np.maximum(worst, np.abs(runner(block) - expected).max()))
            inner = _inner(shape, model.metadata)
            if size == max(shapes) and inner != tuple(slice(0, n) for n in shape):
                difference = np.abs(runner(block, inner) - expected[(slice(None), *inner)]).max()
                worst = float(np.maximum(worst, difference))
            done(math.prod(shape) / n_pixels)
        out.append(Comparison(size, worst))
    return out


def _inner(shape: Sequence[int], metadata: ModelMetadata) -> Slices:
    """A block without its halo on each axis on which it is larger than that."""
    halos = metadata.read_halo_px
    return tuple(slice(h, n - h) if n > 2 * h else slice(0, n) for n, h in zip(shape, halos, strict=True))
