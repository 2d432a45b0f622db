"""Operations: processor time of a Mpixel by network, tile size and arithmetic; and what int8 does to the answer.

    python benchmarks/operations.py DATA --out operations.csv

The networks, on one thread of ONNX Runtime: the shipped model (float32, and int8 as `cellscribble export --int8`
makes it, fitted to training images), and with random weights the light network and the ResNet-34 U-Net in 2D, and the
light one in 3D. With openvino installed each float network runs there too. Pixels are those that are kept of a tile,
its halo (the network's receptive field) costs; a network that can leaves it out of its decoder. Variants take turns,
and the least of --rounds counts, since other programs may be at work. IoU is that of the foreground with masks drawn
by hand, of the shipped model on dsb_fluo/val.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from table import append_row

from cellscribble.bundle import TRIM, Model, ModelMetadata, open_model
from cellscribble.core.blocks import padded_shape
from cellscribble.core.intensity import fit_intensity
from cellscribble.core.volume import AXES_2D, AXES_3D
from cellscribble.export.int8 import to_int8
from cellscribble.export.onnx import to_onnx
from cellscribble.infer.find_model import find_model
from cellscribble.io.images import list_images, open_image
from cellscribble.nn.build import build_network, receptive_field_px
from cellscribble.nn.heads import SoftmaxHead, WithHead

Network = Callable[..., np.ndarray]
COLUMNS = ("network", "arithmetic", "tile_px", "halo_px", "cpu_s_mpixel", "to_float")


def tiles_of(folder: Path, n: int | None, multiple: tuple[int, ...]) -> Iterator[tuple[np.ndarray, Path]]:
    """Normalised images (1, C, *spatial) float32, cut to the network's stride, and their files."""
    meta = open_model(find_model("nuclei_fluorescence")).metadata
    for path in list_images(folder)[:n]:
        image = open_image(path)
        pixels = fit_intensity(image, meta.intensity).apply(np.asarray(image.data))
        sizes = [size // m * m for size, m in zip(pixels.shape[1:], multiple, strict=True)]
        yield pixels[(np.newaxis, slice(None), *(slice(0, size) for size in sizes))], path


def random_network(
    name: str, ndim: int, like: ModelMetadata, folder: Path
) -> tuple[Path, tuple[int, ...], tuple[int, ...]]:
    """A network with random weights as a model file, its halo and its stride."""
    torch.manual_seed(0)
    network = build_network(name, 1, 2, ndim).eval()
    halo, multiple = receptive_field_px(network, 1), tuple(network.stride_multiple)
    axes = {2: AXES_2D, 3: AXES_3D}[ndim]
    meta = replace(like, axes=axes, halo_px=halo, stride_multiple=multiple, pixel_size_um=None)
    path = folder / f"{name}{ndim}.onnx"
    path.write_bytes(to_onnx(WithHead(network, SoftmaxHead()).eval(), meta))
    return path, halo, multiple


def networks(
    shipped: Model, inputs: list[np.ndarray], folder: Path
) -> Iterator[tuple[str, Path, tuple[int, ...], tuple[int, ...], Path | None]]:
    """Name, file, halo and stride of each, and its int8, made when its turn comes."""
    int8, _ = to_int8(shipped, inputs, folder / "int8.onnx")
    meta = shipped.metadata
    yield "shipped", shipped.path, meta.halo_px, meta.stride_multiple, int8.path
    for name, ndim in (("light", 2), ("light", 3), ("resnet34", 2)):
        yield f"{name} {ndim}D", *random_network(name, ndim, meta, folder), None


def in_onnxruntime(path: Path) -> Network:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.enable_mem_pattern = 1, False
    options.log_severity_level = 3  # it warns of the input that need not be given
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    trims = [given.name for given in session.get_overridable_initializers()]

    def run(tile: np.ndarray, inner: bool = False) -> np.ndarray:
        sides = {name: np.ones((tile.ndim - 2, 2), np.int64) for name in trims} if inner else {}
        return np.asarray(session.run(["probability"], {"image": tile, **sides})[0])

    return run


def in_openvino(path: Path) -> Network | None:
    """None where it is not installed. All its inputs must be given, so there is a network for each value of `trim`."""
    try:
        import openvino
    except ImportError:
        return None
    settings = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    compiled = {
        inner: core.compile_model(core.read_model(with_trim(path, inner)), "CPU", settings) for inner in (False, True)
    }
    return lambda tile, inner=False: np.asarray(compiled[inner]({"image": tile})[0])


def with_trim(path: Path, inner: bool) -> bytes:
    """A model that leaves out its halo on all sides, or on none, and takes no word about it."""
    model = onnx.load(str(path))
    for initializer in model.graph.initializer:
        if initializer.name == TRIM:
            value = np.full_like(numpy_helper.to_array(initializer), int(inner))
            initializer.CopyFrom(numpy_helper.from_array(value, TRIM))
    given = [i for i in model.graph.input if i.name != TRIM]
    del model.graph.input[:]
    model.graph.input.extend(given)
    return bytes(model.SerializeToString())


def cpu_s_mpixel(variants: dict[str, Network], tile: np.ndarray, kept: float, rounds: int) -> dict[str, float]:
    """Least processor seconds of a kept Mpixel, of each."""
    least: dict[str, float] = {}
    for name, network in variants.items():
        network(tile, inner=True)
        least[name] = np.inf
    for _ in range(rounds):
        for name, network in variants.items():
            began = time.process_time()
            network(tile, inner=True)
            least[name] = min(least[name], (time.process_time() - began) / kept * 1e6)
    return least


def overlap(network: Network, data: Path, n: int | None, multiple: tuple[int, ...]) -> tuple[float, np.ndarray]:
    """IoU of the foreground of all pixels with the masks, and the foreground itself."""
    both, either, found = 0, 0, []
    for tile, path in tiles_of(data / "dsb_fluo/val/images", n, multiple):
        inside = network(tile)[0, 0] < 0.5
        truth = np.asarray(open_image(data / "dsb_fluo/val/labels" / path.name).data)[0] > 0
        truth = truth[tuple(slice(0, size) for size in inside.shape)]
        both, either = both + int((inside & truth).sum()), either + int((inside | truth).sum())
        found.append(inside.ravel())
    return both / either, np.concatenate(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiles", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument(
        "--fitted", type=int, default=3, help="training images that int8 is fitted to, as many as a run keeps"
    )
    parser.add_argument("--images", type=int, help="of dsb_fluo/val, on which int8 is compared; all if not given")
    parser.add_argument("--out", type=Path, help="append the rows to this CSV")
    arguments = parser.parse_args()
    shipped = open_model(find_model("nuclei_fluorescence"))
    print("".join(f"{name:>16}" for name in COLUMNS))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = [t[0] for t, _ in tiles_of(arguments.data / "dsb_fluo/train/images", arguments.fitted, (16, 16))]
        for who, path, halo_px, multiple, int8 in networks(shipped, inputs, folder):
            variants = {"float32": in_onnxruntime(path), "openvino": in_openvino(path)}
            variants |= {"int8": in_onnxruntime(int8)} if int8 else {}
            running = {kind: network for kind, network in variants.items() if network is not None}
            halo = padded_shape(halo_px, multiple)
            for tile_px in arguments.tiles if len(halo) == 2 else [64]:
                sizes = padded_shape([tile_px + 2 * h for h in halo], multiple)
                tile: np.ndarray = np.random.default_rng(0).random((1, 1, *sizes), np.float32)
                found = cpu_s_mpixel(running, tile, tile_px ** len(halo), arguments.rounds)
                for kind, seconds in found.items():
                    values: tuple[Any, ...] = (who, kind, tile_px, halo[-1], round(seconds, 3))
                    row = dict(zip(COLUMNS, (*values, round(seconds / found["float32"], 2)), strict=True))
                    print("".join(f"{value!s:>16}" for value in row.values()), flush=True)
                    if arguments.out:
                        append_row(arguments.out, COLUMNS, row)
            if int8:
                scores = [
                    overlap(running[kind], arguments.data, arguments.images, multiple) for kind in ("float32", "int8")
                ]
                flipped = (scores[0][1] != scores[1][1]).mean()
                ious = f"float32 {scores[0][0]:.4f}, int8 {scores[1][0]:.4f}"
                print(f"IoU of the foreground: {ious}; {flipped:.3%} of the pixels differ")


if __name__ == "__main__":
    main()
