"""Stages of work on blocks, each block as soon as what it needs is done, streamed to an executor."""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from cellscribble.core.blocks import BlockGrid
from cellscribble.core.errors import CellScribbleError
from cellscribble.core.interrupt import HeldInterrupt
from cellscribble.engine.ready import Bools, Ready

POLL_S = 1.0
"""Windows does not interrupt a wait that has no end, so Ctrl-C is looked for this often."""

LAST = 2
"""Times as many tasks of the first stage as run at once are its last few."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What is done with each block of a grid: a task for each.

    name : as in `done`
    grid : the grids of all stages lie over one image
    halo_px : a task needs the tasks of the stage before whose blocks meet its own block and this much
        around it. The first stage needs nothing and may leave it empty
    work : called in a worker with the number of the block; where workers are processes it must pickle
    only : (len(grid),) bool, the tasks to run; the others are somebody else's and not awaited
    """

    name: str
    grid: BlockGrid
    halo_px: tuple[int, ...]
    work: Callable[[int], Any]
    only: Bools | None = None


def run_stages(
    stages: Sequence[Stage],
    executor: Executor,
    *,
    at_once: int | Callable[[], int],
    done: Mapping[str, Bools],
    finished: Callable[[str, int, Any], None],
    failed: Callable[[str, int, BaseException], bool],
) -> None:
    """Run all tasks that are not done; return when they are.

    Of the tasks that may start, those of the last stage go first, within a stage the lowest number; but the last few
    of the first stage, whose tasks take longest, go before the others, so that none runs alone in the end.

    Parameters
    ----------
    executor : of `concurrent.futures`, or `workers.DaskExecutor`
    at_once : most tasks that are submitted and not finished (>= 1); asked each time where workers come and go
    done : for each stage (len(grid),) bool, changed in place
    finished : called with stage, task and what its work returned; then the task counts as done
    failed : called with stage, task and error. True: the task counts as done, and what needs it runs.
        False: stop

    `finished` and `failed` are called in this thread, one at a time. The run stops when `failed` says
    so, at any error raised here, and at Ctrl-C or SIGTERM (`core.interrupt`): nothing more is submitted,
    what has not begun is cancelled, what runs is awaited and, where it succeeds, still handed to
    `finished`; then the error is raised. A second Ctrl-C goes out at once. With `only`, tasks that need
    one that is neither done nor to be run are left out.

    Raises
    ------
    CellScribbleError
        If the executor lost its workers. That says nothing about a task, so `failed` is not asked.
    """
    most = at_once if callable(at_once) else lambda: at_once
    assert most() >= 1, f"at_once is {at_once}: nothing would ever run"
    run = _Run(stages, executor, most, done, finished, failed)
    with HeldInterrupt(lambda: run.answers.put(None)) as interrupt:
        try:
            run.all(interrupt)
        except BaseException:
            if interrupt.count < 2:
                run.stop()
            raise


class _Run:
    """What is under way. A task is named by its stage's place in the list and its own number."""

    def __init__(
        self,
        stages: Sequence[Stage],
        executor: Executor,
        at_once: Callable[[], int],
        done: Mapping[str, Bools],
        finished: Callable[[str, int, Any], None],
        failed: Callable[[str, int, BaseException], bool],
    ) -> None:
        self._stages, self._executor, self._at_once = stages, executor, at_once
        self._finished, self._failed = finished, failed
        self._blocks: list[Ready] = []
        for stage in stages:
            before = self._blocks[-1] if self._blocks else None
            self._blocks.append(Ready(stage.grid, done[stage.name], stage.only, before, stage.halo_px))
        self._running: dict[tuple[int, int], Future[Any]] = {}
        self.answers: queue.SimpleQueue[tuple[int, int] | None] = queue.SimpleQueue()

    def all(self, interrupt: HeldInterrupt) -> None:
        """Run until nothing runs and nothing is ready."""
        while True:
            interrupt.check()
            while len(self._running) < (most := self._at_once()) and self._submit(most):
                pass
            if not self._running:
                break
            self._take_in(stopping=False)
        if all(stage.only is None for stage in self._stages):
            for stage, blocks in zip(self._stages, self._blocks, strict=True):
                if not blocks.done.all():
                    raise RuntimeError(f"stage {stage.name}: {blocks.why_waiting()}, but nothing is left to run")

    def stop(self) -> None:
        """Cancel what has not begun and await what runs."""
        for future in list(self._running.values()):
            future.cancel()
        while self._running:
            self._take_in(stopping=True)

    def _submit(self, most: int) -> bool:
        """Start the first of the ready tasks, of which `most` run at once; False if there is none."""
        order = [*reversed(range(len(self._stages)))]
        if self._blocks[0].n_ready <= LAST * most:
            order = [0, *order[:-1]]
        for s in order:
            if self._blocks[s].n_ready:
                stage, k = self._stages[s], self._blocks[s].take()
                try:
                    future = self._executor.submit(stage.work, k)
                except BrokenExecutor as error:
                    raise _lost_worker(stage.name, k, error) from error
                self._running[s, k] = future
                future.add_done_callback(partial(self._ended, (s, k)))
                return True
        return False

    def _ended(self, task: tuple[int, int], future: Future[Any]) -> None:
        """Called by whatever thread has ended the task."""
        self.answers.put(task)

    def _take_in(self, stopping: bool) -> None:
        """Wait for a task that ends and take it in; return without one now and then, and at Ctrl-C."""
        try:
            task = self.answers.get(timeout=POLL_S)
        except queue.Empty:
            return
        if task is None:
            return
        future = self._running.pop(task)
        error = BrokenExecutor("it was cancelled") if future.cancelled() else future.exception()
        if error is None:
            self._finished(self._stages[task[0]].name, task[1], future.result())
            self._count_as_done(*task)
        elif not stopping:
            self._fail(*task, error)
            self._count_as_done(*task)

    def _fail(self, s: int, k: int, error: BaseException) -> None:
        """Return if the run is to go on."""
        name = self._stages[s].name
        if isinstance(error, BrokenExecutor):
            raise _lost_worker(name, k, error) from error
        # The terminal sends Ctrl-C to processes that are workers, too.
        if isinstance(error, KeyboardInterrupt) or not self._failed(name, k, error):
            error.add_note(f"in task {k} of stage {name}")
            raise error

    def _count_as_done(self, s: int, k: int) -> None:
        self._blocks[s].done.reshape(-1)[k] = True
        if s + 1 < len(self._blocks):
            self._blocks[s + 1].need_done(k)


def _lost_worker(name: str, k: int, error: BrokenExecutor) -> CellScribbleError:
    return CellScribbleError(
        f"workers were lost while {name} {k} was under way ({error}). What is done is kept: run the same command "
        "again; if they ended for lack of memory, with fewer workers or smaller blocks"
    )
