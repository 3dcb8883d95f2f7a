"""One GET over HTTP(S) with rules of our own: TLS always verified, no downgrade, redirects bounded, nothing but http.

urllib does the work and honours http_proxy, https_proxy and no_proxy.
"""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

TIMEOUT = 15.0  # seconds without a byte
MOST_REDIRECTS = 10
REDIRECTS = (301, 302, 303, 307, 308)
PASSING = (408, 425, 429, 500, 502, 503, 504)


class Broken(Exception):
    """The transfer broke; asking again may help."""


class Unusable(Exception):
    """This address does not give the file; asking again does not help."""


@dataclass
class Reply:
    """An answer whose body is still to be read.

    `sha256` and `size` are what the Hugging Face hub says of the file before it redirects to a store
    (X-Linked-Etag and X-Linked-Size); None where it does not.
    """

    raw: http.client.HTTPResponse
    status: int
    sha256: str | None = None
    size: int | None = None

    def header(self, name: str) -> str | None:
        return self.raw.headers.get(name)

    def read(self, most: int) -> bytes:
        """Some of the body, at most `most` bytes, b"" at its end; Broken where the connection breaks."""
        try:
            return self.raw.read1(most)
        except (OSError, http.client.HTTPException) as error:
            raise Broken(_reason(error)) from None

    def close(self) -> None:
        self.raw.close()


def open_url(url: str, headers: dict[str, str]) -> Reply:
    """GET `url`, which the caller trusts, through its redirects; the status is 200, 206 or 416.

    Broken or Unusable for every other outcome.
    """
    opener = _opener()
    sha256 = size = None
    for _ in range(MOST_REDIRECTS + 1):
        raw = _request(opener, url, headers)
        sha256 = sha256 or _linked_sha256(raw)
        size = size if size is not None else to_int(raw.headers.get("X-Linked-Size"))
        location = raw.headers.get("Location")
        if raw.status not in REDIRECTS or not location:
            return _checked(Reply(raw, raw.status, sha256, size))
        raw.close()
        url = _next_hop(url, location.strip())
    raise Unusable(f"more than {MOST_REDIRECTS} redirects")


def to_int(text: str | None) -> int | None:
    """A header's non-negative decimal number, or None."""
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,18}", text.strip()) else None


def _opener() -> urllib.request.OpenerDirector:
    # Assembled by hand: build_opener would add file:, ftp: and data:, and the default TLS context is the one that
    # Jittor replaces, for the whole process, by one that verifies nothing (jittor_utils sets ssl._create_default_…).
    opener = urllib.request.OpenerDirector()
    tls = ssl.create_default_context()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=tls),
    ):
        opener.add_handler(handler)
    return opener


def _request(opener, url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    _check_proxy(url)
    headers = {"User-Agent": "jvan", "Accept-Encoding": "identity", **headers}
    try:
        return opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except (http.client.InvalidURL, UnicodeError) as error:
        raise Unusable(_reason(error)) from None
    except urllib.error.URLError as error:
        final = (socket.gaierror, ConnectionRefusedError, ssl.SSLCertVerificationError)
        reason = error.reason
        hopeless = not isinstance(reason, OSError) or isinstance(reason, final) or "Tunnel" in str(reason)
        raise (Unusable if hopeless else Broken)(_reason(reason)) from None
    except (OSError, http.client.HTTPException) as error:
        raise Broken(_reason(error)) from None
    except (ValueError, OverflowError) as error:  # OverflowError: a port above 65535
        raise Unusable(_reason(error)) from None


def _check_proxy(url: str) -> None:
    # urllib would speak HTTP to a SOCKS proxy and report whatever comes of that.
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme, "")
    kind = urlsplit(proxy).scheme if "://" in proxy else "http"
    if kind not in ("http", "https") and not urllib.request.proxy_bypass(parts.hostname or ""):
        raise Unusable(
            f"the environment's {parts.scheme}_proxy is a {kind} proxy, which is not supported; name an http one"
        )


def _checked(reply: Reply) -> Reply:
    encoding = reply.header("Content-Encoding") or "identity"
    if reply.status in (200, 206, 416) and encoding.lower() == "identity":
        return reply
    reply.close()
    if reply.status in (200, 206, 416):
        raise Unusable(f"the server sends the file encoded as {encoding!r}, though asked not to")
    kind = Broken if reply.status in PASSING else Unusable
    raise kind(f"HTTP {reply.status} {http.client.responses.get(reply.status, '')}".rstrip())


def _next_hop(url: str, location: str) -> str:
    try:
        target = urljoin(url, location)
        here, there = urlsplit(url), urlsplit(target)
    except ValueError:
        raise Unusable(f"it redirects to {location[:200]!r}, which is no address") from None
    # Plain http is only ever the user's own choice of a mirror, so it may go on to itself and to this machine.
    same = here.scheme == "http" and (here.hostname == there.hostname or _is_loopback(there.hostname))
    if there.scheme == "https" or (there.scheme == "http" and same):
        return target
    raise Unusable(f"refused: it redirects from {here.scheme}://{here.hostname} to {target[:200]!r}")


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _linked_sha256(raw) -> str | None:
    # For a file that git keeps without LFS the hub puts git's SHA-1 there, 40 digits, which is no hash of the bytes.
    etag = (raw.headers.get("X-Linked-Etag") or "").strip().strip('"').lower()
    return etag if re.fullmatch(r"[0-9a-f]{64}", etag) else None


def _reason(error) -> str:
    text = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
    return text[:300]
