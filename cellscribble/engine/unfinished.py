"""The folder of a run that is not finished yet, beside its result.

::

    slide_labels.unfinished/
        job.json               what the run was started with, and what it decided at the start
        journal-1-of-1.txt     which tasks are finished; one for each shard
        publish.json           only while the result is moved out (`publish`)
        lock                   held for a moment, see below
        ...                    what the run keeps: stores, node files

Two locks keep runs apart. Each run holds its journal for as long as it lives. Looking at the folder,
making it, emptying it and removing it is done under `lock` only, which is waited for; every journal
is opened under it too. So nobody sees a folder half made, and a folder is emptied only when no
journal in it is held. Starting anew empties the folder and leaves `lock` where it is. Only a finished
run removes `lock`, while it has it; whoever waited for that one then finds another file or none at
its path, and begins again from the start.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from cellscribble.core.errors import InputError, OutputError
from cellscribble.engine.job import JOB, is_same, plain, read_job, what_differs, write_job
from cellscribble.engine.journal import PATTERN, Journal, refuse_if_open
from cellscribble.engine.lock import Lock, release_lock, take_lock
from cellscribble.engine.publish import INTENT, Target, is_moved, is_publishing, move_out, put_back, read_intent
from cellscribble.engine.shards import Shard
from cellscribble.io.atomic import TEMPORARY_MARK, check_writable, explain_write_error, remove

LOCK = "lock"

_OURS = (JOB, LOCK, INTENT, PATTERN, PATTERN + ".holder", TEMPORARY_MARK + "*")


class Unfinished:
    """The open folder; made by `open_unfinished`.

    Attributes
    ----------
    folder : the folder
    facts : what was decided when the run was first started, as JSON gives it back (lists, no tuples)
    resumed : True if an earlier run is gone on with
    note : what a user should know, or ""
    journal : the journal of this shard
    """

    def __init__(
        self, folder: Path, facts: dict[str, Any], resumed: bool, note: str, journal: Journal, n_shards: int
    ) -> None:
        self.folder, self.facts, self.resumed, self.note, self.journal = folder, facts, resumed, note, journal
        self._n_shards = n_shards

    @property
    def publishing(self) -> bool:
        """True once `publish` has begun: all work is done, and `publish` with the same targets finishes it."""
        return is_publishing(self.folder)

    def path(self, name: str) -> Path:
        """Where something of this name lies in the folder."""
        return self.folder / name

    def publish(
        self, targets: Sequence[Target], overwrite: bool = False, last: Callable[[], None] = lambda: None
    ) -> None:
        """Move the parts of the result to their final paths, in this order, and remove the folder.

        Close all files below the folder first. Killed at any moment, the same call after
        `open_unfinished` goes on where this one ended. Closes the journal.

        Parameters
        ----------
        targets : name inside the folder and final path of each part; the labels last
        overwrite : replace what is there
        last : called when all parts are in their places; again, if that is interrupted

        Raises
        ------
        OutputError
            If a final path is taken (without `overwrite`), a part is missing, or the system
            refuses. Nothing is lost, and the folder stays.
        ValueError
            If the folder was opened as one shard of several: others may still write.
        """
        if self._n_shards != 1:
            raise ValueError(f"shard of {self._n_shards}: only a run that has the folder to itself publishes")
        move_out(self.folder, targets, overwrite)
        last()
        _remove_all_but(self.folder, *_OURS)
        if _left(self.folder, *_OURS):
            self.note = f"{self.folder} could not be removed; the result is complete, so delete it"
            self.close()
            return
        with _alone(self.folder):
            self.close()
            # From here on the run is finished, whatever of the folder may be left.
            remove(self.folder / JOB)
            _remove_all_but(self.folder, LOCK)

    def close(self) -> None:
        """Let others open the folder; what is in it stays."""
        self.journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_unfinished(
    folder: str | Path,
    key: Mapping[str, Any],
    facts: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
    shard: Shard = (1, 1),
    may_empty: bool = True,
) -> Unfinished:
    """Go on with the run of a folder, or begin one there.

    An earlier run is gone on with if it had the same `key`; otherwise its folder is emptied, and
    `note` names what differs.

    Parameters
    ----------
    folder : made if there is none
    key : all that the result depends on, as plain JSON values
    facts : decided once and kept (intensity, block sizes); of a run that is gone on with the stored
        ones hold. A function is called only when a run begins, other shards wait for it
    shard : which of how many processes that share the work, from 1; (1, 1) has the folder to itself
    may_empty : False: a folder with another key is refused

    Raises
    ------
    OutputError
        If another process works there, if the folder is not one of ours or must not be emptied (nothing is
        touched), or if the system refuses to write.
    InputError
        If there is no such shard.
    """
    folder, key = Path(folder), plain(key)
    if not 1 <= shard[0] <= shard[1]:
        raise InputError(f"shard {shard[0]} of {shard[1]}; expected a number from 1 to {shard[1]}")
    with _alone(folder) as lock:
        job = _look(folder)
        resumed = job is not None and is_same(job, key)
        _refuse_second_run(folder, shard, resumed)
        changes = "" if job is None or resumed else what_differs(job, key)
        if changes and not may_empty:
            raise OutputError(f"{folder} was begun {changes}; give what it was begun with, or delete it to start anew")
        note = f"{folder} was begun {changes}, so the run starts anew." if changes else ""
        if job is None or not resumed:
            job = _begin(folder, key, plain(facts() if callable(facts) else facts))
        journal = Journal(folder / _journal_name(shard))
    if lock is Lock.UNKNOWN:
        note = f"{note} The disk of {folder} has no locks: see to it that no second run uses it.".strip()
    return Unfinished(folder, job["facts"], resumed, note, journal, shard[1])


def check_targets(
    folder: str | Path, key: Mapping[str, Any], targets: Sequence[Target], overwrite: bool = False
) -> None:
    """Check that the result may be put where it belongs: before work is begun, or an old run is emptied.

    As `check_writable` for each final path, except those where an interrupted `Unfinished.publish`
    of the same run has put its part already. Parameters as `open_unfinished` and `publish`.

    Raises
    ------
    OutputError
        If something else is there (without `overwrite`), or a folder that must not be deleted.
    """
    folder = Path(folder)
    job = _look(folder)
    intended = read_intent(folder) if job is not None and is_same(job, plain(key)) else []
    for target in targets:
        if not is_moved(folder, target, intended):
            check_writable(target[1], overwrite)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[Lock]:
    """Hold the folder's lock, waiting for it; the folder is made if there is none, and goes if it stays empty."""
    try:
        file, lock = _lock_folder(folder)
    except OutputError:
        raise
    except OSError as error:
        raise explain_write_error(error, folder) from error
    try:
        yield lock
    finally:
        _remove_if_bare(folder)
        release_lock(file)
        os.close(file)
        if os.name == "nt":  # where an open file cannot be removed
            _remove_if_bare(folder)


