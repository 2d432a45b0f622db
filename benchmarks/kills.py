"""kill -9 at random moments: the same command then gives the same bytes, and does again only what was under way.

    python benchmarks/kills.py MOSAIC WORK --kills 50

MOSAIC is an OME-Zarr as `engine.py` makes it (3000 px a side is enough). `cellscribble predict` runs on it as a
program of its own, once undisturbed; then it is killed at moments drawn over its whole time, its start included, and
run again. Bytes are those of every file of the label store but the two that hold the command's date. Tasks are those
of all steps, from the network to the pyramid; no more may be done again than are under way at once: two a core, one
of them read ahead, and one more. A program that was too quick for its kill counts as not killed. Ends with 1 if a run
was not as it should be.
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
from cellscribble.infer.runner import usable_cores

DATED = (".zattrs", "zarr.json")


def program(image: Path, out: Path, log: Path, block_px: int) -> list[str]:
    """This file as `cellscribble predict` that writes down which tasks it begins."""
    return [sys.executable, __file__, "--child", str(log), str(image), "-o", str(out), "--block", str(block_px)]


def child(log: str, arguments: list[str]) -> None:
    from cellscribble.cli.main import main as cellscribble

    def write_down(kind: Any) -> None:
        do = kind.__call__

        def written_down(self: Any, k: int) -> str:
            with open(log, "a") as file:
                file.write(f"{kind.__name__} {getattr(self, 'level', '')} {k}\n")
            return str(do(self, k))

        kind.__call__ = written_down

    for kind in (steps.See, steps.Cut, steps.Join, steps.Number, steps.Shrink):
        write_down(kind)
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


def tasks_of(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mosaic", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--block", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    out, log = arguments.work / "out", arguments.work / "tasks.txt"
    command, most_again = program(arguments.mosaic, out, log, arguments.block), 2 * usable_cores() + 1

    def fresh() -> None:
        shutil.rmtree(arguments.work, ignore_errors=True)
        arguments.work.mkdir(parents=True)

    fresh()
    began = time.monotonic()
    run(command)
    whole_s = time.monotonic() - began
    (labels,) = out.glob("*_labels.zarr")
    expected, n_tasks = contents(labels), len(tasks_of(log))
    print(f"{n_tasks} tasks, {whole_s:.1f} s undisturbed")
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
        before = len(tasks_of(log))
        if list(out.glob("*.unfinished")) or not list(out.glob("*_labels.zarr")):  # else killed in its last moment
            run(command)
        again = len(tasks_of(log)) - n_tasks
        left = [p.name for p in out.iterdir() if p.name.endswith(".unfinished")]
        same = contents(labels) == expected and not left
        rows.append((moment_s, before, again, same))
        print(
            f"{len(rows):3d}: killed at {moment_s:5.2f} s, {before:4d} tasks begun, {again} again, {same=}",
            flush=True,
        )
    n_same, most = sum(row[3] for row in rows), max(row[2] for row in rows)
    print(f"{n_same}/{len(rows)} the same bytes, at most {most} tasks again (of at most {most_again} under way)")
    if n_same < len(rows) or most > most_again:
        sys.exit(1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3:])
    else:
        main()
