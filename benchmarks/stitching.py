"""Objects of a volume in blocks put together: our way, dask-image's label, and cc3d on one array; time and memory.

    PYTHONPATH=... python benchmarks/stitching.py WORK --side 512 --block 128 --out stitching.csv

A mask of balls that touch (seeded, a tenth of the volume) is made once in WORK. Each program reads it from the disk
and writes a Zarr of labels in chunks of the block's size, in a process of its own: its time (and processor time, since
others may be at work) and its peak memory, its start included.

    components   ours, told never to cut: the connected components of the mask, which is what the others find. A
                 test of the answer is part of the run: the same objects, up to their numbers
    ours         with usual settings: objects that touch are told apart by their shape too, which no other does
    dask-image   ndmeasure.label, its chunks the blocks, as many threads as cores
    cc3d         connected_components on the whole array, one thread; holds the volume

A program that takes longer than --limit is stopped; its row says so. Needs dask-image and connected-components-3d.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import zarr
from table import append_row

from cellscribble.core.blocks import BlockGrid, levels
from cellscribble.engine.block_files import BlockFiles, make_folders
from cellscribble.engine.memory import keep_freed_memory
from cellscribble.engine.schedule import Stage, run_stages
from cellscribble.engine.steps import Cut, Join, Number, Tables, node_folder
from cellscribble.infer.runner import usable_cores
from cellscribble.segment.parameters import InstanceParameters
from cellscribble.segment.stitch import join_factor

WHOLE = InstanceParameters(
    neck_ratio=0, seed_distance_px=0, smoothing_px=0, smallest_object_px=0, largest_hole_px=0, largest_radius_px=1
)
"""Every neck is wide, so that an object is a connected component; nothing is looked at beyond a pixel."""

USUAL = InstanceParameters(largest_radius_px=24)
RADIUS_PX = (8, 20)
COLUMNS = ("side_px", "block_px", "who", "n_objects", "seconds", "cpu_s", "peak_mib", "to_first", "cpu_to_first")


def make_mask(side: int) -> np.ndarray:
    """(side, side, side) uint8: balls of different size, where they will."""
    rng, mask = np.random.default_rng(0), np.zeros((side, side, side), np.uint8)
    offsets = np.indices((2 * RADIUS_PX[1] + 1,) * 3) - RADIUS_PX[1]
    squared = (offsets**2).sum(axis=0)
    for _ in range(side**3 // 100000):
        centre = rng.integers(RADIUS_PX[1], side - RADIUS_PX[1], 3)
        box = tuple(slice(c - RADIUS_PX[1], c + RADIUS_PX[1] + 1) for c in centre)
        mask[box] |= squared < rng.uniform(*RADIUS_PX) ** 2
    return mask


def prepare(work: Path, side: int, block: int) -> None:
    """The mask as what our step "see" leaves, and as a Zarr."""
    if (work / "mask.zarr").exists():
        return
    mask, grid = make_mask(side), BlockGrid((side,) * 3, (block,) * 3)
    files = BlockFiles(work / "seen", grid, np.uint8)
    make_folders(files.folder, len(grid))
    for k in range(len(grid)):
        files.write(k, mask[grid.box(k)])
    zarr.create_array(work / "mask.zarr", data=mask, chunks=(block,) * 3)


def ours(work: Path, out: Path, settings: InstanceParameters) -> int:
    keep_freed_memory()
    stored = zarr.open_array(work / "mask.zarr", mode="r")
    blocks = BlockGrid(stored.shape, stored.chunks)
    grids = levels(blocks, join_factor(3))
    nodes, numbers = out / "nodes", BlockFiles(out / "numbers", blocks, np.uint32)
    make_folders(numbers.folder, len(blocks))
    for level, grid in enumerate(grids):
        make_folders(node_folder(nodes, level), len(grid))
    seen = BlockFiles(work / "seen", blocks, np.uint8)
    cut = Cut(seen, numbers, nodes, blocks, settings, 0)
    joins = [Join(nodes, n, grid, grids[n - 1], settings) for n, grid in enumerate(grids) if n]
    # The mask is here already: its stage has nothing to do.
    run([Stage("see", blocks, (), lambda k: ""), Stage("cut", blocks, cut.halo_px, cut)], joins)
    tables = Tables(nodes, grids)
    labels = zarr.create_array(out / "labels.zarr", shape=blocks.shape, chunks=blocks.block_px, dtype=np.uint32)
    run([Stage("number", blocks, (), Number(numbers, [(labels, (1, 1, 1))], tables, blocks))], [])
    return tables.root.n_objects


def run(stages: list[Stage], joins: list[Join]) -> None:
    stages += [Stage(f"join{join.level}", join.grid, (0, 0, 0), join) for join in joins]
    done = {stage.name: np.zeros(len(stage.grid), bool) for stage in stages}
    with ThreadPoolExecutor(usable_cores()) as executor:
        run_stages(
            stages,
            executor,
            at_once=usable_cores(),
            done=done,
            finished=lambda *_: None,
            failed=lambda *_: False,
        )


def dask_image(work: Path, out: Path) -> int:
    import dask
    import dask.array
    from dask_image.ndmeasure import label

    with dask.config.set(scheduler="threads", num_workers=usable_cores()):
        mask = dask.array.from_zarr(str(work / "mask.zarr"))
        labels, n = label(mask)
        target = zarr.create_array(out / "labels.zarr", shape=mask.shape, chunks=mask.chunksize, dtype=np.uint32)
        _, n_objects = dask.compute(dask.array.store(labels.astype(np.uint32), target, lock=False, compute=False), n)
    return int(n_objects)


def cc3d(work: Path, out: Path) -> int:
    from cc3d import connected_components

    stored = zarr.open_array(work / "mask.zarr", mode="r")
    labels, n = connected_components(stored[...], connectivity=6, return_N=True, out_dtype=np.uint32)
    zarr.create_array(out / "labels.zarr", data=labels, chunks=stored.chunks)
    return int(n)


PROGRAMS: dict[str, Callable[[Path, Path], int]] = {
    "components": lambda work, out: ours(work, out, WHOLE),
    "ours": lambda work, out: ours(work, out, USUAL),
    "dask-image": dask_image,
    "cc3d": cc3d,
}

STARTER = """
import resource, subprocess, sys, time
began = time.perf_counter()
try:
    n = subprocess.run(sys.argv[2:], stdout=subprocess.PIPE, timeout=float(sys.argv[1]), check=True, text=True).stdout
