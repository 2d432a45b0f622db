"""What tasks run on, where it is not a thread of this process: processes, and computers of a cluster."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

from cellscribble.core.errors import CellScribbleError

P = ParamSpec("P")
T = TypeVar("T")

COUNT_S = 2.0
"""Workers are counted so often."""

NO_SCHEDULER = "the connection to the scheduler was lost"


def leave_interrupts_to_the_driver() -> None:
    """Make a worker process deaf to Ctrl-C, which the terminal sends to it as well: the driver stops it.

    Give it to ProcessPoolExecutor as `initializer`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class DaskExecutor(Executor):
    """A `dask.distributed.Client` as an executor.

    What is submitted cannot be cancelled, since the scheduler does not say what has begun, but for when there are no
    workers. Tasks of a worker that is lost are done again by another.

    Attributes
    ----------
    threads : of each worker of a moment ago, by its address
    """

    def __init__(self, client: Any) -> None:
        import cloudpickle  # comes with dask

        self._client, self._pack, self._call = client, cloudpickle.dumps, _unpack_and_call()
        self._ask_at = time.monotonic() + COUNT_S
        self.threads: Mapping[str, int] = client.nthreads()

    def places(self) -> int:
        """How many tasks keep the workers busy; 1 as long as there are none."""
        if time.monotonic() >= self._ask_at:
            self._ask_at = time.monotonic() + COUNT_S
            self._client.loop.add_callback(self._count)
        # Each worker has one task at hand for the moment when a thread is free.
        return max(1, sum(self.threads.values()) + len(self.threads))

    async def _count(self) -> None:
        # Without a scheduler `submit` ends the run, not this.
        with contextlib.suppress(OSError):
            self.threads = await self._client.scheduler.ncores()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As of `concurrent.futures`."""
        if self._client.status == "closed":
            raise BrokenExecutor(NO_SCHEDULER)
        future: Future[T] = _DaskFuture(self)
        task = self._pack(partial(fn, *args, **kwargs))
        # pure: otherwise equal calls are one task, and a result that is still known is not made again.
        self._client.loop.add_callback(_fetch, self._client.submit(self._call, task, pure=False), future)
        return future


class _DaskFuture(Future[T]):
    def __init__(self, executor: DaskExecutor) -> None:
        super().__init__()
        self._executor = executor

    def cancel(self) -> bool:
        return not self._executor.threads and super().cancel()


def _unpack_and_call() -> Callable[[bytes], Any]:
    """A function that travels whole, so that neither the scheduler nor a worker needs our package to take a task.

    Otherwise a worker that has not got it breaks down where it reads its messages, and nobody hears why.
    """

    def call(task: bytes) -> Any:
        import pickle

        return pickle.loads(task)()

    return call


async def _fetch(remote: Any, future: Future[Any]) -> None:
    """Hand on the outcome of a future of dask; in the client's event loop, so that many are awaited at once."""
    task = asyncio.ensure_future(remote.result())
    await asyncio.wait([task])
    error = task.exception()
    if not future.set_running_or_notify_cancel():
        return
    if error is None:
        future.set_result(task.result())
    elif remote.status == "error":
        future.set_exception(_explain(error))
    else:  # cancelled, or done and its result cannot be fetched
        future.set_exception(BrokenExecutor(f"{NO_SCHEDULER}: {error!r}"))


def _explain(error: BaseException) -> BaseException:
    """What dask says of its own, as an error that tells what to do; errors of tasks as they are."""
    kind = type(error).__name__
    if kind == "KilledWorker":
        return CellScribbleError(
            "workers ended one after the other on one and the same block. What is done is kept. Most often their "
            "memory does not suffice: give each worker more of it or fewer threads, or use a smaller --block"
        )
    if isinstance(error, ImportError) and not isinstance(error, CellScribbleError):
        return CellScribbleError(
            f"a worker cannot read our tasks ({error}); install the same version of CellScribble where the workers run"
        )
    return error
