"""Images of one folder, several at once: while one is in the network others are read, cut and written."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

ROOM_PX = 1 << 22
"""Pixels of all images that are worked on at once; a larger image has the room for itself. On two cores images of
1024 x 1024 px take 880 MiB so."""

MOST_AT_ONCE = 8
"""Images in the network at once; of more cores each image has several."""

POLL_S = 1.0
"""Windows does not interrupt a wait that has no end, so Ctrl-C is looked for this often."""


class Report(Protocol):
    """Hears events, each with facts about it."""

    def __call__(self, event: str, /, **fields: Any) -> None: ...


class Room:
    """Lets in as many images at once as hold `ROOM_PX` together, or one that is larger."""

    def __init__(self) -> None:
        self._entry, self._left, self._changed = threading.Lock(), ROOM_PX, threading.Condition()

    @contextmanager
    def image(self, read: Callable[[], T], n_pixels: Callable[[T], int]) -> Iterator[T]:
        """Read an image and wait until there is room for it; it has it while the block runs.

        Only one is read that has to wait: whoever would be next is not read before.
        """
        with self._entry:
            image = read()
            taken = min(n_pixels(image), ROOM_PX)
            with self._changed:
                self._changed.wait_for(lambda: taken <= self._left)
                self._left -= taken
        try:
            yield image
        finally:
            with self._changed:
                self._left += taken
                self._changed.notify()


def in_turn(work: Sequence[Callable[[Report], T]], report: Report, at_once: int) -> Generator[Callable[[], T]]:
    """Do several things, `at_once` at a time; yields for each, in order, what gives its result or raises.

    Parameters
    ----------
    work : called with what it reports to, with `at_once` > 1 in threads. What it reports reaches `report` when it is
        its turn; of "progress" only what comes then
    at_once : with 1 each is done in this thread, when its result is asked for

    Close the iterator where it is not read to its end: what has not begun does not begin, what runs ends at its next
    report, and is awaited.
    """
    if at_once == 1:
        for do in work:
            yield partial(do, report)
        return
    turn = _Turn(report)
    with ThreadPoolExecutor(at_once, "image") as executor:
        begun: deque[Future[T]] = deque()
        try:
            for k in range(len(work)):
                while len(begun) < at_once and k + len(begun) < len(work):
                    new = k + len(begun)
                    begun.append(executor.submit(work[new], partial(turn.hear, new)))
                while not wait([begun[0]], POLL_S).done:
                    pass
                yield begun.popleft().result
                turn.next()
        finally:
            turn.stopped = True
            for future in begun:
                future.cancel()


class _Turn:
    """Passes on what is said about 0, 1, 2 ... in this order."""

    def __init__(self, report: Report) -> None:
        self.stopped = False
        self._report, self._whose, self._lock = report, 0, threading.Lock()
        self._kept: defaultdict[int, list[tuple[str, dict[str, Any]]]] = defaultdict(list)

    def hear(self, k: int, event: str, /, **fields: Any) -> None:
        if self.stopped:
            raise CancelledError
        with self._lock:
            if k == self._whose:
                self._report(event, **fields)
            elif event != "progress":
                self._kept[k].append((event, fields))

    def next(self) -> None:
        with self._lock:
            self._whose += 1
            for event, fields in self._kept.pop(self._whose, ()):
                self._report(event, **fields)
