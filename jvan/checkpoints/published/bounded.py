"""Connections that end in time, whatever the other side sends, and that reach this machine only where they may.

A socket's timeout starts anew with each byte, and http.client reads on while it gets `100 Continue`.
"""

from __future__ import annotations

import functools
import http.client
import io
import socket
import time

from .addresses import is_local

TIMEOUT = 15.0  # seconds without a byte
HEAD = 60.0  # seconds for everything until an answer's headers are there: connections, TLS, redirects
WINDOW = 60.0  # seconds of waiting for the body after which its pace is looked at
SLOWEST = 1000  # bytes a second


class Broken(Exception):
    """The transfer broke; asking again may help."""


class Unusable(Exception):
    """This address does not give the file; asking again does not help."""


class Bounds:
    """What holds for all connections that one question needs.

    `direct`: no proxy lies between. `guarded`: this machine may not be reached. `local`: this machine answered last.
    """

    def __init__(self):
        self.direct, self.guarded, self.local = True, False, False
        self._until, self._late = time.monotonic() + HEAD, f"no answer within {HEAD:g} s"

    def next_piece(self) -> None:
        """The headers are there; from now on a piece of the body is waited for."""
        self._until, self._late = time.monotonic() + WINDOW, f"nothing of the file within {WINDOW:g} s"

    def left(self) -> float:
        """Seconds until the next byte must be there; TimeoutError where the time is over."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError(self._late)
        return min(TIMEOUT, left)

    def connect(self, address, *_) -> socket.socket:
        """As socket.create_connection, but all addresses of a name share the time; Unusable for a guarded machine."""
        failed = [OSError("the name has no address")]
        for family, kind, protocol, _, place in socket.getaddrinfo(*address, 0, socket.SOCK_STREAM):
            local = self.direct and is_local(place[0])
            if local and self.guarded:
                raise Unusable(f"refused: it redirects to {address[0]}, which is this machine")
            try:
                connection = self._connected(socket.socket(family, kind, protocol), place)
            except OSError as error:
                failed = [error]
                continue
            self.local = self.local or local
            return connection
        raise failed.pop()  # a variable that held it would make a circle

    def _connected(self, connection: socket.socket, place) -> socket.socket:
        try:
            connection.settimeout(self.left())
            connection.connect(place)
            connection.settimeout(self.left())  # which a TLS handshake is given as a whole
            return connection
        except BaseException:
            connection.close()
            raise


class Pace:
    """How fast a body comes; only the waiting counts, not what a slow disk takes."""

    def __init__(self):
        self.seconds, self.bytes = 0.0, 0

    def add(self, seconds: float, count: int) -> None:
        self.seconds, self.bytes = self.seconds + seconds, self.bytes + count

    def check(self) -> None:
        """Broken where less than SLOWEST came over the last WINDOW."""
        if self.seconds < WINDOW:
            return
        if self.bytes < SLOWEST * self.seconds:
            raise Broken(f"{self.bytes} bytes in {self.seconds:.0f} s are too few")
        self.seconds, self.bytes = 0.0, 0


class _Stream(io.RawIOBase):
    """What comes over a connection, none of it later than `bounds` says."""

    def __init__(self, raw: io.RawIOBase, connection: socket.socket, bounds: Bounds):
        self._raw, self._connection, self._bounds = raw, connection, bounds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        self._connection.settimeout(self._bounds.left())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, connection, *args, bounds: Bounds, **kwargs):
        super().__init__(connection, *args, **kwargs)
        self.fp = io.BufferedReader(_Stream(self.fp.detach(), connection, bounds))


class _Bounded:
    def __init__(self, *args, bounds: Bounds, **kwargs):
        super().__init__(*args, **kwargs)
        self._create_connection = bounds.connect  # where http.client looks for socket.create_connection
        self.response_class = functools.partial(_Response, bounds=bounds)


class Plain(_Bounded, http.client.HTTPConnection):
    """http, also a proxy's."""


class Secure(_Bounded, http.client.HTTPSConnection):
    """https, also through a proxy's tunnel."""
