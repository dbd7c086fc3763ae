"""A web server on loopback that misbehaves as it is told, for the tests of downloads."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Fault:
    """What goes wrong with one answer.

    Attributes:
        status: answer this instead of the file, with `headers`.
        cut: close the connection after so many bytes of the body.
        pause: seconds of silence in the middle of the body.
        endless: send bytes without a length until the other side hangs up.
    """

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    pause: float = 0.0
    endless: bool = False


class Server:
    """Serves `files` (path -> bytes); every GET takes the next of `faults`, if there is one.

    Attributes:
        every: faults that every file has, one after the other, before it is well.
        ranges: whether Range is obeyed.
        lengths: whether Content-Length is sent.
        slow: seconds of silence in the middle of every body.
        slow_heads: seconds before a HEAD is answered.
        requests: (method, path, value of Range) of every request.
        sent: bytes of bodies sent.
    """

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self.files = files or {}
        self.faults: deque[Fault] = deque()
        self.every: list[Fault] = []
        self.ranges, self.lengths = True, True
        self.slow, self.slow_heads = 0.0, 0.0
        self.requests: list[tuple[str, str, str]] = []
        self.sent = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.answer(self)

            def do_HEAD(self) -> None:
                server.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.handle_error = lambda *_: None  # type: ignore[method-assign]  # the other side has hung up
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}"

    @property
    def gets(self) -> list[str]:
        """Ranges asked for, in order."""
        return [wanted for method, _, wanted in self.requests if method == "GET"]

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    def answer(self, to: BaseHTTPRequestHandler) -> None:
        wanted = to.headers.get("Range", "")
        self.requests.append((to.command, to.path, wanted))
        fault = self.faults.popleft() if to.command == "GET" and self.faults else Fault()
        before = sum(request[:2] == ("GET", to.path) for request in self.requests) - 1
        if to.command == "GET" and before < len(self.every):
            fault = self.every[before]
        body = self.files.get(to.path)
        time.sleep(self.slow_heads if to.command == "HEAD" else 0.0)
        if fault.endless:
            self._send_endless(to)
            return
        if fault.status or body is None:
            to.send_response(fault.status or 404)
            for name, value in {"Content-Length": "0", **fault.headers}.items():
                to.send_header(name, value)
            to.end_headers()
            return
        begin = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.ranges else None
        if begin is not None and begin >= len(body):
            to.send_response(416)
            to.send_header("Content-Range", f"bytes */{len(body)}")
            to.send_header("Content-Length", "0")
            to.end_headers()
            return
        self._send(to, body, begin, fault)

    def _send_endless(self, to: BaseHTTPRequestHandler) -> None:
        to.send_response(200)
        to.send_header("Transfer-Encoding", "chunked")
        to.end_headers()
        to.close_connection = True
        with contextlib.suppress(OSError):
            while True:
                to.wfile.write(b"%x\r\n%b\r\n" % (100_000, bytes(100_000)))

    def _send(self, to: BaseHTTPRequestHandler, body: bytes, begin: int | None, fault: Fault) -> None:
        to.send_response(200 if begin is None else 206)
        if begin is not None:
            to.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        rest = body[begin or 0 :]
        if self.lengths:
            to.send_header("Content-Length", str(len(rest)))
        else:
            to.send_header("Connection", "close")
        for name, value in fault.headers.items():
            to.send_header(name, value)
        to.end_headers()
        if to.command == "HEAD":
            return
        rest = rest[: fault.cut] if fault.cut is not None else rest
        half = len(rest) // 2
        for piece in (rest[:half], rest[half:]):
            try:
                to.wfile.write(piece)
            except OSError:  # the other side has hung up
                return
            self.sent += len(piece)
            time.sleep(fault.pause or self.slow)
        if fault.cut is not None or not self.lengths:
            to.close_connection = True
