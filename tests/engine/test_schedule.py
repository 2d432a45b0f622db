import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellscribble.core.blocks import BlockGrid, Slices
from cellscribble.core.errors import CellScribbleError
from cellscribble.core.interrupt import Terminated, end_as_at_ctrl_c, terminate
from cellscribble.engine.ready import SLAB, Ready
from cellscribble.engine.schedule import Stage, run_stages
from cellscribble.engine.workers import DaskExecutor, leave_interrupts_to_the_driver


@pytest.fixture(autouse=True)
def _ctrl_c_interrupts() -> Iterator[None]:
    """A shell starts what it sends to the background deaf to Ctrl-C, and Python leaves that so."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


FOUR = BlockGrid((40,), (10,))


def nothing_done(*stages: Stage) -> dict[str, np.ndarray]:
    return {stage.name: np.zeros(len(stage.grid), bool) for stage in stages}


def never_fails(stage: str, k: int, error: BaseException) -> bool:
    raise AssertionError(f"{stage} {k} failed") from error


def run_all(
    stages: list[Stage],
    executor: Executor,
    at_once: int = 2,
    done: dict[str, np.ndarray] | None = None,
    failed: Callable[[str, int, BaseException], bool] = never_fails,
) -> list[tuple[str, int, Any]]:
    """What was handed to `finished`."""
    seen: list[tuple[str, int, Any]] = []
    done = nothing_done(*stages) if done is None else done
    run_stages(stages, executor, at_once=at_once, done=done, finished=lambda *a: seen.append(a), failed=failed)
    return seen


class Inline(Executor):
    """Runs a task in the caller when it is submitted."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args))
        return future


