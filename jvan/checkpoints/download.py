"""Bring one file over HTTP(S) into a .part file: resumed, retried, bounded, never more than was announced."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from .._say import bar, tell
from ..errors import DownloadError
from ._http import Broken, Reply, Unusable, open_url, to_int

FRUITLESS = 4  # attempts in a row that brought no byte
MOST_ATTEMPTS = 60
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0  # seconds between attempts
CHUNK = 1 << 20


@dataclass(frozen=True)
class Wanted:
    """What is known of a file before it is asked for: exact size and sha256 or None, and a bound on its size."""

    size: int | None
    sha256: str | None
    largest: int


def download(url: str, part: Path, wanted: Wanted) -> str | None:
    """Complete `part` with the bytes of `url`; the sha256 that the server announced, or None.

    What an earlier run left in `part` is kept where the server can prove that the file is still the same one.
    Unusable where this address does not give the file; DownloadError where the disk refuses it.
    """
    if wanted.size and wanted.sha256 and _size(part) == wanted.size:
        return None  # an earlier run was cut off between the last byte and the comparison of the hash
    fruitless, pause = 0, FIRST_PAUSE
    for attempt in range(1, MOST_ATTEMPTS + 1):
        before = _size(part)
        try:
            return _attempt(url, part, wanted)
        except Broken as error:
            fruitless = 0 if _size(part) > before else fruitless + 1
            pause = FIRST_PAUSE if fruitless == 0 else min(2 * pause, LONGEST_PAUSE)
            if fruitless >= FRUITLESS or attempt == MOST_ATTEMPTS:
                raise Unusable(f"{error} ({attempt} attempts)") from None
            say(f"{error}; trying again in {pause:g} s ({_megabytes(_size(part))} so far)")
        time.sleep(pause)
    raise AssertionError("unreachable")


def forget(part: Path) -> None:
    """Remove a .part file and what is noted of it."""
    part.unlink(missing_ok=True)
    _note_of(part).unlink(missing_ok=True)


def say(line: str) -> None:
    tell(f"jvan: {line}")


def _attempt(url: str, part: Path, wanted: Wanted) -> str | None:
    have, validator = _left_over(url, part)
    headers = {"Range": f"bytes={have}-", "If-Range": validator} if have else {}
    reply = open_url(url, headers)
    try:
        start, total = _extent(reply, have, validator, part)
        total = _agreed_size(reply, total, wanted)
        _check_room(part, total)
        with _disk(part), open(part, "r+b" if start else "wb", buffering=0) as out:
            if not start:
                _write_note(part, url, reply)
            out.truncate(start)
            out.seek(start)
            _copy(reply, out, part, start, total, wanted.largest)
    finally:
        reply.close()
    return reply.sha256


def _extent(reply: Reply, have: int, validator: str, part: Path) -> tuple[int, int | None]:
    """Where the body begins in the file and how long the whole file is (None: the server does not say)."""
    if reply.status == 200:
        return 0, to_int(reply.header("Content-Length"))
    place = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", (reply.header("Content-Range") or "").strip())
    changed = validator not in (reply.header("ETag"), reply.header("Last-Modified"))
    if have and reply.status == 206 and place and to_int(place[1]) == have and not changed:
        return have, to_int(place[2])
    forget(part)
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


def _copy(reply: Reply, out, part: Path, start: int, total: int | None, largest: int) -> None:
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
def _disk(part: Path):
    """Turns a refusal of the disk into one line; the network's errors pass."""
    try:
        yield
    except DownloadError:
        raise
    except OSError as error:
        kept = _size(part)
        more = f"; {_megabytes(kept)} are kept and the next run goes on from there" if kept else ""
        raise DownloadError(f"{part}: {error.strerror or error}{more}") from None


def _check_room(part: Path, total: int | None) -> None:
    free = shutil.disk_usage(part.parent).free + _size(part)
    if total is not None and free < total:
        raise DownloadError(
            f"{part.parent}: {_megabytes(total)} are needed and {_megabytes(free)} are free; "
            "make room or name another folder in JVAN_CACHE"
        )


def _left_over(url: str, part: Path) -> tuple[int, str]:
    """(bytes, validator) of an earlier run's .part that this address can be asked to go on with, else (0, "")."""
    try:
        note = json.loads(_note_of(part).read_text(encoding="utf-8"))
        if note["url"] == url and isinstance(note["validator"], str) and note["validator"]:
            return _size(part), note["validator"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return 0, ""


def _write_note(part: Path, url: str, reply: Reply) -> None:
    etag = reply.header("ETag") or ""
    # A weak ETag does not promise the same bytes, and If-Range does not take one.
    validator = etag if etag.startswith('"') else reply.header("Last-Modified") or ""
    _note_of(part).write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")


def _note_of(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _progress(part: Path, start: int, total: int | None):
    """A bar on a terminal, one line elsewhere."""
    name = part.name[: -len(".part")]
    if not sys.stderr.isatty():
        size = "size unknown" if total is None else _megabytes(total)
        say(f"downloading {name} ({size}{f', from {_megabytes(start)} on' if start else ''})")
    return bar(unit="B", unit_scale=True, name=name, total=total, done=start)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
