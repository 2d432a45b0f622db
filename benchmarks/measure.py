"""`cellscribble measure` on label images of several sizes: time, peak memory; against scikit-image on one that fits.

    python benchmarks/measure.py WORK --side 8192 16384 32768

For each side an OME-Zarr of labels (disks of 34 px on a grid of 43 px, each with its number) and one of 16-bit
values are made (once) in WORK. `measure` runs as a program of its own, so that its peak memory is what the system
saw. skimage.measure.regionprops_table runs on the smallest, in memory, with features that `--quick` writes too. Times
are those of the processor, since other programs may be running, and in brackets those of the clock.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--side", type=int, nargs="+", default=[8192, 16384, 32768], help="multiples of 2048")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    for side in sorted(args.side):
        labels, image = make(args.work, side)
        command = [sys.executable, "-m", "cellscribble", "measure", labels, image, "-o", args.work / "tables"]
        start, before = time.perf_counter(), cpu_seconds(resource.RUSAGE_CHILDREN)
        subprocess.run([*map(str, command), "--quick", "--overwrite"], check=True, capture_output=True)
        clock, cpu = time.perf_counter() - start, cpu_seconds(resource.RUSAGE_CHILDREN) - before
        # The largest of all children so far; sizes ascend.
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        mpixel = side**2 / 1e6
        print(f"measure {mpixel:.0f} Mpixel: {cpu:.0f} s ({clock:.0f} s), peak {peak:.0f} MiB", flush=True)
    numbers, values = (np.asarray(open_image(path).data[0]) for path in make(args.work, min(args.side)))
    start, before = time.perf_counter(), cpu_seconds(resource.RUSAGE_SELF)
    regionprops_table(numbers, values, properties=PROPERTIES)
    clock, cpu = time.perf_counter() - start, cpu_seconds(resource.RUSAGE_SELF) - before
    print(f"scikit-image {numbers.size / 1e6:.0f} Mpixel: {cpu:.0f} s ({clock:.0f} s)")


def cpu_seconds(who: int) -> float:
    """Processor time of this program, or of the programs that it started."""
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
