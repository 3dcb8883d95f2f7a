"""A real HTTP server on loopback that serves one file, well or badly, and writes down what it is asked."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LONGEST = 3.0  # seconds after which what has no end is broken off all the same, so that a test fails and does not hang


@dataclass
class Served:
    """What the server holds and how it misbehaves; after each request the next changes of `then` take effect."""

    content: bytes
    etag: str | None = '"first"'
    ranges: bool = True
    believes_if_range: bool = True
    resumes_at: int | None = None  # instead of where it is asked to
    cut: int | None = None  # the connection is closed after so many bytes of the body
    status: int | None = None  # answered instead of the file
    length: int | None = None  # announced instead of the true one
    chunked: bool = False
    headers: dict = field(default_factory=dict)  # of the answer that has the body
    redirect: str | None = None  # from every path but /store
    redirect_headers: dict = field(default_factory=dict)
    gate: threading.Event | None = None  # waited for in the middle of the body
    first: bytes = b""  # sent before `endless`
    endless: bytes | None = None  # sent again and again, in place of an answer, until the client hangs up
    creeps: float | None = None  # seconds after each byte of the body's second half, and of `endless`
    tunnel: object = None  # the SSLContext of the server that is reached by CONNECT, whatever its name
    then: list = field(default_factory=list)  # [{"content": …}, …]
    requests: list = field(default_factory=list)  # (path, headers)

    @property
    def ranges_asked(self) -> list:
        return [headers.get("Range") for _, headers in self.requests]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        served = replace(self.server.served)
        vars(self.server.served).update(served.then.pop(0) if served.then else {})
        served.requests.append((self.path, dict(self.headers)))
        self.close_connection = True
        if served.endless is not None:
            self._without_end(served)
        elif served.redirect is not None and self.path != "/store":
            self._head(302, {"Location": served.redirect, "Content-Length": "0", **served.redirect_headers})
        elif served.status is not None:
            self._head(served.status, {"Content-Length": "0", **served.headers})
        else:
            self._file(served)

    def _file(self, served: Served) -> None:
        start = self._start(served)
        body = served.content[start:]
        headers = {"Content-Length": str(len(body) if served.length is None else served.length), **served.headers}
        if served.etag:
            headers["ETag"] = served.etag
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(served.content) - 1}/{len(served.content)}"
        if served.chunked:
            del headers["Content-Length"]
            headers["Transfer-Encoding"] = "chunked"
        self._head(206 if start else 200, headers)
        body = body[: served.cut]
        if served.gate is not None or served.creeps is not None:
            self.wfile.write(body[: len(body) // 2])
            body = body[len(body) // 2 :]
        if served.gate is not None:
            served.gate.wait(30)
        if served.creeps is not None:
            self._creep(body, served.creeps)
            return
        self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if served.chunked else body)

    def _without_end(self, served: Served) -> None:
        self.wfile.write(served.first)
        end = time.monotonic() + LONGEST
        while time.monotonic() < end:
            self._creep(served.endless, served.creeps)

    def _creep(self, data: bytes, pause: float | None) -> None:
        end = time.monotonic() + LONGEST
        for at in range(len(data)) if pause else ():
            self.wfile.write(data[at : at + 1])
            time.sleep(pause)
            if time.monotonic() > end:
                break
        if not pause:
            self.wfile.write(data)

    def do_CONNECT(self):
        served = self.server.served
        served.requests.append((self.path, dict(self.headers)))
        self.close_connection = True
        if served.endless is not None:
            self._without_end(served)
            return
        self.send_response(200)
        self.end_headers()
        self.rfile.close()
        with served.tunnel.wrap_socket(self.connection, server_side=True) as self.request:
            self.setup()  # rfile and wfile are the tunnel's from here on
            self.handle_one_request()

    def _start(self, served: Served) -> int:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = not served.believes_if_range or self.headers.get("If-Range") in (None, served.etag)
        if not (asked and served.ranges and same):
            return 0
        return int(asked[1]) if served.resumes_at is None else served.resumes_at

    def _head(self, status: int, headers: dict) -> None:
        self.send_response(status)
        for name, value in {"Connection": "close", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that hangs up early is what some tests want."""


@contextlib.contextmanager
def serve(served: Served, tls=None):
    """The server's address; `tls` is an SSLContext that makes it https."""
    server = Server(("127.0.0.1", 0), Handler)
    server.served = served
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