class AnyOrder(Executor):
    """One thread that runs what has been submitted in random order."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._waiting: list[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = []
        self._changed = threading.Condition()
        self._over = False
        self._unfinished = self.most_unfinished = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        with self._changed:
            self._waiting.append((future, fn, args))
            self._unfinished += 1
            self.most_unfinished = max(self.most_unfinished, self._unfinished)
            self._changed.notify()
        return future

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._over)
                if not self._waiting:
                    return
                future, fn, args = self._waiting.pop(self._rng.integers(len(self._waiting)))
            try:
                result = fn(*args)
            except AssertionError as error:
                future.set_exception(error)
                continue
            with self._changed:
                self._unfinished -= 1
            future.set_result(result)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        with self._changed:
            self._over = True
            self._changed.notify()
        self._thread.join()


def overlap(one: Slices, other: Slices) -> bool:
    return all(a.start < b.stop and b.start < a.stop for a, b in zip(one, other, strict=True))


def needs_of(stages: list[Stage]) -> dict[tuple[int, int], set[tuple[int, int]]]:
    """What each task needs, by comparing all with all."""
    needs: dict[tuple[int, int], set[tuple[int, int]]] = {}
    for s, stage in enumerate(stages):
        for k in range(len(stage.grid)):
            needs[s, k] = set()
            if s:
                before, window = stages[s - 1].grid, stage.grid.window(k, stage.halo_px)
                needs[s, k] = {(s - 1, i) for i in range(len(before)) if overlap(before.box(i), window)}
    return needs


@st.composite
def stages_of_one_image(draw: st.DrawFn) -> list[Stage]:
    n_axes = draw(st.integers(1, 3))
    ints = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(n_axes))  # noqa: E731
    shape = ints(1, {1: 40, 2: 12, 3: 7}[n_axes])
    grids = [BlockGrid(shape, ints(2, 9)) for _ in range(draw(st.integers(1, 4)))]
    return [Stage(f"stage {s}", grid, ints(0, 8), int) for s, grid in enumerate(grids)]


@settings(max_examples=150)
@given(
    stages_of_one_image(),
    st.integers(1, 6),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    st.sampled_from([None, 0.5, 0.9]),
    st.sampled_from([1, 5, SLAB]),
)
def test_each_missing_task_runs_once_and_after_all_it_needs(
    stages: list[Stage], at_once: int, seed: int, share_done: float, share_mine: float | None, slab: int
) -> None:
    rng = np.random.default_rng(seed)
    needs = needs_of(stages)
    done = nothing_done(*stages)
    only = {name: None if share_mine is None else rng.random(len(d)) < share_mine for name, d in done.items()}
    # any state that a run may have been interrupted in: nothing is done before what it needs
    known: set[tuple[int, int]] = set()
    missing: set[tuple[int, int]] = set()
    for (s, k), needed in needs.items():
        name = stages[s].name
        if needed <= known and rng.random() < share_done:
            done[name][k] = True
            known.add((s, k))
        elif needed <= known | missing and (only[name] is None or only[name][k]):
            missing.add((s, k))
    began: list[tuple[int, int]] = []

    def work(s: int, k: int) -> tuple[int, int]:
        assert type(k) is int
        assert needs[s, k] <= known, f"({s}, {k}) began before {needs[s, k] - known}"
        began.append((s, k))
        return s, k

    def finished(name: str, k: int, result: tuple[int, int]) -> None:
        assert (name, k) == (stages[result[0]].name, result[1])
        known.add(result)

    stages = [replace(stage, work=partial(work, s), only=only[stage.name]) for s, stage in enumerate(stages)]
    with AnyOrder(seed) as executor, patch("cellscribble.engine.ready.SLAB", slab):
        run_stages(stages, executor, at_once=at_once, done=done, finished=finished, failed=never_fails)
    assert sorted(began) == sorted(missing)
    assert known == {(s, k) for s, stage in enumerate(stages) for k in np.flatnonzero(done[stage.name])}
    assert executor.most_unfinished <= at_once


def test_later_stages_go_first_and_in_a_stage_the_lowest_number_but_the_last_of_the_longest() -> None:
    grid = BlockGrid((70,), (10,))
    stages = [Stage("see", grid, (), int), Stage("cut", grid, (1,), int), Stage("root", grid.coarser(7), (0,), int)]
    order = [f"{name} {k}" for name, k, _ in run_all(stages, Inline(), at_once=1)]
    early = ["see 0", "see 1", "cut 0", "see 2", "cut 1", "see 3", "cut 2", "see 4"]
    # The last two of the first stage leave what is short for the end, when there is nothing else to do beside it.
    assert order == [*early, "see 5", "see 6", "cut 3", "cut 4", "cut 5", "cut 6", "root 0"]


def test_results_reach_the_driver_in_its_own_thread() -> None:
    threads = set()
    stages = [Stage("square", FOUR, (), lambda k: k * k), Stage("root", FOUR.coarser(4), (0,), float)]
    results = {}

    def finished(name: str, k: int, result: Any) -> None:
        threads.add(threading.current_thread())
        results[name, k] = result

    with ThreadPoolExecutor(3) as pool:
        run_stages(stages, pool, at_once=3, done=nothing_done(*stages), finished=finished, failed=never_fails)
    assert results == {("square", 0): 0, ("square", 1): 1, ("square", 2): 4, ("square", 3): 9, ("root", 0): 0.0}
    assert threads == {threading.current_thread()}


def test_more_needs_than_a_byte_counts() -> None:
    grid = BlockGrid((20, 20), (1, 1))
    stages = [Stage("see", grid, (), int), Stage("root", grid.coarser(20), (0, 0), int)]
    assert [name for name, *_ in run_all(stages, Inline(), at_once=1)] == ["see"] * 400 + ["root"]


def fail_on(k: int, bad: int) -> int:
    if k == bad:
        raise ValueError(f"block {k} is damaged")
    return k


def test_a_failure_that_may_be_skipped_holds_nothing_up() -> None:
    stages = [Stage("see", FOUR, (), lambda k: fail_on(k, 2)), Stage("cut", FOUR, (10,), int)]
    done, failures = nothing_done(*stages), []

    def failed(name: str, k: int, error: BaseException) -> bool:
        failures.append((name, k, str(error)))
        return True

    with ThreadPoolExecutor(2) as pool:
        seen = run_all(stages, pool, 2, done, failed)
    assert failures == [("see", 2, "block 2 is damaged")]
    ran = {(name, k) for name, k, _ in seen}
    assert ran == {("see", 0), ("see", 1), ("see", 3), ("cut", 0), ("cut", 1), ("cut", 2), ("cut", 3)}
    assert done["see"].all()
    assert done["cut"].all()


class ByHand(Executor):
    """Of four tasks the first fails, the second runs on, and the others have not begun; the second ends
    when the fourth is cancelled."""

    def __init__(self, error: BaseException) -> None:
        self._error = error
        self.futures: list[Future[Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        self.futures.append(Future())
        if len(self.futures) == 4:
            for future in self.futures[:2]:
                future.set_running_or_notify_cancel()
            self.futures[3].add_done_callback(lambda _: self.futures[1].set_result("late"))
            self.futures[0].set_exception(self._error)
        return self.futures[-1]


@pytest.mark.parametrize("error", [ValueError("damaged"), KeyboardInterrupt(), BrokenExecutor("out of memory")])
def test_to_stop_cancels_what_has_not_begun_and_reports_what_ran(error: BaseException) -> None:
    stage = Stage("see", BlockGrid((60,), (10,)), (), int)
    done, seen, asked = nothing_done(stage), [], []

    def failed(name: str, k: int, error: BaseException) -> bool:
        asked.append(k)
        return False

    executor = ByHand(error)
    raised = CellScribbleError if isinstance(error, BrokenExecutor) else type(error)
    with pytest.raises(raised) as caught:
        run_stages([stage], executor, at_once=4, done=done, finished=lambda *a: seen.append(a), failed=failed)
    assert seen == [("see", 1, "late")]
    assert done["see"].tolist() == [False, True, False, False, False, False]
    assert [future.cancelled() for future in executor.futures] == [False, False, True, True]
    # Only the first says something about the task itself.
    assert asked == ([0] if isinstance(error, ValueError) else [])
    if raised is CellScribbleError:
        assert "workers were lost while see 0 was under way (out of memory)" in str(caught.value)
        assert "What is done is kept" in str(caught.value)
    else:
        assert caught.value.__notes__ == ["in task 0 of stage see"]


def test_an_error_of_the_journal_stops_the_run() -> None:
    stage = Stage("see", BlockGrid((1000,), (10,)), (), int)
    done, seen = nothing_done(stage), []

    def finished(name: str, k: int, result: Any) -> None:
        if k == 3:
            raise OSError(28, "No space left on device")
        seen.append(k)

    with ThreadPoolExecutor(2) as pool, pytest.raises(OSError, match="No space left"):
        run_stages([stage], pool, at_once=2, done=done, finished=finished, failed=never_fails)
    assert len(seen) < 10
    assert np.flatnonzero(done["see"]).tolist() == sorted(seen)


sends_signals = pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs a POSIX system")


def press_ctrl_c() -> None:
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


@sends_signals
def test_ctrl_c_awaits_and_reports_what_runs() -> None:
    began, seen = [], []
    stage = Stage("see", BlockGrid((1000,), (1,)), (), lambda k: work(k))
    done = nothing_done(stage)

    def work(k: int) -> None:
        began.append(k)
        if k == 5:
            press_ctrl_c()
            time.sleep(0.05)

    with ThreadPoolExecutor(2) as pool, pytest.raises(KeyboardInterrupt):
        run_stages([stage], pool, at_once=4, done=done, finished=lambda *a: seen.append(a[1]), failed=never_fails)
    assert 5 in seen
    assert sorted(seen) == sorted(began) == np.flatnonzero(done["see"]).tolist()
    assert len(seen) < 1000
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("n_blocks", [1, 3])
@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_ctrl_c_and_sigterm_tear_nothing_that_finished_writes(
    n_blocks: int, number: signal.Signals, raised: type[BaseException]
) -> None:
    written = []

    def finished(name: str, k: int, result: Any) -> None:
        signal.raise_signal(number)
        written.append(k)

    stage = Stage("see", BlockGrid((n_blocks,), (1,)), (), int)
    end_as_at_ctrl_c()
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            run_stages([stage], Inline(), at_once=1, done=nothing_done(stage), finished=finished, failed=never_fails)
        assert signal.getsignal(signal.SIGTERM) is terminate
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert type(caught.value) is raised
    assert written == [0]


def test_workers_that_come_later_get_tasks_too() -> None:
    places, began = iter([1, 1, 1, *[4] * 50]), []
    gate = threading.Barrier(4, timeout=10)

    def work(k: int) -> None:
        began.append(k)
        if k >= 2:  # from then on four at a time, or the barrier breaks
            gate.wait()

    stage = Stage("see", BlockGrid((10,), (1,)), (), work)
    done = nothing_done(stage)
    with ThreadPoolExecutor(4) as pool:
        run_stages(
            [stage], pool, at_once=lambda: next(places), done=done, finished=lambda *_: None, failed=never_fails
        )
    assert sorted(began) == list(range(10))


@sends_signals
def test_a_second_ctrl_c_goes_out_at_once() -> None:
    out = threading.Event()
    late = []

    def work(k: int) -> None:
        press_ctrl_c()
        time.sleep(0.05)
        press_ctrl_c()
        late.append(not out.wait(10))

    stage = Stage("see", FOUR, (), work)
    done = nothing_done(stage)
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(KeyboardInterrupt):
            run_stages([stage], pool, at_once=1, done=done, finished=lambda *a: None, failed=never_fails)
        out.set()
    assert late == [False]
    assert not done["see"].any()


@pytest.mark.parametrize("n_times", [1, 2])
def test_two_ctrl_c_before_the_driver_looks_go_out_at_once(n_times: int) -> None:
    begun, out = threading.Event(), threading.Event()

    def work(k: int) -> bool:
        if k == 0:
            return True
        begun.set()
        return out.wait(10)

    def finished(name: str, k: int, result: Any) -> None:
        # One that has not begun is cancelled and not awaited.
        assert begun.wait(10)
        threading.Timer(0.05, out.set).start()
        for _ in range(n_times):
            signal.raise_signal(signal.SIGINT)

    stage = Stage("see", FOUR, (), work)
    with ThreadPoolExecutor(2) as pool:
        with pytest.raises(KeyboardInterrupt):
            run_stages([stage], pool, at_once=2, done=nothing_done(stage), finished=finished, failed=never_fails)
        assert out.is_set() == (n_times == 1)


def test_a_shard_runs_its_own_and_leaves_out_what_needs_another() -> None:
    mine = np.array([True, True, False, False])
    root = Stage("root", FOUR.coarser(4), (0,), int)
    stages = [Stage("see", FOUR, (), int, mine), Stage("cut", FOUR, (1,), int), root]
    done = nothing_done(*stages)
    assert [(name, k) for name, k, _ in run_all(stages, Inline(), 1, done)] == [("see", 0), ("see", 1), ("cut", 0)]
    # Another shard has done its part meanwhile.
    done["see"][2] = True
    assert [(name, k) for name, k, _ in run_all(stages, Inline(), 1, done)] == [("cut", 1)]
    done["see"][3] = True
    stages[1] = Stage("cut", FOUR, (1,), int, mine[::-1].copy())
    seen = run_all(stages, Inline(), 1, done)
    assert [(name, k) for name, k, _ in seen] == [("cut", 2), ("cut", 3), ("root", 0)]


class Blind(BlockGrid):
    def meeting(self, window: Slices) -> Slices:
        return tuple(slice(0, 1) for _ in window)


def test_a_task_that_would_wait_for_ever_is_named() -> None:
    stages = [Stage("see", FOUR, (), int), Stage("cut", Blind((40,), (10,)), (0,), int)]
    with pytest.raises(RuntimeError, match="stage cut: block 1 has all it needs, but nothing is left to run"):
        run_all(stages, Inline(), 1)


def test_why_a_task_waits_is_said() -> None:
    see = Ready(FOUR, np.zeros(4, bool), None, None, ())
    cut = Ready(FOUR, np.array([True, True, False, False]), None, see, (1,))
    assert see.why_waiting() == "block 0 needs nothing"
    assert cut.why_waiting() == "block 2 waits for block 1 of the stage before"
    for k in (see.take(), see.take()):
        see.done[k] = True
        cut.need_done(k)
    assert (cut.n_ready, cut.why_waiting()) == (0, "block 2 waits for block 2 of the stage before")


def test_processes_work_and_one_that_is_killed_stops_the_run() -> None:
    with ProcessPoolExecutor(1, get_context("spawn"), leave_interrupts_to_the_driver) as pool:
        seen = run_all([Stage("root of", FOUR, (), math.sqrt)], pool)
        assert [round(result, 3) for *_, result in seen] == [0.0, 1.0, 1.414, 1.732]
        with pytest.raises(CellScribbleError, match="fewer workers"):
            run_all([Stage("see", FOUR, (), os._exit)], pool)


def lose_a_worker(k: int, folder: Path) -> int:
    """Ends its process the first time."""
    mark = folder / "begun"
    if k == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return k * k


@pytest.fixture
def dask_client(request: pytest.FixtureRequest) -> Iterator[Any]:
    distributed = pytest.importorskip("distributed", reason="needs the extra cluster")
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=request.param, dashboard_address="127.0.0.1:0"
    )
    with cluster, distributed.Client(cluster) as client:
        yield client


@pytest.mark.parametrize("dask_client", [False], indirect=True)
def test_dask_runs_tasks_and_hands_on_their_errors(dask_client: Any) -> None:
    stages = [Stage("see", FOUR, (), partial(fail_on, bad=2)), Stage("cut", FOUR, (10,), float)]
    done = nothing_done(*stages)
    failures = []

    def failed(name: str, k: int, error: BaseException) -> bool:
        failures.append((name, k, str(error)))
        return True

    seen = run_all(stages, DaskExecutor(dask_client), 3, done, failed)
    assert failures == [("see", 2, "block 2 is damaged")]
    assert [result for name, _, result in sorted(seen) if name == "see"] == [0, 1, 3]
    assert [result for name, _, result in sorted(seen) if name == "cut"] == [0.0, 1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match="block 2 is damaged"):
        run_all(stages, DaskExecutor(dask_client), 3, failed=lambda *_: False)


@pytest.mark.slow
@sends_signals
@pytest.mark.parametrize("dask_client", [True], indirect=True)
def test_dask_does_the_tasks_of_a_lost_worker_again(dask_client: Any, tmp_path: Path) -> None:
    stage = Stage("see", FOUR, (), partial(lose_a_worker, folder=tmp_path))
    seen = run_all([stage], DaskExecutor(dask_client), 4)
    assert sorted(result for *_, result in seen) == [0, 1, 4, 9]
    # One that ends every worker it is given to.
    failures = []

    def failed(name: str, k: int, error: BaseException) -> bool:
        assert isinstance(error, CellScribbleError)
        failures.append(str(error))
        return True

    assert run_all([Stage("see", FOUR.coarser(4), (), os._exit)], DaskExecutor(dask_client), 4, failed=failed) == []
    assert len(failures) == 1
    assert "fewer threads, or use a smaller --block" in failures[0]


@pytest.mark.parametrize("dask_client", [False], indirect=True)
def test_a_lost_scheduler_stops_the_run(dask_client: Any) -> None:
    stage = Stage("see", FOUR, (), lambda k: time.sleep(0.2 * k))
    seen = []

    def finished(name: str, k: int, result: Any) -> None:
        seen.append(k)
        dask_client.cluster.close()

    executor = DaskExecutor(dask_client)
    with pytest.raises(CellScribbleError, match="the connection to the scheduler was lost"):
        run_stages([stage], executor, at_once=2, done=nothing_done(stage), finished=finished, failed=never_fails)
    assert seen == [0]
