"""kill -9 at random moments: the same command then gives the same bytes, and does again only what was under way.

    python benchmarks/kills.py MOSAIC WORK --kills 50

MOSAIC is an OME-Zarr as `engine.py` makes it (3000 px a side is enough). `cellscribble predict` runs on it as a
program of its own, once undisturbed; then it is killed at moments drawn over its whole time, its start included, and
run again. Bytes are those of every file of the label store but the two that hold the command's date. A program
that was too quick for its kill counts as not killed.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from cellscribble.engine import steps

DATED = (".zattrs", "zarr.json")


def program(image: Path, out: Path, seen: Path, block_px: int) -> list[str]:
    """This file as `cellscribble predict` that writes down which blocks it begins to see."""
    return [sys.executable, __file__, "--child", str(seen), str(image), "-o", str(out), "--block", str(block_px)]


def child(seen: str, arguments: list[str]) -> None:
    from cellscribble.cli.main import main as cellscribble

    see = steps.See.__call__

    def written_down(self: steps.See, k: int) -> str:
        with open(seen, "a") as file:
            file.write(f"{k}\n")
        return see(self, k)

    steps.See.__call__ = written_down  # type: ignore[method-assign]
    options = ["-m", "nuclei_fluorescence", "--device", "cpu", "--ignore-pixel-size"]
    sys.argv = ["cellscribble", "predict", *arguments, *options]
    cellscribble()


def contents(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file() and p.name not in DATED)
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def run(command: list[str]) -> None:
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"predict ended with {done.returncode}: {done.stderr[-400:]}")


def blocks_of(seen: Path) -> list[int]:
    return [int(line) for line in seen.read_text().split()] if seen.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mosaic", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--block", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    out, seen = arguments.work / "out", arguments.work / "seen.txt"
    command = program(arguments.mosaic, out, seen, arguments.block)

    def fresh() -> None:
        shutil.rmtree(arguments.work, ignore_errors=True)
        arguments.work.mkdir(parents=True)

    fresh()
    began = time.monotonic()
    run(command)
    whole_s = time.monotonic() - began
    (labels,) = out.glob("*_labels.zarr")
    expected, n_blocks = contents(labels), len(blocks_of(seen))
    print(f"{n_blocks} blocks, {whole_s:.1f} s undisturbed")
    rng = np.random.default_rng(arguments.seed)
    rows: list[tuple[Any, ...]] = []
    while len(rows) < arguments.kills:
        fresh()
        moment_s = rng.uniform(0, whole_s)
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        time.sleep(moment_s)
        process.kill()
        if process.wait() == 0:
            continue
        before = len(blocks_of(seen))
        if list(out.glob("*.unfinished")) or not list(out.glob("*_labels.zarr")):  # else killed in its last moment
            run(command)
        again = len(blocks_of(seen)) - n_blocks
        left = [p.name for p in out.iterdir() if p.name.endswith(".unfinished")]
        same = contents(labels) == expected and not left
        rows.append((moment_s, before, again, same))
        print(
            f"{len(rows):3d}: killed at {moment_s:5.2f} s, {before:4d} blocks begun, {again} again, {same=}",
            flush=True,
        )
    print(
        f"{sum(row[3] for row in rows)}/{len(rows)} the same bytes, at most {max(row[2] for row in rows)} blocks again"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3:])
    else:
        main()
