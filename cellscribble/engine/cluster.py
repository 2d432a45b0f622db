"""Processes that work on blocks: on this computer, or wherever a scheduler of dask.distributed has workers."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cellscribble.core.errors import CellScribbleError, InputError, MissingExtraError
from cellscribble.engine.workers import DaskExecutor, leave_interrupts_to_the_driver
from cellscribble.infer.runner import usable_cores

CONNECT_S = 30


@contextmanager
def local_workers(n: int) -> Iterator[DaskExecutor]:
    """`n` processes on this computer, each with its share of the cores and one thread more (`local_share`).

    Raises
    ------
    CellScribbleError
        If they cannot be started.
    MissingExtraError
        If dask.distributed is not installed.
    """
    distributed = _import_distributed()
    import dask

    try:
        # It would look a hundred times a second at what each thread does.
        with dask.config.set({"distributed.worker.profile.enabled": False}):
            cluster = distributed.LocalCluster(
                n_workers=n,
                threads_per_worker=local_share(n) + 1,
                processes=True,
                # None would be one port for all, with a warning from whoever comes second.
                dashboard_address="127.0.0.1:0",
                # Workers that dask thinks large would be stopped, although much of it is freed memory that is kept.
                memory_limit=0,
                # What they have to say of a closed connection is no matter of the user's.
                silence_logs=logging.CRITICAL,
            )
    except (OSError, RuntimeError) as error:
        raise CellScribbleError(
            f"{n} workers cannot be started ({error}); try fewer, or leave --workers out"
        ) from error
    with cluster, distributed.Client(cluster) as client:
        client.register_plugin(_deaf_plugin(distributed))
        yield DaskExecutor(client)


def local_share(n: int) -> int:
    """Cores for each of `n` processes."""
    return max(1, usable_cores() // n)


@contextmanager
def workers_of(scheduler: str) -> Iterator[DaskExecutor]:
    """The workers of a running scheduler, also those that come later.

    scheduler : its address (tcp://...) or the file it wrote (`dask scheduler --scheduler-file`)

    Raises
    ------
    InputError
        If there is no such scheduler.
    MissingExtraError
        If dask.distributed is not installed.
    """
    distributed = _import_distributed()
    address = scheduler if "://" in scheduler else _read_address(Path(scheduler))
    try:
        client = distributed.Client(address, timeout=CONNECT_S)
    except (OSError, ValueError) as error:
        raise InputError(
            f"no scheduler answers at {address} ({error}); start one with 'dask scheduler', and look at its address"
        ) from error
    with client:
        yield DaskExecutor(client)


def check_distributed() -> None:
    """Raise MissingExtraError if dask.distributed is not installed."""
    _import_distributed()


def _deaf_plugin(distributed: Any) -> Any:
    """Makes workers, also those that start later, deaf to what ends the program: the driver ends them in order."""

    class Deaf(distributed.WorkerPlugin):  # type: ignore[misc]
        def setup(self, worker: Any) -> None:
            leave_interrupts_to_the_driver()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    return Deaf()


def _read_address(file: Path) -> str:
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["address"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"--scheduler is '{file}' ({error}); expected an address such as tcp://node1:8786, or the file that "
            "'dask scheduler --scheduler-file FILE' has written"
        ) from error


def _import_distributed() -> Any:
    try:
        import distributed
    except ImportError:
        raise MissingExtraError(
            "--workers and --scheduler need dask.distributed: pip install 'cellscribble[cluster]'"
        ) from None
    return distributed
