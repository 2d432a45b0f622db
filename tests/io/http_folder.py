"""A folder behind a real HTTP server that can be made to fail."""

import http.server
import re
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path


class FolderServer:
    """`url` serves `folder`; with `ranges` parts of files too, as most servers.

    Connections are dropped for `drops` requests, or while `gone`; `asked` lists the requests.
    """

    def __init__(self, folder: Path):
        self.folder, self.lock, self.asked = folder, threading.Lock(), []
        self.drops, self.gone, self.ranges = 0, False, True
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, owner: FolderServer, *args):
        self.owner = owner
        super().__init__(*args, directory=str(owner.folder))

    def log_message(self, *args):
        pass

    def do_GET(self):
        with self.owner.lock:
            self.owner.asked.append(self.path)
            dropped = self.owner.gone or self.owner.drops > 0
            self.owner.drops -= dropped
        if dropped:
            self.close_connection = True
            return
        part = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "")) if self.owner.ranges else None
        path = Path(self.translate_path(self.path))
        if part is None or not path.is_file():
            super().do_GET()
            return
        data = path.read_bytes()
        if part[1]:
            start, stop = int(part[1]), int(part[2]) + 1 if part[2] else len(data)
        else:  # so many from the end
            start, stop = max(0, len(data) - int(part[2])), len(data)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{min(stop, len(data)) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data[start:stop])))
        self.end_headers()
        self.wfile.write(data[start:stop])


@contextmanager
def serve(folder: Path):
    server = FolderServer(folder)
    try:
        yield server
    finally:
        server.close()
