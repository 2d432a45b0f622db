"""An exclusive lock on an open file that vanishes with the process, however that ends.

A process started by fork shares the locks of its parent: they last until both have ended, which is
right, since both may still write.
"""

from __future__ import annotations

import enum
import errno
import os
import sys

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)


class Lock(enum.Enum):
    """What came of asking for a lock."""

    OURS = "ours"
    OTHERS = "others"
    """Another process has it, or this one through another opening of the file."""
    UNKNOWN = "unknown"
    """The disk has no locks (some network disks)."""


def take_lock(file: int, wait: bool = False) -> Lock:
    """Lock an open file descriptor, if `wait` as soon as nobody else has it.

    Raises
    ------
    OSError
        If the system refuses for another reason than that the lock is taken or unknown.
    """
    try:
        return Lock.OURS if _take(file, wait) else Lock.OTHERS
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return Lock.UNKNOWN
        raise


if sys.platform == "win32":
    import msvcrt

    # Nobody else can read a locked byte there, so it is one far behind the end of the file; the
    # call knows no farther one.
    _BYTE = (1 << 31) - 2

    def _take(file: int, wait: bool) -> bool:
        while True:
            os.lseek(file, _BYTE, os.SEEK_SET)
            try:
                msvcrt.locking(file, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
                return True
            except OSError as error:
                # LK_LOCK gives up after ten seconds.
                if error.errno not in (errno.EACCES, errno.EDEADLK):
                    raise
                if not wait:
                    return False

    def release_lock(file: int) -> None:
        """Give the lock of `take_lock` back; without one nothing happens."""
        os.lseek(file, _BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_UNLCK, 1)
        except OSError:
            return

else:
    import fcntl

    def _take(file: int, wait: bool) -> bool:
        # Not lockf: its locks are lost as soon as the process closes any other opening of the file.
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    def release_lock(file: int) -> None:
        """Give the lock of `take_lock` back; without one nothing happens."""
        try:
            fcntl.flock(file, fcntl.LOCK_UN)
        except OSError:
            return