except subprocess.TimeoutExpired:
    n = "stopped"
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(n.strip(), time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss)
"""
"""A small program in between: Linux reckons what the one that starts another holds as the other's own (engine.py)."""


def measure(who: str, work: Path, out: Path, limit_s: float) -> list[str]:
    """What the program found, seconds, processor seconds, and peak memory."""
    command = [sys.executable, __file__, str(work), "--only", who, "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-c", STARTER, str(limit_s), *command], stdout=subprocess.PIPE, check=True, text=True
    )
    return done.stdout.split()


def same_objects(one: Path, other: Path) -> bool:
    """Whether two label volumes hold the same objects, whatever their numbers."""
    a, b = (zarr.open_array(path / "labels.zarr", mode="r") for path in (one, other))
    there, back = ({}, {})
    grid = BlockGrid(a.shape, a.chunks)
    for k in range(len(grid)):
        pairs = np.stack([a[grid.box(k)].ravel(), b[grid.box(k)].ravel()]).astype(np.uint64)
        for pair in np.unique(pairs[0] << np.uint64(32) | pairs[1]).tolist():
            x, y = divmod(pair, 1 << 32)
            if there.setdefault(x, y) != y or back.setdefault(y, x) != x:
                return False
    return there[0] == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--block", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=1, help="all programs one after the other, so many times")
    parser.add_argument("--limit", type=float, default=1800, help="seconds for a program")
    parser.add_argument("--who", nargs="+", default=list(PROGRAMS), choices=list(PROGRAMS))
    parser.add_argument("--only", choices=list(PROGRAMS), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="append the rows to this CSV")
    arguments = parser.parse_args()
    if arguments.only:
        print(PROGRAMS[arguments.only](arguments.work, arguments.out))
        return
    work = arguments.work / f"{arguments.side}_{arguments.block}"
    work.mkdir(parents=True, exist_ok=True)
    prepare(work, arguments.side, arguments.block)
    print("".join(f"{name:>16}" for name in COLUMNS))
    for number in range(arguments.rounds):
        base: list[float] = []
        for who in arguments.who:
            out = work / f"{who}_{number}"
            n_objects, *found = measure(who, work, out, arguments.limit)
            seconds, cpu_s, peak = map(float, found)
            base = base or [seconds, cpu_s]
            if n_objects != "stopped" and who != "ours" and number == 0 and who != arguments.who[0]:
                assert same_objects(work / f"{arguments.who[0]}_0", out), f"{who} finds other objects"
            ratios = (round(seconds / base[0], 2), round(cpu_s / base[1], 2))
            peak_mib = round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))
            values = (arguments.side, arguments.block, who, n_objects, round(seconds, 1), round(cpu_s, 1), peak_mib)
            row = dict(zip(COLUMNS, (*values, *ratios), strict=True))
            print("".join(f"{value!s:>16}" for value in row.values()), flush=True)
            if arguments.out:
                append_row(arguments.out, COLUMNS, row)


if __name__ == "__main__":
    main()
