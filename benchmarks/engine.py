"""The engine against the bare network: throughput with labels, peak memory, at several sizes.

    python benchmarks/engine.py DATA WORK --mpixel 64 1024 --out engine.csv

For each size an OME-Zarr is made (once) in WORK by tiling real images: dsb_fluo, and monuseg as
inverted grey, placed by a seeded draw; --share leaves the rest empty. `cellscribble predict` runs on it as a program
of its own, so that its peak memory is that of the operating system. Before and after it the bare ONNX
Runtime session runs on blocks of the same image that lie in memory, halo and all: all cores on one block at
a time, and one core a block; the faster of the two is what the ratio is taken of. Pixels are those that are
kept, without halo. Both use the model that `predict` takes on a processor, the one in 8 bits where there is one, or
with --float32 the float model. The last three figures are seconds of the processor a kept Mpixel, and their ratio: a
computer that others use too slows the clock's ratio more than theirs.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from table import print_rows

from cellscribble.bundle import Model, open_model
from cellscribble.core.blocks import BlockGrid, Slices, padded_block, read_padded
from cellscribble.core.intensity import fit_intensity
from cellscribble.infer.blockwise import DEFAULT_BLOCK_PX
from cellscribble.infer.find_model import find_model, open_for
from cellscribble.infer.runner import Runner, usable_cores
from cellscribble.io.images import list_images, open_image
from cellscribble.io.ome_zarr import build_pyramid, create_ome_zarr

TILE_PX = 256
BARE_BLOCKS = 24
BARE_SECONDS = 15.0
"""A processor runs faster for a few seconds than for minutes."""


def tiles_of(data: Path) -> np.ndarray[Any, Any]:
    """(N, 256, 256) uint8: pieces of real images."""
    out = []
    for name in ("dsb_fluo", "monuseg"):
        for path in list_images(data / name / "train" / "images"):
            pixels = np.asarray(open_image(path).data)
            grey = 255 - pixels.mean(axis=0) if len(pixels) == 3 else pixels[0].astype(float)
            grey = (255 * grey / max(grey.max(), 1)).astype(np.uint8)
            n_y, n_x = (n // TILE_PX for n in grey.shape)
            out += [
                grey[y * TILE_PX : (y + 1) * TILE_PX, x * TILE_PX : (x + 1) * TILE_PX]
                for y in range(n_y)
                for x in range(n_x)
            ]
    return np.stack(out)


def write_mosaic(path: Path, data: Path, side_px: int, share: float) -> None:
    """A square OME-Zarr of real tiles; all but `share` of its squares of 4 x 4 tiles are empty."""
    tiles, rng = tiles_of(data), np.random.default_rng(0)
    group = create_ome_zarr(path, (1, side_px, side_px), np.uint8, "CYX", kind="image")
    full, strip_px = group["0"], 4 * TILE_PX
    for y in range(0, side_px, strip_px):
        strip = np.zeros((strip_px, side_px), np.uint8)
        for x in range(0, side_px, strip_px):
            if rng.random() < share:
                picked = tiles[rng.integers(len(tiles), size=(4, 4))]
                strip[:, x : x + strip_px] = picked.transpose(0, 2, 1, 3).reshape(strip_px, strip_px)
        full[0, y : y + strip_px] = strip
    build_pyramid(group)


def bare_blocks(path: Path, model: Model) -> tuple[list[tuple[np.ndarray[Any, Any], Slices]], int]:
    """Normalised blocks from over the whole image with their halos, what is kept of each, and the pixels of that."""
    image, meta = open_image(path), model.metadata
    intensity = fit_intensity(image, meta.intensity)
    grid = BlockGrid(image.spatial_shape, DEFAULT_BLOCK_PX[2])
    blocks, n_kept = [], 0
    for k in np.unique(np.linspace(0, len(grid) - 1, BARE_BLOCKS).astype(int)):
        block = padded_block(grid, int(k), meta.halo_px, meta.stride_multiple)
        blocks.append((intensity.apply(read_padded(image.data, block.read)), block.keep))
        n_kept += int(np.prod([s.stop - s.start for s in block.write]))
    return blocks, n_kept


def bare_speed(
    model: Model, blocks: list[tuple[np.ndarray[Any, Any], Slices]], n_kept: int, each_core: bool
) -> tuple[float, float]:
    """Kept Mpixel a second of the network alone, and seconds of the processor a kept Mpixel."""
    n_cores = usable_cores()
    runner = Runner(model, "cpu", threads=1 if each_core else n_cores)
    runner(*blocks[0])
    start, busy, rounds = time.perf_counter(), time.process_time(), 0
    with ThreadPoolExecutor(n_cores if each_core else 1) as executor:
        while time.perf_counter() - start < BARE_SECONDS:
            for _ in executor.map(lambda block: runner(*block) is None, blocks):
                pass
            rounds += 1
    n_mpixel = rounds * n_kept / 1e6
    return n_mpixel / (time.perf_counter() - start), (time.process_time() - busy) / n_mpixel


def predict(path: Path, model: Model, more: Sequence[str] = ()) -> tuple[float, float, float]:
    """Seconds, seconds of the processor and peak MiB of the whole program, with `more` options."""
    for old in path.parent.glob(f"{path.stem}_labels*"):
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    command = [sys.executable, "-m", "cellscribble", "predict", str(path), "-m", str(model.path), "--device", "cpu"]
    command += ["--ignore-pixel-size", *more]
    done = subprocess.run([sys.executable, "-c", STARTER, *command], stdout=subprocess.PIPE)
    if done.returncode:
        sys.exit(f"predict ended with {done.returncode}")
    seconds, busy, peak = map(float, done.stdout.split())
    return seconds, busy, peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def found_in(path: Path) -> dict[str, Any]:
    """What `predict` wrote down of its result for an image: its objects, its blocks."""
    group = zarr.open_group(str(path.with_name(f"{path.stem}_labels.zarr")), mode="r")
    return dict(group.attrs["cellscribble"])


STARTER = """
import resource, subprocess, sys, time
began = time.perf_counter()
code = subprocess.call(sys.argv[1:], stderr=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss)
sys.exit(code)
"""
"""Linux reckons what the program that starts another one holds as the other's own, so a small one stands between."""


