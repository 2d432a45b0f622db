"""How far a long part of a run is, for whoever shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Tell = Callable[[str, float, float], None]
"""Called with what is being done, how much of it is done, and how much it is in all."""

Done = Callable[[float], None]
"""Called with how much more is done."""


def unheard(amount: float) -> None:
    """Of work that nobody waits for."""


class Stopped(Exception):
    """A part of a run was asked to stop, and did."""


class Work:
    """Adds up what is done of the part of a run that goes on now, and tells it.

    Of one part at a time; between parts what is done is not told.
    """

    def __init__(self, tell: Tell | None = None) -> None:
        self._tell = tell
        self._what, self._done, self._total = "", 0.0, 0.0
        self._stop: Callable[[], bool] | None = None

    @contextmanager
    def part(self, what: str, total: float, stop: Callable[[], bool] | None = None) -> Iterator[None]:
        """Within, `done` is told, as of `what`.

        total : how much it is in all, about: only the share counts
        stop : asked after each piece whether to end here

        Raises
        ------
        Stopped
            If `stop` says so.
        """
        self._what, self._done, self._total, self._stop = what, 0.0, total, stop
        try:
            self.done(0.0)
            yield
        finally:
            self._what, self._stop = "", None

    def done(self, amount: float) -> None:
        """So much more is done."""
        if not self._what:
            return
        self._done = min(self._total, self._done + amount)
        if self._tell is not None:
            self._tell(self._what, self._done, self._total)
        if self._stop is not None and self._stop():
            raise Stopped(self._what)
