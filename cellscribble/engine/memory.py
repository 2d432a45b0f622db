"""How the program asks the system for memory."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_NEVER_BYTES = 2**31 - 1


def keep_freed_memory() -> None:
    """Let arrays that are freed be used again instead of going back to the system (glibc only).

    Work block by block allocates the same arrays again and again. By default each large one is mapped anew,
    and the system clears its pages: a tenth of all time. The most that is in use at once stays what it is.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for option, value in ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, _NEVER_BYTES), (_TRIM_THRESHOLD, _NEVER_BYTES)):
        mallopt(option, value)
