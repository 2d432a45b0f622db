"""A server for one user of one computer: requests come through a loopback port and are worked off one at a time.

A file in a folder that only the user can read says the port and a secret; whoever can read it may ask. The secret
itself is never sent: each side proves that it has it. A message is a line of ASCII: the HMAC-SHA256, in hex, of what
the two sides drew for this connection, a line end and the message; a space; the message, JSON.

    client: what it drew, in hex
    server: {"drew": what the server drew}          signed with the client's
    client: {"arguments": [...]}                    signed with both, the client's first
    server: {"code": exit code, "said": stderr}     signed with both
"""

from __future__ import annotations

import hmac
import json
import os
import queue
import secrets
import socketserver
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cellscribble.core.errors import InputError
from cellscribble.engine.lock import Lock, take_lock
from cellscribble.io.atomic import atomic_path, remove, writing

MAX_LINE = 1 << 20
DRAWN_DIGITS = 32
HANDSHAKE_SECONDS = 30.0
"""Who connects and stays silent is let go after that."""

MOST_SECONDS_ASLEEP = 1.0
"""Python sees a signal that comes just before a wait begins only when the wait ends: SIGTERM was lost for minutes."""

Message = dict[str, Any]
Request = tuple[list[str], "Future[Message]"]
"""Arguments, and where the answer goes."""


def seal(secret: str, drawn: str, message: Message) -> bytes:
    """A message as the line that is sent."""
    text = json.dumps(message)
    return f"{_sign(secret, drawn, text)} {text}\n".encode()


def unseal(secret: str, drawn: str, line: bytes) -> Message:
    """The message of a line.

    Raises
    ------
    ValueError
        If the line is cut off, or not from one who has the secret.
    """
    signature, _, text = line.decode("ascii").partition(" ")
    text = text.removesuffix("\n")
    if not hmac.compare_digest(signature, _sign(secret, drawn, text)):
        raise ValueError("a message of somebody else")
    message: Message = json.loads(text)
    return message


def _sign(secret: str, drawn: str, text: str) -> str:
    return hmac.new(secret.encode(), f"{drawn}\n{text}".encode(), "sha256").hexdigest()


@contextmanager
def only_one(place: Path) -> Iterator[bool]:
    """Whether this process is the only server of `place` while the block runs.

    Raises
    ------
    InputError
        If the folder of `place` is another user's or open to others.
    OutputError
        If the folder cannot be made or written to.
    """
    with writing(place):
        _check_private(place.parent)
        file = os.open(place.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield take_lock(file) is not Lock.OTHERS
    finally:
        # The file stays: somebody else may have it open already to take the lock next.
        os.close(file)


def _check_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not hasattr(os, "getuid"):
        # On Windows a user's folder for temporary files is closed to others.
        return
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise InputError(
            f"{folder} is another user's or open to others, who could ask the server in your name; "
            "give a file in a folder that only you can read (chmod 700)"
        )


def serve(place: Path, work: Callable[[list[str]], Message], idle_seconds: float) -> None:
    """Answer requests until none has come for `idle_seconds`.

    Parameters
    ----------
    place : the file that says how to ask; it is gone at the end
    work : called with the arguments of one request at a time, in the thread of the caller; its answer is sent back

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    with _Server(secrets.token_hex(32)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        told = {"port": server.server_address[1], "secret": server.secret, "pid": os.getpid()}
        with atomic_path(place, overwrite=True) as temporary:
            _write_secretly(temporary, json.dumps(told))
        try:
            while (request := _next(server.requests, idle_seconds)) is not None:
                arguments, answer = request
                answer.set_result(work(arguments))
        finally:
            remove(place)
            server.shutdown()


def _next(requests: queue.Queue[Request], idle_seconds: float) -> Request | None:
    end = time.monotonic() + idle_seconds
    while (left := end - time.monotonic()) > 0:
        with suppress(queue.Empty):
            return requests.get(timeout=min(left, MOST_SECONDS_ASLEEP))
    return None


def _write_secretly(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


class _Server(socketserver.ThreadingTCPServer):
    """A thread for each connection: it listens, asks for the work to be done, and sends the answer."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, secret: str) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.secret = secret
        self.requests: queue.Queue[Request] = queue.Queue()


class _Connection(socketserver.StreamRequestHandler):
    server: _Server
    timeout = HANDSHAKE_SECONDS

    def handle(self) -> None:
        secret, own = self.server.secret, secrets.token_hex(DRAWN_DIGITS // 2)
        try:
            theirs = self.rfile.readline(MAX_LINE).decode("ascii").strip()
            if len(theirs) != DRAWN_DIGITS:
                # Of another length it could make a greeting pass for a request.
                return
            self.wfile.write(seal(secret, theirs, {"drew": own}))
            arguments = unseal(secret, theirs + own, self.rfile.readline(MAX_LINE))["arguments"]
            answer: Future[Message] = Future()
            self.server.requests.put((arguments, answer))
            self.wfile.write(seal(secret, theirs + own, answer.result()))
        except (OSError, ValueError):
            # A stranger, or a client that went away. It sees that the connection ends.
            return
