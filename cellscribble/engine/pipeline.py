"""The threads of one process: some read blocks, some ask the network, some cut and write.

::

    reader threads  ->  one ONNX Runtime session, asked by a thread a core  ->  writer threads

While the network computes, the next blocks are read and the last ones written. How many are on their way is bounded
(`at_once`), so a slow disk at one end fills no memory at the other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

from cellscribble.engine.steps import Look, See


class Pipeline(Executor):
    """Does the steps of `stages`: "see" in three parts, by threads of their own, the others by the writers.

    Parameters
    ----------
    n_networks, n_writers, n_ahead : as of `Plan`

    Attributes
    ----------
    at_once : blocks on their way; give it to `run_stages`
    """

    def __init__(self, n_networks: int, n_writers: int, n_ahead: int) -> None:
        self._readers = ThreadPoolExecutor(max(1, n_ahead), "read")
        self._askers = ThreadPoolExecutor(n_networks, "network")
        self._writers = ThreadPoolExecutor(n_writers, "write")
        self.at_once = n_writers + n_ahead

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As of `concurrent.futures`."""
        if not isinstance(fn, See):
            return self._writers.submit(fn, *args, **kwargs)
        future: Future[str] = Future()
        self._readers.submit(self._read, fn, future, *args)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As of `concurrent.futures`; in the order in which blocks are handed on."""
        for pool in (self._readers, self._askers, self._writers):
            pool.shutdown(wait, cancel_futures=cancel_futures)

    def _read(self, see: See, future: Future[str], k: int) -> None:
        if future.cancelled():
            return
        with _errors_to(future):
            look = see.read(k)
            # Until here it can be cancelled: what was read ahead is not waited for when a run is stopped.
            if look.empty:
                self._writers.submit(self._write, see, look, future)
            else:
                self._askers.submit(self._ask, see, look, future)

    def _ask(self, see: See, look: Look, future: Future[str]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        with _errors_to(future):
            see.ask(look)
            self._writers.submit(self._write, see, look, future)

    def _write(self, see: See, look: Look, future: Future[str]) -> None:
        if look.empty and not future.set_running_or_notify_cancel():
            return
        with _errors_to(future):
            future.set_result(see.write(look))


@contextlib.contextmanager
def _errors_to(future: Future[str]) -> Iterator[None]:
    try:
        yield
    except BaseException as error:  # noqa: BLE001 - whoever waits for the block is to hear it, as of any executor
        if future.running() or future.set_running_or_notify_cancel():
            future.set_exception(error)
