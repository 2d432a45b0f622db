"""What tasks run on, where it is not a thread of this process: processes, and computers of a cluster."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

NO_SCHEDULER = "the connection to the scheduler was lost"


def leave_interrupts_to_the_driver() -> None:
    """Make a worker process deaf to Ctrl-C, which the terminal sends to it as well: the driver stops it.

    Give it to ProcessPoolExecutor as `initializer`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class DaskExecutor(Executor):
    """A `dask.distributed.Client` as an executor.

    What is submitted cannot be cancelled: the scheduler does not say what has begun. Tasks of a worker that
    is lost are done again by another; one that ends several workers fails with KilledWorker.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As of `concurrent.futures`."""
        if self._client.status == "closed":
            raise BrokenExecutor(NO_SCHEDULER)
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        # pure: otherwise equal calls are one task, and a result that is still known is not made again.
        self._client.loop.add_callback(_fetch, self._client.submit(fn, *args, **kwargs, pure=False), future)
        return future


async def _fetch(remote: Any, future: Future[Any]) -> None:
    """Hand on the outcome of a future of dask; in the client's event loop, so that many are awaited at once."""
    task = asyncio.ensure_future(remote.result())
    await asyncio.wait([task])
    error = task.exception()
    if error is None:
        future.set_result(task.result())
    elif remote.status == "error":
        future.set_exception(error)
    else:  # cancelled, or done and its result cannot be fetched
        future.set_exception(BrokenExecutor(f"{NO_SCHEDULER}: {error!r}"))
