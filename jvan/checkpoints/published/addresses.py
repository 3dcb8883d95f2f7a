"""Addresses of published files: the hub's, its mirrors', this machine's, and how they are shown without anybody's secrets."""

from __future__ import annotations

import base64
import ipaddress
import os
import re
import socket
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from ..._text import printable
from ...errors import DownloadError
from .catalogue import Entry

HUB = "https://huggingface.co/"
_MIRROR = re.compile(
    r"(?P<scheme>https?)://((?P<user>[^\s/?#@]+)@)?"
    r"(?P<host>(\[[0-9a-fA-F:]+\]|[^\x00-\x20\x7f-\xa0\s/?#@:\[\]]+)(:[0-9]+)?)"
    r"(?P<path>(/[!-~]*)?)"
)


@dataclass(frozen=True)
class Address:
    """Where a file is asked for. `shown` is for messages: `url` may hold a mirror's token in its path.

    `authorization` is the header with HF_ENDPOINT's user and password, if it has them.
    """

    url: str
    shown: str
    authorization: str | None = None

    def credentials_for(self, url: str) -> dict[str, str]:
        """The header that `url`, to which this address may have redirected, is sent: it stays with scheme, host and port."""
        known = self.authorization is not None and origin_of(url) == origin_of(self.url)
        return {"Authorization": self.authorization} if known else {}


def addresses_of(entry: Entry) -> list[Address]:
    """The entry's addresses in order, the hub's replaced by the mirror that HF_ENDPOINT names.

    DownloadError where HF_ENDPOINT is no address, or would send a password that everybody on the way can read.
    """
    mirror = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/")
    if not mirror:
        return [Address(url, url) for url in entry.urls]
    base = _mirror(mirror)
    return [_below(base, url[len(HUB) :]) if url.startswith(HUB) else Address(url, url) for url in entry.urls]


def _below(mirror: Address, path: str) -> Address:
    return Address(f"{mirror.url}/{path}", f"{mirror.shown}/{path}", mirror.authorization)


def _mirror(text: str) -> Address:
    parts = _MIRROR.fullmatch(text)
    host = _host(f"{parts['scheme']}://{parts['host']}") if parts else None
    if host is None or any(mark in parts["path"] for mark in "?#"):
        raise DownloadError(
            f"HF_ENDPOINT must be an address such as {HUB.rstrip('/')}, without blanks and without a query; "
            "what it is now is not shown, since it may hold a password"
        )
    origin = f"{parts['scheme']}://{parts['host']}"
    if parts["user"] and parts["scheme"] == "http" and not is_local(host):
        raise DownloadError(f"HF_ENDPOINT has a password, and {origin} would be sent it unencrypted; use https")
    return Address(origin + parts["path"], origin + ("/…" if parts["path"] else ""), _basic(parts["user"]))


def _host(origin: str) -> str | None:
    try:
        parts = urlsplit(origin)
        return parts.hostname if parts.port != 0 else None  # a ValueError for a port above 65535
    except ValueError:
        return None


def _basic(user: str | None) -> str | None:
    if not user:
        return None
    name, _, password = user.partition(":")
    return "Basic " + base64.b64encode(f"{unquote(name)}:{unquote(password)}".encode()).decode("ascii")


def is_hub(url: str) -> bool:
    """Whether this is the hub itself, over https: what it says of a file's hash and size is believed."""
    parts = urlsplit(url)
    return parts.scheme == "https" and parts.netloc.lower() in ("huggingface.co", "huggingface.co:443")


def is_local(host: str) -> bool:
    """Whether a host means this machine, in any spelling that a resolver takes without asking anybody."""
    name = unquote(host).strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        number = ipaddress.ip_address(name.partition("%")[0])  # without an IPv6 address's zone
    except ValueError:
        try:
            number = ipaddress.ip_address(socket.inet_aton(name))  # 127.1, 0x7f000001, 2130706433
        except (OSError, ValueError):
            return False
    number = getattr(number, "ipv4_mapped", None) or number
    return number.is_loopback or number.is_unspecified  # a connection to 0.0.0.0 reaches this machine


def origin_of(url: str) -> str:
    """Scheme, host and port: what is shown of an address that is not public."""
    parts = urlsplit(url)
    return printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}", 200)
