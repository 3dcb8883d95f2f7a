"""One GET over HTTP(S) with rules of our own: TLS always verified, no downgrade, redirects bounded, nothing but http.

urllib does the work and honours http_proxy, https_proxy and no_proxy.
"""

from __future__ import annotations

import functools
import http.client
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

from ..._text import printable
from .addresses import Address, is_hub, is_local, origin_of
from .bounded import Bounds, Broken, Pace, Plain, Secure, Unusable

MOST_REDIRECTS = 10
REDIRECTS = (301, 302, 303, 307, 308)
PASSING = (408, 425, 429, 500, 502, 503, 504)


@dataclass
class Reply:
    """An answer whose body is still to be read.

    `sha256` and `size` are what the Hugging Face hub itself says of the file before it redirects to a store
    (X-Linked-Etag and X-Linked-Size); None where it does not, and for everybody else.
    """

    raw: http.client.HTTPResponse
    bounds: Bounds
    sha256: str | None = None
    size: int | None = None
    pace: Pace = field(default_factory=Pace)

    @property
    def status(self) -> int:
        return self.raw.status

    def header(self, name: str) -> str | None:
        return self.raw.headers.get(name)

    def read(self, most: int) -> bytes:
        """Some of the body, at most `most` bytes, b"" at its end; Broken where the connection breaks or creeps."""
        self.pace.check()
        began = time.monotonic()
        self.bounds.next_piece()
        try:
            data = self.raw.read1(most)
        except (OSError, http.client.HTTPException) as error:
            raise Broken(_reason(error)) from None
        self.pace.add(time.monotonic() - began, len(data))
        return data

    def close(self) -> None:
        self.raw.close()


def open_url(address: Address, headers: dict[str, str]) -> Reply:
    """GET an address, which the caller trusts, through its redirects; the status is 200, 206 or 416.

    Broken or Unusable for every other outcome.
    """
    # Made here: urllib's own context is the one that Jittor replaces, for the whole process, by one that verifies nothing
    # (jittor_utils sets ssl._create_default_https_context).
    tls = ssl.create_default_context()
    bounds, url = Bounds(), address.url
    opener = _opener(bounds, tls)
    for hop in range(MOST_REDIRECTS + 1):
        raw = _request(opener, url, {**headers, **address.credentials_for(url)}, bounds)
        if hop == 0:
            believed = is_hub(url)
            sha256 = _linked_sha256(raw) if believed else None
            size = to_int(raw.headers.get("X-Linked-Size")) if believed else None
        location = raw.headers.get("Location")
        if raw.status not in REDIRECTS or not location:
            return _checked(Reply(raw, bounds, sha256, size))
        raw.close()
        url = _next_hop(url, location.strip(), bounds.local)
        bounds.guarded = not bounds.local
    raise Unusable(f"more than {MOST_REDIRECTS} redirects")


def to_int(text: str | None) -> int | None:
    """A header's non-negative decimal number, or None."""
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,18}", text.strip()) else None


class _Handler(urllib.request.AbstractHTTPHandler):
    def __init__(self, bounds: Bounds, tls: ssl.SSLContext):
        super().__init__()
        self._plain = functools.partial(Plain, bounds=bounds)
        self._secure = functools.partial(Secure, bounds=bounds, context=tls)

    def http_open(self, request):
        return self.do_open(self._plain, request)

    def https_open(self, request):
        return self.do_open(self._secure, request)

    http_request = https_request = urllib.request.AbstractHTTPHandler.do_request_


def _opener(bounds: Bounds, tls: ssl.SSLContext) -> urllib.request.OpenerDirector:
    # Assembled by hand: build_opener would add file:, ftp: and data:.
    opener = urllib.request.OpenerDirector()
    for handler in (urllib.request.ProxyHandler(), _Handler(bounds, tls)):
        opener.add_handler(handler)
    return opener


def _request(opener, url: str, headers: dict[str, str], bounds: Bounds) -> http.client.HTTPResponse:
    bounds.direct = not _proxied(url)
    bounds.local = is_local(urlsplit(url).hostname or "")
    headers = {"User-Agent": "jvan", "Accept-Encoding": "identity", **headers}
    try:
        return opener.open(urllib.request.Request(url, headers=headers), timeout=bounds.left())
    except (http.client.InvalidURL, UnicodeError, ValueError, OverflowError):
        # Python's words repeat the address or the proxy, with a password if it has one.
        raise Unusable("the address, or the proxy that the environment names for it, is malformed") from None
    except urllib.error.URLError as error:
        # No variable may hold its reason: before Python 3.11 that makes a circle which keeps a proxy's socket open.
        raise _unreachable(error.reason) from None
    except (OSError, http.client.HTTPException) as error:
        raise Broken(_reason(error)) from None


def _unreachable(reason) -> Exception:
    final = (socket.gaierror, ConnectionRefusedError, ssl.SSLCertVerificationError)
    # http.client's own for a proxy that refuses the way through: all others are of subclasses, or have a number
    refused = type(reason) is OSError and reason.errno is None
    hopeless = not isinstance(reason, OSError) or isinstance(reason, final) or refused
    return (Unusable if hopeless else Broken)(_reason(reason))


def _proxied(url: str) -> bool:
    """Whether the environment has a proxy for this address; Unusable where it is of a kind that urllib does not speak."""
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme, "")
    if not proxy or urllib.request.proxy_bypass(parts.netloc):
        return False
    kind = urlsplit(proxy).scheme if "://" in proxy else "http"
    if kind not in ("http", "https"):
        # urllib would speak HTTP to a SOCKS proxy and report whatever comes of that.
        raise Unusable(
            f"the environment's {parts.scheme}_proxy is a {printable(kind)} proxy, which is not supported; name an http one"
        )
    return True


def _checked(reply: Reply) -> Reply:
    encoding = reply.header("Content-Encoding") or "identity"
    if reply.status in (200, 206, 416) and encoding.lower() == "identity":
        return reply
    reply.close()
    if reply.status in (200, 206, 416):
        raise Unusable(f"the server sends the file encoded as {encoding!r}, though asked not to")
    kind = Broken if reply.status in PASSING else Unusable
    raise kind(f"HTTP {reply.status} {http.client.responses.get(reply.status, '')}".rstrip())


def _next_hop(url: str, location: str, from_here: bool) -> str:
    """Where a redirect leads, or Unusable; `from_here`: this machine sent it. Shown is no more than scheme, host and port."""
    try:
        target = urljoin(url, location)
        here, there = urlsplit(url), urlsplit(target)
        port = there.port  # a ValueError for none between 0 and 65535
    except ValueError:
        port = -1
    if port == -1 or not re.fullmatch("[!-~]+", target) or "@" in there.netloc:
        raise Unusable(f"{origin_of(url)} redirects to what is no address")
    local = is_local(there.hostname or "")
    # Plain http is only ever the user's own choice of a mirror, so it may go on to itself, and on this machine.
    same = here.scheme == "http" and (here.hostname == there.hostname or (from_here and local))
    if (there.scheme == "https" or (there.scheme == "http" and same)) and (from_here or not local):
        return target
    raise Unusable(f"refused: it redirects from {origin_of(url)} to {origin_of(target)}")


def _linked_sha256(raw) -> str | None:
    # For a file that git keeps without LFS the hub puts git's SHA-1 there, 40 digits, which is no hash of the bytes.
    etag = (raw.headers.get("X-Linked-Etag") or "").strip().strip('"').lower()
    return etag if re.fullmatch(r"[0-9a-f]{64}", etag) else None


def _reason(error) -> str:
    text = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
    return printable(text, 300)
