"""2 workers against 1, a core each, and threads on as many cores: time, processor time, memory; the same bytes.

    python benchmarks/workers.py MOSAIC --cores 1 2 --rounds 3 --out workers.csv

MOSAIC is an OME-Zarr as `engine.py` makes it. `cellscribble predict` and `predict --workers N` run on it by turns as
programs of their own, which are held to N cores. `against` is the speed against that of the same kind on the first
number of cores in the same round, and `largest_mib` the peak of the largest process. Linux only.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine import predict
from kills import contents
from table import print_rows

from cellscribble.bundle import open_model
from cellscribble.infer.find_model import find_model
from cellscribble.infer.runner import usable_cores
from cellscribble.io.images import open_image


def rows(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    mosaic, cores = arguments.mosaic, sorted(os.sched_getaffinity(0))
    if max(arguments.cores) > len(cores):
        raise SystemExit(f"{max(arguments.cores)} cores are asked for, this computer gives {len(cores)}")
    model = open_model(find_model(arguments.model))
    mpixel = open_image(mosaic).n_pixels / 1e6
    expected: dict[str, bytes] = {}
    for number in range(arguments.rounds):
        first: dict[str, float] = {}
        for n in arguments.cores:
            os.sched_setaffinity(0, cores[:n])
            for kind, more in (("threads", []), ("workers", ["--workers", str(n)])):
                # One size of block for all, since the numbers of objects follow it.
                seconds, busy, peak = predict(mosaic, model, ["--block", str(arguments.block), *more])
                found = contents(mosaic.with_name(f"{mosaic.stem}_labels.zarr"))
                expected = expected or found
                yield {
                    "round": number,
                    "kind": kind,
                    "cores": n,
                    "seconds": round(seconds, 1),
                    "mpixel_s": round(mpixel / seconds, 2),
                    "against": round(first.setdefault(kind, seconds) / seconds, 2),
                    "cpu_s": round(busy, 1),
                    "largest_mib": round(peak),
                    "same_bytes": found == expected,
                }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mosaic", type=Path)
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--block", type=int, default=1024)
    parser.add_argument("--model", default="nuclei_fluorescence")
    parser.add_argument("--out", type=Path, help="append the rows to this CSV")
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {usable_cores()} cores")
    print_rows(rows(arguments), 12, arguments.out)


if __name__ == "__main__":
    main()
