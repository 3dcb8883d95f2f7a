"""Servers that never come to an end: each is left in time, and what they sent of the file is gone on with."""

from __future__ import annotations

import itertools
import os
import socket
import socketserver
import threading
import time
from types import SimpleNamespace

import pytest

from jvan.checkpoints.published import bounded as _bounded
from jvan.checkpoints.published import download
from jvan.checkpoints.published.weights_cache import obtain

from .download_help import CONTENT, entry, fails, quick_and_clean


@pytest.fixture(autouse=True)
def _environment(monkeypatch, tmp_path):
    quick_and_clean(monkeypatch, tmp_path / "cache")
    monkeypatch.setattr(download, "FRUITLESS", 2)


@pytest.fixture
def soon(monkeypatch):
    """The headers must be there at once."""
    monkeypatch.setattr(_bounded, "HEAD", 0.1)


@pytest.fixture
def impatient(monkeypatch):
    """The body is looked at soon."""
    monkeypatch.setattr(_bounded, "WINDOW", 0.2)


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LATE = r"(no answer within 0.1 s|timed out) \(2 attempts\)"


@pytest.mark.parametrize(
    ("first", "endless", "pause"),
    [
        (b"", CONTINUE, None),
        (b"", CONTINUE, 0.01),
        (b"", b"H", 0.01),
        (b"HTTP/1.1 200 OK\r\n", b"X", 0.01),
    ],
    ids=["continue without end", "continue, a byte at a time", "a status line", "headers"],
)
def test_headers_that_do_not_come_to_an_end(start, soon, first, endless, pause):
    served = start(first=first, endless=endless, creeps=pause)
    fails(LATE)
    assert served.requests


def test_a_proxys_answer_that_does_not_come_to_an_end(start, soon, monkeypatch):
    served = start(endless=b"X", creeps=0.01)
    monkeypatch.setenv("https_proxy", os.environ["HF_ENDPOINT"])
    monkeypatch.delenv("HF_ENDPOINT")
    fails(LATE)
    assert served.requests


class Creeping(socketserver.BaseRequestHandler):
    """A TLS server's answer, a byte at a time."""

    def handle(self):
        self.server.asked += 1
        try:
            self.request.recv(4096)
            for byte in b"\x16\x03\x03\x40\x00\x02" + bytes(300):
                self.request.sendall(bytes([byte]))
                time.sleep(0.01)
        except OSError:
            pass


def test_a_tls_handshake_that_does_not_come_to_an_end(soon, monkeypatch):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Creeping) as server:
        server.daemon_threads, server.asked = True, 0
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"https://127.0.0.1:{server.server_address[1]}")
        fails(LATE.replace("timed out", ".*timed out"))
        assert server.asked
        server.shutdown()


def test_many_addresses_share_the_time(monkeypatch, soon):
    clock = itertools.count()
    monkeypatch.setattr(_bounded, "time", SimpleNamespace(monotonic=lambda: 0.01 * next(clock)))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound but not listening: it refuses
        places = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", closed.getsockname())] * 20
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: places)
        with pytest.raises(TimeoutError, match=r"no answer within 0\.1 s"):
            _bounded.Bounds().connect(("mirror.invalid", 1))


def test_a_silent_server_is_given_up(monkeypatch):
    monkeypatch.setattr(_bounded, "TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        fails(r"timed out \(2 attempts\)")


def test_a_body_that_creeps_is_a_broken_connection(start, impatient):
    start(first=b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n", endless=b"x", creeps=0.01)
    fails(r"([0-9]+ bytes in [0-9]+ s are too few|nothing of the file within 0.2 s) \(2 attempts\)")


def test_and_is_resumed_as_others_are(start, impatient):
    served = start(creeps=0.01, then=[{"creeps": None}])
    assert obtain(entry()).read_bytes() == CONTENT
    assert int(served.ranges_asked[1][6:-1]) >= len(CONTENT) // 2


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("first", "endless", "pause"),
    [(CHUNKED, b"0", 0.01), (CHUNKED + b"1\r\nX\r\n0\r\n", b"X: trailer\r\n", None)],
    ids=["a chunk's length", "trailers"],
)
def test_chunks_that_do_not_come_to_an_end(start, impatient, first, endless, pause):
    start(first=first, endless=endless, creeps=pause)
    fails(r"(nothing of the file within 0.2 s|timed out) \(2 attempts\)", of=entry(size=None, sha256=None))


def test_a_fast_body_is_not_broken_off():
    pace = _bounded.Pace()
    for _ in range(100):
        pace.add(1.0, 1001)
        pace.check()
    for _ in range(61):
        pace.add(1.0, 999)
    with pytest.raises(_bounded.Broken, match=r"bytes in [0-9]+ s are too few"):
        pace.check()
