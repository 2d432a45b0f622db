"""Images behind a URL: https://, s3://, gs:// and whatever else fsspec knows.

A dropped connection is tried again for about half a minute. What then fails is no damage of the
image: it ends the run (`RemoteError`), and the same command goes on where it ended.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeGuard, TypeVar
from urllib.parse import urlsplit

from zarr.abc.store import ByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import FsspecStore, WrapperStore

from cellscribble.core.errors import MissingExtraError, RemoteError

WAITS_S = (1.0, 3.0, 8.0, 18.0)
"""Before the second try, the third ...; after the last one it is given up."""

TRY_S = 60.0
"""A server that says nothing for so long counts as gone."""

_URL = re.compile(r"[a-z][a-z0-9+.:-]+://")
_TRY_LATER = (408, 425, 429)

T = TypeVar("T")

_log = logging.getLogger(__name__)


def is_url(path: str | Path) -> TypeGuard[str]:
    """True for text such as "https://host/slide.zarr"; "C:/slide.zarr" is a path."""
    return isinstance(path, str) and _URL.match(path) is not None


def url_path(url: str) -> Path:
    """The path in a URL, for names and suffixes: "https://host/a/slide.zarr?v=1" -> "/a/slide.zarr"."""
    return Path(urlsplit(url).path.rstrip("/") or url.rsplit("://")[-1])


class Attempts:
    """What failed tries to reach `url` mean; the first is told."""

    def __init__(self, url: str) -> None:
        self._url, self._said = url, False

    def failed(self, error: Exception, wait: float | None) -> RemoteError | None:
        """What to raise, None where it is to be tried again after `wait` seconds; a `wait` of None is the end."""
        why = f"{type(error).__name__} {error}".strip()
        if not _may_pass(error):
            return RemoteError(f"{self._url} cannot be read ({why}); check the address and your access")
        if wait is None:
            return RemoteError(
                f"no connection to {self._url} ({why}); tried {len(WAITS_S) + 1} times in {sum(WAITS_S):g} s; "
                "type the same command again when it is back: a run of blocks goes on where it ended"
            )
        if not self._said:
            self._said = True
            _log.warning("the connection to %s dropped (%s); trying again", self._url, why)
        return None


class RetryingStore(WrapperStore[FsspecStore]):
    """A remote Zarr store that is asked again when the connection drops.

    Parameters
    ----------
    store : the store itself
    url : what the user called it
    """

    def __init__(self, store: FsspecStore, url: str) -> None:
        super().__init__(store)
        self.url = url
        self._attempts = Attempts(url)

    def _with_store(self, store: FsspecStore) -> RetryingStore:
        return RetryingStore(store, self.url)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """The bytes at `key`, or None if there is nothing. Raises RemoteError."""
        return _part(await self._try(lambda: self._store.get(key, prototype, byte_range)), byte_range)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """As `get`, for several."""
        wanted = list(key_ranges)
        found = await self._try(lambda: self._store.get_partial_values(prototype, wanted))
        return [_part(one, byte_range) for one, (_, byte_range) in zip(found, wanted, strict=True)]

    async def exists(self, key: str) -> bool:
        """Whether there is something at `key`. Raises RemoteError."""
        return await self._try(lambda: self._store.exists(key))

    async def _get_many(
        self, requests: Iterable[tuple[str, BufferPrototype, ByteRequest | None]]
    ) -> AsyncGenerator[tuple[str, Buffer | None], None]:
        for request in requests:
            yield request[0], await self.get(*request)

    async def _try(self, ask: Callable[[], Awaitable[T]]) -> T:
        for wait in (*WAITS_S, None):
            try:
                return await asyncio.wait_for(ask(), TRY_S)
            except Exception as error:
                end = self._attempts.failed(error, wait)
                if end is not None:
                    raise end from error
                await asyncio.sleep(wait or 0)
        raise AssertionError


def remote_store(url: str) -> RetryingStore:
    """The Zarr store at a URL, read only; nothing is read yet.

    Raises
    ------
    MissingExtraError
        If the package for this kind of URL is not installed.
    RemoteError
        If there is no such kind of URL.
    """
    try:
        return RetryingStore(FsspecStore.from_url(url, read_only=True), url)
    except ImportError as error:
        raise missing_package(url, error) from error
    except ValueError as error:
        raise RemoteError(f"{url} is no address ({error}); give one such as https://host/slide.zarr") from error


def missing_package(url: str, error: ImportError) -> MissingExtraError:
    """What to say where the package for a kind of URL is not installed."""
    return MissingExtraError(
        f"{url} needs a package that is not installed ({error}): pip install 'cellscribble[remote]', "
        "and for gs:// gcsfs besides"
    )


def _part(found: Buffer | None, byte_range: ByteRequest | None) -> Buffer | None:
    """What was asked for of what came: simple servers send the whole file when asked for a part of it."""
    if found is not None and isinstance(byte_range, RangeByteRequest):
        return found if len(found) <= byte_range.end - byte_range.start else found[byte_range.start : byte_range.end]
    if found is not None and isinstance(byte_range, SuffixByteRequest):
        return found[-byte_range.suffix :]
    return found


_BOTOCORE_CONNECTION = {("botocore.exceptions", name) for name in ("HTTPClientError", "ConnectionError")}


def _may_pass(error: Exception) -> bool:
    """Whether it may work a moment later."""
    status = getattr(error, "status", None)
    if isinstance(status, int) and 400 <= status < 500:
        return status in _TRY_LATER
    # aiohttp's and botocore's errors are not all OSErrors, and the packages are there only if they are used. What else
    # botocore raises, such as missing credentials, does not pass.
    kinds = {(kind.__module__, kind.__name__) for kind in type(error).__mro__}
    ours = type(error).__module__.startswith("aiohttp") or bool(kinds & _BOTOCORE_CONNECTION)
    return ours or (isinstance(error, OSError | TimeoutError) and not isinstance(error, PermissionError))
