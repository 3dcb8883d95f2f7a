"""Bring one file over HTTP(S) into a .part file: resumed, retried, bounded, never more than was announced."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import time
from dataclasses import dataclass

from ..._say import bar, say
from ...errors import DownloadError
from .addresses import Address
from .http import Broken, Reply, Unusable, open_url, to_int
from .part import Partial

FRUITLESS = 4  # attempts in a row that brought next to nothing
FRUITFUL = 1 << 16  # bytes, about the least that a bearable connection brings in a minute
MOST_ATTEMPTS = 60
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0  # seconds between attempts
CHUNK = 1 << 20


@dataclass(frozen=True)
class Wanted:
    """What is known of a file before it is asked for: exact size and sha256 or None, and a bound on its size."""

    size: int | None
    sha256: str | None
    largest: int


def download(address: Address, part: Partial, wanted: Wanted) -> str | None:
    """Complete `part` with the bytes of `address`; the sha256 that the hub announced, or None.

    What an earlier run left in `part` is kept where the server can prove that the file is still the same one.
    Unusable where this address does not give the file; DownloadError where the disk refuses it.
    """
    if wanted.size and wanted.sha256 and part.size() == wanted.size:
        return None  # an earlier run was cut off between the last byte and the comparison of the hash
    fruitless, pause = 0, FIRST_PAUSE
    for attempt in range(1, MOST_ATTEMPTS + 1):
        before = part.size()
        try:
            return _attempt(address, part, wanted)
        except Broken as error:
            fruitless = 0 if part.size() >= before + FRUITFUL else fruitless + 1
            pause = FIRST_PAUSE if fruitless == 0 else min(2 * pause, LONGEST_PAUSE)
            if fruitless >= FRUITLESS or attempt == MOST_ATTEMPTS:
                raise Unusable(f"{error} ({attempt} attempts)") from None
            say(f"{error}; trying again in {pause:g} s ({_megabytes(part.size())} so far)")
        time.sleep(pause)
    raise AssertionError("unreachable")


def _attempt(address: Address, part: Partial, wanted: Wanted) -> str | None:
    have, validator = part.left_over(address.url)
    headers = {"Range": f"bytes={have}-", "If-Range": validator} if have else {}
    reply = open_url(address, headers)
    try:
        start, total = _extent(reply, have, validator, part)
        total = _agreed_size(reply, total, wanted)
        _check_room(part, total)
        with _disk(part), part.open(start) as out:
            if not start:
                part.note(address.url, _validator(reply))
            _copy(reply, out, part, start, total, wanted.largest)
    finally:
        reply.close()
    return reply.sha256


def _extent(reply: Reply, have: int, validator: str, part: Partial) -> tuple[int, int | None]:
    """Where the body begins in the file and how long the whole file is (None: the server does not say)."""
    if reply.status == 200:
        return 0, to_int(reply.header("Content-Length"))
    place = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", (reply.header("Content-Range") or "").strip())
    changed = validator not in (reply.header("ETag"), reply.header("Last-Modified"))
    if have and reply.status == 206 and place and to_int(place[1]) == have and not changed:
        return have, to_int(place[2])
    part.forget()
    raise Broken("the file has changed since the download began, or the server resumes it wrongly")


def _agreed_size(reply: Reply, total: int | None, wanted: Wanted) -> int | None:
    """The size that everybody who knows one gives; Unusable where they differ or the announced hash is another."""
    sizes = {"the catalogue": wanted.size, "the hub": reply.size, "the server": total}
    known = {who: size for who, size in sizes.items() if size is not None}
    if len(set(known.values())) > 1:
        raise Unusable("sizes disagree: " + ", ".join(f"{who} says {size} bytes" for who, size in known.items()))
    if reply.sha256 and wanted.sha256 and reply.sha256 != wanted.sha256:
        raise Unusable(f"the server announces sha256 {reply.sha256}, the catalogue has {wanted.sha256}")
    size = next(iter(known.values()), None)
    if size is not None and not 0 < size <= wanted.largest:
        raise Unusable(f"the server announces {size} bytes; from 1 to {wanted.largest} are believed")
    return size


def _copy(reply: Reply, out, part: Partial, start: int, total: int | None, largest: int) -> None:
    end = largest if total is None else total
    have = start
    with _progress(part, start, total) as bar:
        while have < end or total is None:
            # One byte past the bound is asked for, so that a body without a length shows that it is too long.
            data = reply.read(min(CHUNK, end - have + (total is None)))
            if not data:
                break
            have += len(data)
            if have > end:
                out.truncate(0)
                raise Unusable(f"the server sends more than {largest} bytes")
            _write(out, data)
            bar.update(len(data))
    if total is not None and have < total:
        raise Broken(f"the connection closed at {have} of {total} bytes")


def _write(out, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[out.write(view) :]


@contextlib.contextmanager
def _disk(part: Partial):
    """Turns a refusal of the disk into one line; the network's errors pass."""
    try:
        yield
    except DownloadError:
        raise
    except OSError as error:
        kept = part.size()
        go_on = f"{_megabytes(kept)} are kept and the next run goes on from there"
        more = go_on if kept else "name another folder in JVAN_CACHE"
        where = error.filename2 or error.filename or part.path
        raise DownloadError(f"{where}: {error.strerror or error}; {more}") from None


def _check_room(part: Partial, total: int | None) -> None:
    free = shutil.disk_usage(part.path.parent).free + part.size()
    if total is not None and free < total:
        raise DownloadError(
            f"{part.path.parent}: {_megabytes(total)} are needed and {_megabytes(free)} are free; "
            "make room or name another folder in JVAN_CACHE"
        )


def _validator(reply: Reply) -> str:
    etag = reply.header("ETag") or ""
    # A weak ETag does not promise the same bytes, and If-Range does not take one.
    return etag if etag.startswith('"') else reply.header("Last-Modified") or ""


def _progress(part: Partial, start: int, total: int | None):
    """A bar on a terminal, one line elsewhere."""
    if not sys.stderr.isatty():
        size = "size unknown" if total is None else _megabytes(total)
        say(f"downloading {part.name} ({size}{f', from {_megabytes(start)} on' if start else ''})")
    return bar(unit="B", unit_scale=True, name=part.name, total=total, done=start)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
