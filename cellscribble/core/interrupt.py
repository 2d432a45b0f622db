"""SIGTERM, with which clusters and containers end a program, does what Ctrl-C does; both can be held for a while."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, NoReturn


class Terminated(KeyboardInterrupt):
    """The system asked this process to end."""


def terminate(number: int, frame: object) -> NoReturn:
    """Raise Terminated: a handler of signals."""
    raise Terminated


def end_as_at_ctrl_c() -> None:
    """Let SIGTERM raise Terminated, so that what is half done is put in order; without effect where it is handled."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, terminate)


_RAISES: dict[signal.Signals, Callable[[int, FrameType | None], Any]] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: terminate,
}
"""The handlers that raise, of the signals that are held."""


class HeldInterrupt:
    """Holds Ctrl-C and SIGTERM until they are looked for, so that they tear nothing that is being written or computed.

    A second one is not held.

    wake : called when one comes, so that whoever waits looks
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.count, self._wake, self._last = 0, wake, signal.SIGINT
        # Elsewhere they do not arrive, and another handler has its own reasons.
        main = threading.current_thread() is threading.main_thread()
        self._held = {n: raises for n, raises in _RAISES.items() if main and signal.getsignal(n) is raises}

    def __enter__(self) -> HeldInterrupt:
        for number in self._held:
            signal.signal(number, self._hold)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        for number, raises in self._held.items():
            signal.signal(number, raises)
        if kind is None:
            self.check()

    def check(self) -> None:
        """Raise KeyboardInterrupt or Terminated if one came."""
        if self.count:
            _RAISES[self._last](self._last, None)

    def forget_ctrl_c(self) -> None:
        """What came is dealt with, if it was Ctrl-C: it is not raised at the end. SIGTERM is."""
        if self._last == signal.SIGINT:
            self.count = 0

    def _hold(self, number: int, frame: FrameType | None) -> None:
        self.count, self._last = self.count + 1, signal.Signals(number)
        self._wake()
        if self.count > 1:
            self.check()
