"""A single file behind a URL, read in pieces where it is asked for: what TIFFs need."""

from __future__ import annotations

import hashlib
import io
import threading
import time
from collections import OrderedDict
from typing import Any

from cellscribble.core.errors import InputError, RemoteError
from cellscribble.io.remote import TRY_S, WAITS_S, Attempts, missing_package

PIECE = 256 << 10
"""Bytes asked for at once: several tiles of a slide, or the heads of many."""

KEPT_PIECES = 32
"""8 MB: some rows of tiles, so that neighbours are not fetched again."""


class RemoteFile(io.RawIOBase):
    """The file at a URL: reads, seeks, keeps a few pieces. Thread-safe but for its position.

    Raises
    ------
    MissingExtraError
        If the package for this kind of URL is not installed.
    InputError
        If nothing is there.
    RemoteError
        If there is no answer, or the server does not send parts of files.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self.name = url
        self._attempts = Attempts(url)
        self._at, self._lock = 0, threading.Lock()
        self._pieces: OrderedDict[int, bytes] = OrderedDict()
        try:
            import fsspec

            self._system, self._path = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise missing_package(url, error) from error
        except ValueError as error:
            raise RemoteError(f"{url} is no address ({error}); give one such as https://host/slide.tif") from error
        found = self._ask("info")
        if not isinstance(found.get("size"), int):
            raise RemoteError(f"{url}: the server does not say how large it is; download the file")
        self.size = int(found["size"])
        told = {key: str(found.get(key)) for key in ("size", "ETag", "LastModified", "last_modified", "mtime", "etag")}
        self.state = hashlib.sha256(repr(sorted(told.items())).encode()).hexdigest()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        start, stop = self._at, min(self._at + len(view), self.size)
        while self._at < stop:
            first = self._at // PIECE
            part = self._piece(first)[self._at - first * PIECE : stop - first * PIECE]
            view[self._at - start : self._at - start + len(part)] = part
            self._at += len(part)
        return max(0, stop - start)

    def _piece(self, k: int) -> bytes:
        with self._lock:
            if k in self._pieces:
                self._pieces.move_to_end(k)
                return self._pieces[k]
        start, stop = k * PIECE, min((k + 1) * PIECE, self.size)
        found: bytes = self._ask("cat_file", start=start, end=stop)
        if len(found) > stop - start:
            raise RemoteError(f"{self.name}: the server sends whole files only, no parts of them; download the file")
        with self._lock:
            self._pieces[k] = found
            while len(self._pieces) > KEPT_PIECES:
                self._pieces.popitem(last=False)
        return found

    def _ask(self, what: str, **how: int) -> Any:
        for wait in (*WAITS_S, None):
            try:
                found = self._once(what, **how)
                if what == "cat_file" and len(found) < how["end"] - how["start"]:
                    raise OSError(f"{len(found)} bytes came of {how['end'] - how['start']}")
                return found
            except FileNotFoundError as error:
                raise InputError(f"no image at {self.name}; check the address") from error
            except Exception as error:
                end = self._attempts.failed(error, wait)
                if end is not None:
                    raise end from error
                time.sleep(wait or 0)
        raise AssertionError

    def _once(self, what: str, **how: int) -> Any:
        if not self._system.async_impl:
            return getattr(self._system, what)(self._path, **how)
        from fsspec.asyn import sync

        return sync(self._system.loop, getattr(self._system, f"_{what}"), self._path, timeout=TRY_S, **how)


def remote_state(url: str) -> str:
    """What tells that the file at a URL is another one now. Raises as `RemoteFile`."""
    return RemoteFile(url).state
