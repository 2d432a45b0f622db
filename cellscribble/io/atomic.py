"""Writing files and folders that appear only when they are whole.

Everything is written under a hidden temporary name in the target's own folder (the same disk, so
that the final rename cannot fail half way) and renamed at the end. The name says which process writes, so that what a
killed one left goes when the next one writes into that folder: CellProfiler opens hidden images too, and half a file
ends its run.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cellscribble.core.errors import CellScribbleError, OutputError

TEMPORARY_MARK = ".partial-"
"""Stands in the name of everything unfinished; such names begin with a dot."""

_OF_PROCESS = re.compile(re.escape(TEMPORARY_MARK) + "([0-9a-f]{8})-([0-9]{1,9})-[0-9a-f]{8}-.+")
"""Computer and number of the process that writes; what is moved aside has another name and is nobody's to delete."""

_ZARR_MARKS = ("zarr.json", ".zgroup", ".zattrs", ".zarray")


@contextmanager
def atomic_path(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well.

    The block creates a file or a folder (a Zarr store) there. If it raises, the temporary is
    removed and whatever stood at `path` before is untouched.

    Raises
    ------
    OutputError
        If `path` exists and `overwrite` is False, if `path` is a folder that is no Zarr store, or
        if the system refuses to write (disk full, read-only folder).
    """
    path = Path(path)
    check_writable(path, overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_write_error(error, path) from error
    _remove_left(path.parent.absolute())
    # The suffix stays last: libraries look at it.
    process = f"{_computer()}-{os.getpid()}-{secrets.token_hex(4)}"
    temporary = path.parent / f"{TEMPORARY_MARK}{process}-{path.name}"
    try:
        yield temporary
        _replace(temporary, path, overwrite)
    except OutputError:
        raise
    except OSError as error:
        raise explain_write_error(error, path) from error
    finally:
        remove(temporary)


def check_writable(path: str | Path, overwrite: bool = False) -> None:
    """Raise OutputError if `path` must not be written; cheap, for a check before long work."""
    path = Path(path)
    if not (path.exists() or path.is_symlink()):
        return
    if not overwrite:
        raise OutputError(f"{path} exists already; give --overwrite, or another output")
    if path.is_dir() and not is_zarr(path):
        # Overwriting means deleting first, and a folder of someone's images must never be deleted.
        raise OutputError(f"{path} is a folder and no Zarr store, so it is not overwritten; choose another name")


def is_zarr(path: Path) -> bool:
    """True for a folder that is a Zarr group or array, version 2 or 3."""
    return path.is_dir() and any((path / mark).is_file() for mark in _ZARR_MARKS)


def save_json(path: str | Path, obj: Any, overwrite: bool = False) -> None:
    """Write `obj` as indented UTF-8 JSON; NaN is refused, since JSON has none.

    Raises
    ------
    OutputError
        As `atomic_path`.
    """
    save_text(path, json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False) + "\n", overwrite)


def save_text(path: str | Path, text: str, overwrite: bool = False) -> None:
    """Write `text` as UTF-8 with Unix line ends. Raises OutputError as `atomic_path`."""
    with atomic_path(path, overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def remove(path: Path) -> None:
    """Delete a file or a whole folder if it is there; never fails."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        try:
            path.unlink(missing_ok=True)
        except OSError:
            return


@functools.lru_cache(maxsize=64)
def _remove_left(folder: Path) -> None:
    """Delete what killed processes of this computer left in a folder; it is looked at once, since it may hold much."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        found = _OF_PROCESS.fullmatch(name)
        if found and found[1] == _computer() and not _runs(int(found[2])):
            remove(folder / name)


@functools.cache
def _computer() -> str:
    """Eight digits for all that count processes together: this computer, or this container on it."""
    which = [platform.node()]
    with contextlib.suppress(OSError):
        which.append(os.readlink("/proc/self/ns/pid"))
    with contextlib.suppress(OSError):
        # Two computers of a cluster may have one name.
        which.append(Path("/etc/machine-id").read_text(encoding="ascii"))
    return hashlib.sha256(" ".join(which).encode()).hexdigest()[:8]


def _runs(process: int) -> bool:
    if os.name != "posix":
        # There asking by a signal would end the process.
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        # Somebody else's.
        return True
    return True


def _replace(temporary: Path, path: Path, overwrite: bool) -> None:
    if temporary.is_dir() and not overwrite:
        # Of several processes that make one store the first wins: the system puts no folder over one that holds files.
        os.rename(temporary, path)
        return
    if not path.is_dir() or path.is_symlink():
        os.replace(temporary, path)
        return
    # A folder cannot be replaced in one step: move the old one aside, so that a crash between the
    # two renames leaves both versions on the disk.
    old = path.parent / f"{TEMPORARY_MARK}{secrets.token_hex(4)}-old-{path.name}"
    exchange(temporary, path, old)
    remove(old)


def exchange(new: Path, path: Path, aside: Path) -> None:
    """Put `new` where `path` is, and that to `aside`; back again if the first fails. Raises OSError."""
    os.rename(path, aside)
    try:
        os.rename(new, path)
    except OSError:
        os.rename(aside, path)
        raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system says while something below `path` is written into an OutputError."""
    try:
        yield
    except CellScribbleError:
        raise
    except OSError as error:
        raise explain_write_error(error, path) from error


def explain_write_error(error: OSError, path: Path) -> OutputError:
    """The error to raise instead when the system refuses to write `path`: it says what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "the disk is full; free some space or choose an output folder on another disk"
    elif error.errno == errno.EFBIG:
        remedy = "a file may not grow that large there (ulimit -f); choose an output folder on another disk"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        remedy = f"the folder {path.parent} is not writable; choose another output folder"
    elif error.errno == errno.ENAMETOOLONG:
        remedy = "the name is too long for this disk; choose a shorter one"
    elif error.errno == errno.ENOTEMPTY:
        remedy = "it exists meanwhile; give --overwrite, or another output"
    elif error.errno in (errno.ENOTDIR, errno.EEXIST):
        remedy = f"{path.parent} is not a folder; choose another output folder"
    else:
        remedy = f"{error}; choose another output folder"
    return OutputError(f"cannot write {path}: {remedy}")
