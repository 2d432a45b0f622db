"""SIGTERM, with which clusters and containers end a program, does what Ctrl-C does."""

from __future__ import annotations

import signal
from typing import NoReturn


class Terminated(KeyboardInterrupt):
    """The system asked this process to end."""


def terminate(number: int, frame: object) -> NoReturn:
    """Raise Terminated: a handler of signals."""
    raise Terminated


def end_as_at_ctrl_c() -> None:
    """Let SIGTERM raise Terminated, so that what is half done is put in order; without effect where it is handled."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, terminate)