def rows(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    path_of_model = find_model(arguments.model)
    model = open_model(path_of_model) if arguments.float32 else open_for("cpu", path_of_model)
    more = ["--float32"] if arguments.float32 else []
    for n_mpixel in arguments.mpixel:
        side_px = round((n_mpixel * 1e6) ** 0.5 / 1024) * 1024
        path = arguments.work / f"mosaic_{side_px}_{arguments.share:g}.zarr"
        if not path.exists():
            write_mosaic(path, arguments.data, side_px, arguments.share)
        blocks, n_kept = bare_blocks(path, model)
        before = [bare_speed(model, blocks, n_kept, each_core=each) for each in (False, True)]
        seconds, busy, peak = predict(path, model, more)
        after = [bare_speed(model, blocks, n_kept, each_core=each) for each in (False, True)]
        (all_cores, _), (each_core, bare_busy) = np.mean([before, after], axis=0).tolist()
        n_mpixel = side_px**2 / 1e6
        speed, busy = n_mpixel / seconds, busy / n_mpixel
        found = found_in(path)
        yield {
            "side_px": side_px,
            "arithmetic": model.metadata.precision,
            "share": arguments.share,
            "bare_all_cores": round(all_cores, 3),
            "bare_core_each": round(each_core, 3),
            "predict": round(speed, 3),
            "ratio": round(speed / max(all_cores, each_core), 3),
            "seconds": round(seconds, 1),
            "bare_cpu_s": round(bare_busy, 3),
            "predict_cpu_s": round(busy, 3),
            "cpu_ratio": round(bare_busy / busy, 3),
            "peak_mib": round(peak),
            "n_objects": found["n_objects"],
            "empty": found["blocks"]["empty"],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--mpixel", type=float, nargs="+", default=[64])
    parser.add_argument("--share", type=float, default=1.0, help="of the image that is not empty")
    parser.add_argument("--model", default="nuclei_fluorescence")
    parser.add_argument("--float32", action="store_true", help="the float model, as `predict --float32`")
    parser.add_argument("--out", type=Path, help="append the rows to this CSV")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    print(f"{platform.machine()}, {usable_cores()} cores; speeds in Mpixel/s", flush=True)
    print_rows(rows(arguments), 16, arguments.out)


if __name__ == "__main__":
    main()
