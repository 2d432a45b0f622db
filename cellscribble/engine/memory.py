"""How much memory this process has, how much it may take, and how it asks the system for it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

from cellscribble.core.errors import InputError

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
BINARY_UNITS = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}

_UNLIMITED = 2**60
"""Above this a limit of cgroup version 1 means none."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_NEVER_BYTES = 2**31 - 1


class Resident(NamedTuple):
    """Memory of this process in bytes, without what is swapped out: now, and the most there ever was."""

    now: int
    peak: int


def resident(root: Path = Path("/")) -> Resident | None:
    """What this process holds; None on systems that do not say (Windows).

    Where only the peak is known (macOS), it stands for `now` too.
    """
    try:
        status = (root / "proc/self/status").read_text(encoding="ascii", errors="replace")
        lines = (line.partition(":") for line in status.splitlines() if line.endswith("kB"))
        kib = {name: int(value.split()[0]) for name, _, value in lines}
        return Resident(kib["VmRSS"] << 10, kib["VmHWM"] << 10)
    except (OSError, KeyError, ValueError):
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << (0 if sys.platform == "darwin" else 10)
    return Resident(peak, peak)


def available_bytes(root: Path = Path("/")) -> int | None:
    """Memory that may still be taken without swapping: of the machine, and of the container or batch job.

    None on systems that do not say.
    """
    found = [_machine(root), *_cgroups(root)]
    known = [n for n in found if n is not None]
    return max(0, min(known)) if known else None


def _machine(root: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (root / "proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    # What is free is not told without /proc; of all memory a half is taken to be.
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return None


def _cgroups(root: Path) -> list[int | None]:
    """What each control group above this process leaves to it, versions 2 and 1."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
    rooms: list[int | None] = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            top, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # A limit anywhere above holds; in a container the path may be that outside, and the group is the top.
        parts = [part for part in path.split("/") if part not in ("", "..")]
        rooms += [_room(top.joinpath(*parts[:n]), *names) for n in range(len(parts), -1, -1)]
    return rooms


def _room(group: Path, limit_name: str, usage_name: str, cache_name: str) -> int | None:
    try:
        limit = int((group / limit_name).read_text())
        usage = int((group / usage_name).read_text())
    except (OSError, ValueError):  # there is none, or "max"
        return None
    if limit >= _UNLIMITED:
        return None
    with contextlib.suppress(OSError, ValueError):
        # Files that were read and not touched lately are counted, but give way.
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        usage -= int(stat.get(cache_name, 0))
    return limit - usage


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


def parse_bytes(text: str) -> int:
    """A size in bytes: "2GB" or "2G" (10^9), "512MiB" (2^20), "800000000"; k, M, G, T, case does not matter.

    Raises
    ------
    InputError
        If it is no size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([kmgt]?)(i?)b?\s*", text, re.IGNORECASE)
    if found is None or (found[3] and not found[2]) or not float(found[1]):
        raise InputError(f"{text!r} is no size of memory; give for example 2GB, 800M or 1.5GiB")
    unit = found[2].lower()
    return int(float(found[1]) * (BINARY_UNITS[unit] if found[3] else UNITS[unit]))


def format_bytes(n: float) -> str:
    """ "870 MB", "1.4 GB": units of 1000."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= 0.9995 * size:
            return f"{n / size:.3g} {unit}" if n < 999.5 * size else f"{n / size:.0f} {unit}"
    return f"{n:.0f} bytes"