def _lock_folder(folder: Path) -> tuple[int, Lock]:
    while True:
        _look(folder)  # before anything is put into a folder that is not ours
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue  # removed just now
        except FileExistsError:
            if folder.is_file() or folder.is_symlink():
                raise
            continue  # there when it was to be made, and removed just now
        try:
            lock = take_lock(file, wait=True)
            if os.path.samestat(os.fstat(file), os.stat(folder / LOCK)):
                return file, lock
        except FileNotFoundError:
            pass  # removed while we waited
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _look(folder: Path) -> dict[str, Any] | None:
    """What job.json holds; None if nothing, or only what a dead run of ours left, is there."""
    job = read_job(folder)
    # If there is a job.json by now, somebody began a run between the two looks.
    if job is None and (strange := _left(folder, *_OURS)) and not (folder / JOB).exists():
        raise OutputError(
            f"{folder} is not a folder of an unfinished run (it holds {strange[0]}), so it is left alone; "
            "move it away, or choose another output"
        )
    return job


def _refuse_second_run(folder: Path, shard: Shard, resumed: bool) -> None:
    """Raise OutputError if a process has the folder open that is no other shard of the same work."""
    index, count = shard
    others = {_journal_name((i, count)) for i in range(1, count + 1) if i != index} if resumed else set()
    for path in sorted(folder.glob(PATTERN)):
        if path.name not in others:
            refuse_if_open(path)


def _begin(folder: Path, key: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """Empty the folder and write job.json; killed in between, the rest is emptied by whoever comes next."""
    if _left(folder, LOCK):
        write_job(folder, None, None)
        put_back(folder)
        _remove_all_but(folder, LOCK, JOB)
        if left := _left(folder, LOCK, JOB):
            raise OutputError(f"{folder / left[0]} cannot be removed; delete {folder}, or choose another output")
    return write_job(folder, key, facts)


def _journal_name(shard: Shard) -> str:
    return f"journal-{shard[0]}-of-{shard[1]}.txt"


def _left(folder: Path, *known: str) -> list[str]:
    """Names in the folder that fit none of the patterns; none if there is no folder."""
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    return [name for name in names if not any(fnmatch.fnmatchcase(name, pattern) for pattern in known)]


def _remove_all_but(folder: Path, *known: str) -> None:
    for name in _left(folder, *known):
        remove(folder / name)


def _remove_if_bare(folder: Path) -> None:
    with contextlib.suppress(OSError):
        if os.listdir(folder) == [LOCK]:
            (folder / LOCK).unlink()
            folder.rmdir()
