"""Operations: Mpixel/s by network, tile size and arithmetic, and how good each network is.

    python benchmarks/operations.py DATA --trained light A/model.onnx B/model.onnx --trained resnet34 C/model.onnx \\
        --mosaic MOSAIC --out operations.csv

The networks, on one thread of ONNX Runtime: the shipped model and the first model behind each --trained (models for
fluorescence as `cellscribble train` and `accuracy.py --keep` leave them), in float32 and in int8 as every export
makes it, fitted to training images; and the light network in 3D with random weights. With openvino
installed each float network runs there too. Pixels are those that are kept of a tile, its halo (the network's
receptive field) costs; a network that can leaves it out of its decoder. Variants take turns, and the least of --rounds
counts, since other programs may be at work. All models are scored, by the mean over the images of dsb_fluo/val of the
IoU of the foreground with masks drawn by hand. --mosaic is an OME-Zarr as `engine.py` makes it: the first model of
each name then segments it by `cellscribble predict`, all cores, reading, objects and writing and all: in int8 where
the model may be, which is what `predict` takes, and the float model.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from engine import found_in, predict
from onnx import numpy_helper
from table import append_row

from cellscribble.bundle import TRIM, Model, ModelMetadata, open_model
from cellscribble.core.blocks import padded_shape
from cellscribble.core.errors import ModelError
from cellscribble.core.intensity import fit_intensity
from cellscribble.core.volume import AXES_3D
from cellscribble.export.int8 import Tiles, to_int8
from cellscribble.export.onnx import to_onnx
from cellscribble.infer.blockwise import predict_probability
from cellscribble.infer.find_model import find_model
from cellscribble.infer.runner import Runner
from cellscribble.io.images import list_images, open_image
from cellscribble.io.label_images import read_labels
from cellscribble.metrics.overlap import score_masks
from cellscribble.nn.build import build_network, receptive_field_px
from cellscribble.nn.heads import SoftmaxHead, WithHead

Network = Callable[..., np.ndarray]
COLUMNS = ("network", "arithmetic", "tile_px", "halo_px", "cpu_s_mpixel", "mpixel_s", "to_float")


def fitted_to(model: Model, folder: Path, n: int) -> Tiles:
    """Images (C, *spatial) float32 as the model takes them."""
    images = map(open_image, list_images(folder)[:n])
    return [fit_intensity(image, model.metadata.intensity).apply(np.asarray(image.data)) for image in images]


def random_light_3d(like: ModelMetadata, folder: Path) -> Model:
    """The light network of volumes with random weights."""
    torch.manual_seed(0)
    network = build_network("light", 1, 2, 3).eval()
    halo, multiple = receptive_field_px(network, 1), tuple(network.stride_multiple)
    meta = replace(like, axes=AXES_3D, halo_px=halo, stride_multiple=multiple, pixel_size_um=None)
    path = folder / "light_3d.onnx"
    path.write_bytes(to_onnx(WithHead(network, SoftmaxHead()).eval(), meta))
    return open_model(path)


def in_8_bits(model: Model, tiles: Tiles, path: Path) -> Model | None:
    """None where an export would leave it out, which is said."""
    try:
        return to_int8(model, tiles, path)[0]
    except ModelError as error:
        print(error)
        return None


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


def rows(who: str, model: Model, int8: Model | None, tiles_px: Sequence[int], rounds: int) -> Iterator[dict[str, Any]]:
    meta = model.metadata
    variants = {"float32": in_onnxruntime(model.path), "openvino": in_openvino(model.path)}
    variants |= {"int8": in_onnxruntime(int8.path)} if int8 else {}
    running = {kind: network for kind, network in variants.items() if network is not None}
    halo = padded_shape(meta.halo_px, meta.stride_multiple)
    for tile_px in tiles_px:
        sizes = padded_shape([tile_px + 2 * h for h in halo], meta.stride_multiple)
        tile: np.ndarray = np.random.default_rng(0).random((1, 1, *sizes), np.float32)
        found = cpu_s_mpixel(running, tile, tile_px ** len(halo), rounds)
        for kind, seconds in found.items():
            speeds = (round(seconds, 3), round(1 / seconds, 3), round(seconds / found["float32"], 2))
            yield dict(zip(COLUMNS, (who, kind, tile_px, meta.halo_px[-1], *speeds), strict=True))


def foregrounds(model: Model, images: list[Path]) -> list[np.ndarray]:
    """(*spatial) bool of each image."""
    runner = Runner(model, "cpu")
    return [predict_probability(open_image(path), model, runner)[0] < 0.5 for path in images]


def mean_iou(found: list[np.ndarray], images: list[Path], labels: Path) -> float:
    pairs = zip(found, images, strict=True)
    return float(np.mean([score_masks(inside, read_labels(labels / path.name)).iou for inside, path in pairs]))


def tell_scores(who: str, models: list[Model], int8: Model | None, images: list[Path], labels: Path) -> None:
    """Print the mean IoU of each model, and what int8 of the first makes of it."""
    found = [foregrounds(model, images) for model in models]
    ious = [mean_iou(masks, images, labels) for masks in found]
    print(f"{who}: IoU {np.mean(ious):.4f} ({', '.join(f'{iou:.4f}' for iou in ious)})", flush=True)
    if int8 is not None:
        masks = foregrounds(int8, images)
        flipped = np.mean(np.concatenate([(a != b).ravel() for a, b in zip(found[0], masks, strict=True)]))
        iou = mean_iou(masks, images, labels)
        print(f"{who}, the first in int8: IoU {iou:.4f}; {flipped:.3%} of the pixels differ", flush=True)


def tell_whole_run(who: str, model: Model, mosaic: Path, more: Sequence[str] = ()) -> None:
    mpixel = open_image(mosaic).n_pixels / 1e6
    seconds, busy, peak_mib = predict(mosaic, model, more)
    print(
        f"{who}, {model.metadata.precision}: the whole predict of {mpixel:.0f} Mpixel {seconds:.1f} s, "
        f"{mpixel / seconds:.3f} Mpixel/s, processor {busy:.0f} s, {peak_mib:.0f} MiB, "
        f"{found_in(mosaic)['n_objects']} objects",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument(
        "--trained", nargs="+", action="append", default=[], metavar=("NAME", "MODEL"), help="more models of planes"
    )
    parser.add_argument("--mosaic", type=Path, help="segment this with the first model of each name")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiles", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument(
        "--fitted", type=int, default=3, help="training images that int8 is fitted to, as many as a run keeps"
    )
    parser.add_argument("--images", type=int, help="of dsb_fluo/val, by which models are scored; all if not given")
    parser.add_argument("--out", type=Path, help="append the rows to this CSV")
    arguments = parser.parse_args()
    images = list_images(arguments.data / "dsb_fluo/val/images")[: arguments.images]
    labels = arguments.data / "dsb_fluo/val/labels"
    shipped = open_model(find_model("nuclei_fluorescence"))
    planes = [("shipped", [shipped])]
    planes += [(name, [open_model(Path(path)) for path in paths]) for name, *paths in arguments.trained]
    print("".join(f"{name:>16}" for name in COLUMNS))

    def show(found: Iterator[dict[str, Any]]) -> None:
        for row in found:
            print("".join(f"{value!s:>16}" for value in row.values()), flush=True)
            if arguments.out:
                append_row(arguments.out, COLUMNS, row)

    with tempfile.TemporaryDirectory() as folder:
        for who, models in planes:
            tiles = fitted_to(models[0], arguments.data / "dsb_fluo/train/images", arguments.fitted)
            int8 = in_8_bits(models[0], tiles, Path(folder) / f"{who}.onnx")
            show(rows(who, models[0], int8, arguments.tiles, arguments.rounds))
            tell_scores(who, models, int8, images, labels)
            if arguments.mosaic:
                if int8 is not None:
                    tell_whole_run(who, int8, arguments.mosaic)
                tell_whole_run(who, models[0], arguments.mosaic, ["--float32"])
        show(rows("light 3D", random_light_3d(shipped.metadata, Path(folder)), None, [64], arguments.rounds))


if __name__ == "__main__":
    main()
