"""`cellscribble measure` on label images of several sizes: time, peak memory; against scikit-image on one that fits.

    python benchmarks/measure.py WORK --side 8192 16384 32768

For each side an OME-Zarr of labels (disks of 34 px on a grid of 43 px, each with its number) and one of 16-bit
values are made (once) in WORK and measured, with `--quick` and without. skimage.measure.regionprops_table runs on the
smallest, in memory, with features that `--quick` writes too. Each runs as a program of its own, so that its time and
peak memory are what the system saw. The clock counts what else the computer did; the time of the processor does not.
A store of real images comes after them:

    cellscribble predict slide.zarr -m nuclei_fluorescence
    python benchmarks/measure.py WORK --also slide_labels.zarr slide.zarr
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from engine import STARTER
from machine import processor
from skimage.measure import regionprops_table

from cellscribble.io.images import open_image
from cellscribble.io.ome_zarr import create_ome_zarr

BLOCK_PX, STEP_PX, RADIUS_PX = 2048, 43, 17
PROPERTIES = (
    *("label", "area", "bbox", "centroid", "axis_major_length", "axis_minor_length", "eccentricity", "orientation"),
    *("perimeter", "euler_number", "extent", "equivalent_diameter_area"),
    *("intensity_mean", "intensity_min", "intensity_max", "centroid_weighted"),
)


def make(work: Path, side: int) -> tuple[Path, Path]:
    """Labels and image of `side` x `side` pixels."""
    labels, image = work / f"disks_{side}_labels.zarr", work / f"disks_{side}.zarr"
    if image.exists():
        return labels, image
    y, x = np.indices((BLOCK_PX, BLOCK_PX))
    per_row = -(-BLOCK_PX // STEP_PX)
    number = (y // STEP_PX) * per_row + x // STEP_PX + 1
    inside = (y % STEP_PX - STEP_PX // 2) ** 2 + (x % STEP_PX - STEP_PX // 2) ** 2 < RADIUS_PX**2
    noise = np.random.default_rng(0).integers(0, 4, (BLOCK_PX, BLOCK_PX))
    values = (37 * number % 3900 + 100 + noise).astype(np.uint16)
    sizes = (0.5, 0.5)
    out = create_ome_zarr(labels, (side, side), np.uint32, "YX", sizes)["0"]
    grey = create_ome_zarr(image, (1, side, side), np.uint16, "CYX", sizes, kind="image")["0"]
    for k in range((side // BLOCK_PX) ** 2):
        row, column = divmod(k, side // BLOCK_PX)
        box = tuple(slice(n * BLOCK_PX, (n + 1) * BLOCK_PX) for n in (row, column))
        out[box] = np.where(inside, number + k * per_row**2, 0)
        grey[(0, *box)] = values
    return labels, image


def measure(labels: Path, image: Path, out: Path, *options: str) -> None:
    """A line of the table: `cellscribble measure` as a program of its own."""
    command = ["-m", "cellscribble", "measure", str(labels), str(image), "-o", str(out), "--overwrite", *options]
    _, clock, cpu, peak = run(command)
    write(
        f"`{' '.join(['measure', *options])}`",
        labels,
        sum(column(out, "Count_Cells", "MyExpt_Image.csv")),
        clock,
        cpu,
        peak,
    )


def compare_regionprops(labels: Path, image: Path, out: Path) -> None:
    """A line of the table: scikit-image, which must find what `measure` found; reading the stores is not counted."""
    said, _, _, peak = run([__file__, str(out), "--regionprops", str(labels), str(image)])
    found = json.loads(said)
    for name in ("Area", "Perimeter"):
        assert np.isclose(sum(column(out, f"AreaShape_{name}", "MyExpt_Cells.csv")), found[name], rtol=1e-9), name
    write("scikit-image `regionprops_table`", labels, found["objects"], found["clock"], found["cpu"], peak)


def run(arguments: list[str]) -> tuple[str, float, float, float]:
    """What a Python program said, seconds of the clock and of the processor, and the most memory it had, MiB."""
    command = [sys.executable, "-c", STARTER, sys.executable, *arguments]
    said = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()
    clock, cpu, peak = map(float, said.pop().split())
    return "\n".join(said), clock, cpu, peak / 1024


def write(what: str, labels: Path, n_objects: float, clock: float, cpu: float, peak: float) -> None:
    mpixel = open_image(labels).n_pixels / 1e6
    print(
        f"| {what} | {mpixel:.0f} | {n_objects:.0f} | {cpu:.1f} | {clock:.1f} | {mpixel / cpu:.2f} | {peak:.0f} |",
        flush=True,
    )


def column(out: Path, name: str, table: str) -> list[float]:
    with (out / table).open(encoding="utf-8") as file:
        return [float(row[name]) for row in csv.DictReader(file)]


def print_regionprops(labels: Path, image: Path) -> None:
    numbers, values = (np.asarray(open_image(path).data[0]) for path in (labels, image))
    start, before = time.perf_counter(), time.process_time()
    table = regionprops_table(numbers, values, properties=PROPERTIES)
    clock, cpu = time.perf_counter() - start, time.process_time() - before
    found = {"Area": float(table["area"].sum()), "Perimeter": float(table["perimeter"].sum())}
    print(json.dumps({"objects": len(table["label"]), "clock": clock, "cpu": cpu, **found}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--side", type=int, nargs="+", default=[8192, 16384, 32768], help="multiples of 2048")
    parser.add_argument("--also", type=Path, nargs=2, metavar=("LABELS", "IMAGE"), help="a store of your own")
    parser.add_argument("--regionprops", type=Path, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.regionprops:
        print_regionprops(*args.regionprops)
        return
    args.work.mkdir(parents=True, exist_ok=True)
    pairs = [make(args.work, side) for side in sorted(args.side)]
    print(f"{time.strftime('%Y-%m-%d')}, {processor()}\n")
    print("| | Mpixel | objects | processor, s | clock, s | Mpixel a second of the processor | peak memory, MiB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for k, (labels, image) in enumerate([*pairs, *([args.also] if args.also else [])]):
        measure(labels, image, args.work / "tables")
        measure(labels, image, args.work / "tables", "--quick")
        if k == 0:
            compare_regionprops(labels, image, args.work / "tables")


if __name__ == "__main__":
    main()
