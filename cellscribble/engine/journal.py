"""Which tasks are finished: a text file that only grows, one line a task.

::

    see 17 done
    see 18 empty
    see 19 failed {"message": "chunk 4.2 is damaged"}

A line is one call of the system, so a process killed at any moment leaves at most one incomplete
line, the last; it is cut off when the file is opened again. Lines are not forced to the disk one by
one: they outlast the death of the process, not that of the computer.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from cellscribble.core.errors import FileFormatError, OutputError
from cellscribble.engine.lock import Lock, release_lock, take_lock
from cellscribble.io.atomic import explain_write_error

PATTERN = "journal*.txt"
"""Names of the journals in a folder; processes that share the work write one each."""

DONE, EMPTY, FAILED = "done", "empty", "failed"

_TEXT_AS_IT_IS = getattr(os, "O_BINARY", 0)
_SEARCH_BYTES = 1 << 16


class Journal:
    """A journal opened for writing by this process alone, from one thread at a time.

    Parameters
    ----------
    path : the file; made if there is none

    Attributes
    ----------
    lock : OURS, or UNKNOWN on a disk without locks, where a second process is not noticed

    Raises
    ------
    OutputError
        If another process has the journal open, or it cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | _TEXT_AS_IT_IS, 0o666)
        except OSError as error:
            raise explain_write_error(error, self.path) from error
        try:
            self.lock = take_lock(self._file)
            if self.lock is Lock.OTHERS:
                raise _in_use(self.path)
            self._end = _cut_incomplete_line(self._file)
            _holder_path(self.path).write_text(
                f"process {os.getpid()} on computer {socket.gethostname()}\n", encoding="utf-8"
            )
        except OutputError:
            os.close(self._file)
            raise
        except OSError as error:
            os.close(self._file)
            raise explain_write_error(error, self.path) from error

    def note(self, stage: str, k: int, word: str = DONE, **facts: Any) -> None:
        """Add the line of one task.

        Parameters
        ----------
        stage : name of the stage, one word
        k : number of the task in its stage, 0 and up
        word : how it ended: "done", "empty", "failed" or another single word
        facts : plain values that JSON can hold, for example the message of a failure

        Raises
        ------
        OutputError
            If the line cannot be written (disk full); the journal stays whole.
        """
        line = f"{stage} {k} {word}"
        words = line.split(" ")
        if len(words) != 3 or words != line.split() or k < 0:
            raise ValueError(f"the line {line!r} is not a stage, a number >= 0 and a word")
        if facts:
            line += " " + json.dumps(facts, allow_nan=False)
        data = (line + "\n").encode()
        try:
            if os.write(self._file, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._end)
            raise explain_write_error(error, self.path) from error
        self._end += len(data)

    def close(self) -> None:
        """Let others open the journal; a second call does nothing."""
        if self._file < 0:
            return
        with contextlib.suppress(OSError):
            _holder_path(self.path).unlink(missing_ok=True)
        release_lock(self._file)
        os.close(self._file)
        self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def refuse_if_open(path: Path) -> None:
    """Raise OutputError if a process has this journal open; one that does not exist is not open."""
    try:
        file = os.open(path, os.O_RDWR | _TEXT_AS_IT_IS)
    except FileNotFoundError:
        return
    except OSError as error:
        raise explain_write_error(error, path) from error
    try:
        if take_lock(file) is Lock.OTHERS:
            raise _in_use(path)
        release_lock(file)
    except OutputError:
        raise
    except OSError as error:
        raise explain_write_error(error, path) from error
    finally:
        os.close(file)


def read_journals(folder: str | Path) -> Iterator[tuple[str, int, str, dict[str, Any]]]:
    """Stage, number, word and facts of each line of all journals of a folder, in their order.

    Streams: memory does not grow with the journals. An incomplete last line is passed over, so a
    journal may be read while another process writes it.

    Raises
    ------
    FileFormatError
        If a line is damaged.
    """
    for path in sorted(Path(folder).glob(PATTERN)):
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    yield _parse(line)
                except ValueError as error:
                    raise FileFormatError(
                        f"{path} is damaged: line {number} is {line[:60]!r}, expected for example 'see 17 done'; "
                        f"delete {path.parent} and start anew"
                    ) from error


class Finished(NamedTuple):
    """What the journals of a folder say of the tasks.

    done : for each stage (size of the stage,) bool, True where no work is left
    empty : for each stage (size of the stage,) bool, True where there was nothing to do
    failed : message of each task (stage, number) that failed
    facts : what else was noted of a task that did not fail
    """

    done: dict[str, npt.NDArray[np.bool_]]
    empty: dict[str, npt.NDArray[np.bool_]]
    failed: dict[tuple[str, int], str]
    facts: dict[tuple[str, int], dict[str, Any]]


def done_of(folder: str | Path, sizes: Mapping[str, int]) -> Finished:
    """Which tasks are finished, of the stages and sizes that are asked for.

    A task that failed is finished too: it was gone on without it, and others may have built on that.

    Raises
    ------
    FileFormatError
        If a line is damaged, or has a number beyond the size of its stage.
    """
    done = {stage: np.zeros(size, bool) for stage, size in sizes.items()}
    empty = {stage: np.zeros(size, bool) for stage, size in sizes.items()}
    failed: dict[tuple[str, int], str] = {}
    told: dict[tuple[str, int], dict[str, Any]] = {}
    for stage, k, word, facts in read_journals(folder):
        marks = done.get(stage)
        if marks is None:
            continue
        if k >= len(marks):
            raise FileFormatError(
                f"the journal in {folder} has task {k} of {stage!r}, which has {len(marks)} tasks; "
                f"delete {folder} and start anew"
            )
        marks[k] = True
        empty[stage][k] = word == EMPTY
        if word == FAILED:
            failed[stage, k] = str(facts.get("message", ""))
        elif facts:
            told[stage, k] = facts
    return Finished(done, empty, failed, told)


def _parse(line: bytes) -> tuple[str, int, str, dict[str, Any]]:
    stage, number, word, *text = line[:-1].decode().split(" ", 3)
    facts = json.loads(text[0]) if text else {}
    k = int(number)
    if not stage or not word or k < 0 or not isinstance(facts, dict):
        raise ValueError
    return stage, k, word, facts


def _cut_incomplete_line(file: int) -> int:
    """Cut off what follows the last line end; the size in bytes of what is left."""
    size = end = os.lseek(file, 0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _SEARCH_BYTES)
        os.lseek(file, start, os.SEEK_SET)
        at = os.read(file, end - start).rfind(b"\n")
        if at >= 0:
            end = start + at + 1
            break
        end = start
    if end < size:
        os.ftruncate(file, end)
    return end


def _holder_path(path: Path) -> Path:
    """Who has the journal open, in words: for people, the lock itself is on the journal."""
    return path.with_name(path.name + ".holder")


def _in_use(path: Path) -> OutputError:
    try:
        who = _holder_path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        who = ""
    return OutputError(
        f"{path.parent} is in use by another run ({who or 'which process is not known'}); "
        "wait until that has ended, or stop it, or choose another output"
    )
