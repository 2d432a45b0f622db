"""What the scheduler takes for a block: time and memory at 10^4 to 10^6 blocks that have nothing to do.

    python benchmarks/schedule.py --blocks 1e4 1e5 1e6

The stages are those of a run with objects: see, cut (needs the blocks around it), groups of blocks up
to the whole image, and number. `blocks` is the number of blocks at the finest stage, `tasks` that of all
stages. Each row is a process of its own; memory is what it held at most, beyond what it held before
the run. `caller` runs a task when it is submitted: the time of the driver alone. `resume` is the time to
find out what is left where everything but the last stage is done.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

from cellscribble.core.blocks import BlockGrid
from cellscribble.engine.ready import Ready
from cellscribble.engine.schedule import Stage, run_stages
from cellscribble.engine.workers import DaskExecutor

BLOCK_PX, HALO_PX = 1024, 96
FACTOR = {2: 8, 3: 4}
EXECUTORS = ("caller", "threads", "processes", "dask")
COLUMNS = ("axes", "blocks", "tasks", "executor", "us_a_task", "us_a_block", "tables_MiB", "peak_MiB", "resume_s")


class Caller(Executor):
    """Runs a task in the caller when it is submitted."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args))
        return future


def nothing(k: int) -> None:
    pass


def stages_for(n_blocks: int, n_axes: int) -> list[Stage]:
    side = round(n_blocks ** (1 / n_axes))
    grid = BlockGrid((side * BLOCK_PX,) * n_axes, (BLOCK_PX,) * n_axes)
    stages = [Stage("see", grid, (), nothing), Stage("cut", grid, (HALO_PX,) * n_axes, nothing)]
    last = grid
    while len(last) > 1:
        last = last.coarser(FACTOR[n_axes])
        stages.append(Stage(f"join {len(stages) - 1}", last, (0,) * n_axes, nothing))
    return [*stages, Stage("number", grid, (0,) * n_axes, nothing)]


@contextmanager
def executor_for(name: str, workers: int) -> Iterator[Executor]:
    if name == "caller":
        yield Caller()
    elif name == "threads":
        with ThreadPoolExecutor(workers) as pool:
            yield pool
    elif name == "processes":
        with ProcessPoolExecutor(workers) as processes:
            processes.submit(nothing, 0).result()
            yield processes
    else:
        from distributed import Client, LocalCluster

        cluster = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
        with cluster, Client(cluster) as client:
            yield DaskExecutor(client)


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def resume_s(stages: list[Stage]) -> float:
    """How long it takes to find what is ready when all but the last stage is done."""
    began, before = time.perf_counter(), None
    for stage in stages:
        done = np.full(len(stage.grid), stage is not stages[-1])
        before = Ready(stage.grid, done, None, before, stage.halo_px)
    assert before is not None
    assert before.n_ready == len(before.grid)
    return time.perf_counter() - began


def measure(n_axes: int, n_blocks: int, name: str, workers: int) -> None:
    stages = stages_for(n_blocks, n_axes)
    n_tasks = sum(len(stage.grid) for stage in stages)
    counted = 0

    def finished(stage: str, k: int, result: object) -> None:
        nonlocal counted
        counted += 1

    def failed(stage: str, k: int, error: BaseException) -> bool:
        return False

    with executor_for(name, workers) as executor:
        # What is loaded and started once is not the scheduler's.
        small = stages_for(FACTOR[n_axes] ** n_axes, n_axes)
        done = {stage.name: np.zeros(len(stage.grid), bool) for stage in small}
        run_stages(small, executor, at_once=2 * workers, done=done, finished=finished, failed=failed)
        done, counted, before_mib = {stage.name: np.zeros(len(stage.grid), bool) for stage in stages}, 0, peak_mib()
        began = time.perf_counter()
        at_once = 1 if name == "caller" else 4 * workers
        run_stages(stages, executor, at_once=at_once, done=done, finished=finished, failed=failed)
        took = time.perf_counter() - began
        extra_mib = peak_mib() - before_mib
    assert counted == n_tasks, f"{counted} of {n_tasks} tasks ran"
    tables_mib = 3 * n_tasks / 2**20
    row = (f"{n_axes}", len(stages[0].grid), n_tasks, name, took / n_tasks * 1e6, took / len(stages[0].grid) * 1e6)
    print_row((*row, tables_mib, extra_mib, resume_s(stages)))


def print_row(cells: tuple[Any, ...]) -> None:
    print("  ".join(f"{c:>10.2f}" if isinstance(c, float) else f"{c!s:>10}" for c in cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=float, nargs="+", default=[1e4, 1e5, 1e6])
    parser.add_argument("--axes", type=int, nargs="+", default=[2, 3], choices=[2, 3])
    parser.add_argument("--executors", nargs="+", default=["caller", "threads"], choices=EXECUTORS)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    print_row(COLUMNS)
    for n_axes in arguments.axes:
        for name in arguments.executors:
            for n_blocks in arguments.blocks:
                row = (n_axes, int(n_blocks), name, arguments.workers)
                process = multiprocessing.get_context("spawn").Process(target=measure, args=row)
                process.start()
                process.join()
                if process.exitcode:
                    raise SystemExit(f"{row} ended with exit code {process.exitcode}")


if __name__ == "__main__":
    main()
