"""Where downloaded weights are kept, and how a file there is known to be the published one."""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path

from ..errors import DownloadError
from ..files import cache_dir
from ._http import Unusable
from .catalogue import Entry
from .digest import sha256_of
from .download import Wanted, download, forget, say

try:
    import fcntl
except ImportError:  # Windows: no lock, each process has a .part of its own
    fcntl = None

HUB = "https://huggingface.co/"


def place(entry: Entry) -> Path:
    """Where this entry's file lies, or would; a folder an entry, since several files are called pytorch_model.bin."""
    return cache_dir() / entry.name / entry.file


def obtain(entry: Entry) -> Path:
    """The entry's file in the cache, downloaded unless it is there, verified as far as anybody announces its hash.

    DownloadError where it cannot be had or is not the published file. Prints "unverified" on stderr where neither
    the catalogue, the file's name nor the hub gives a hash.
    """
    path = place(entry)
    if path.is_file():
        return _accept(path, entry)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path) as part:
            if path.is_file():
                return _accept(path, entry)
            _download_any(entry, path, part)
    except DownloadError:
        raise
    except OSError as error:
        where = error.filename or path
        raise DownloadError(f"{where}: {error.strerror or error}; name another folder in JVAN_CACHE") from None
    return path


def candidate_urls(entry: Entry) -> list[str]:
    """The entry's addresses in order, the hub's replaced by the mirror that HF_ENDPOINT names."""
    mirror = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/")
    if not mirror:
        return list(entry.urls)
    if not re.fullmatch(r"https?://(\[[0-9a-fA-F:]+\]|[^\s/?#@:\[\]]+)(:[0-9]+)?(/[^\s?#]*)?", mirror):
        raise DownloadError(f"HF_ENDPOINT is {mirror!r}; it must be an address such as {HUB.rstrip('/')}")
    return [f"{mirror}/{url[len(HUB) :]}" if url.startswith(HUB) else url for url in entry.urls]


def _download_any(entry: Entry, path: Path, part: Path) -> None:
    failures = []
    for url in candidate_urls(entry):
        try:
            announced = download(url, part, Wanted(entry.size, entry.sha256, entry.largest))
            digest = sha256_of([part])
            wanted = {"the catalogue": entry.sha256, "the file's name": entry.sha256_prefix, "the hub": announced}
            _compare(digest, wanted, part)
        except Unusable as error:
            failures.append(f"{url}: {error}")
            continue
        os.replace(part, path)
        forget(part)
        proven = bool(entry.sha256 or entry.sha256_prefix or announced)
        _record(path, digest, proven)
        if not proven:
            _say_unverified(entry, digest)
        return
    mirrored = entry.urls[0].startswith(HUB) and not os.environ.get("HF_ENDPOINT")
    hint = ", or name a mirror of the hub in HF_ENDPOINT" if mirrored else ""
    raise DownloadError(f"cannot download {entry.name}: {'; '.join(failures)}. Put the file at {path} by hand{hint}")


def _compare(digest: str, wanted: dict[str, str | None], part: Path) -> None:
    for who, value in wanted.items():
        if value and not digest.startswith(value):
            forget(part)
            raise Unusable(f"what came has sha256 {digest}, {who} says {value}; it was deleted")


def _accept(path: Path, entry: Entry) -> Path:
    """A file that lies in the cache: as recorded when it came, or else hashed again (put there by hand, touched)."""
    record = _recorded(path)
    stat = path.stat()
    unchanged = record is not None and (record["size"], record["mtime_ns"]) == (stat.st_size, stat.st_mtime_ns)
    digest = record["sha256"] if unchanged else sha256_of([path])
    earlier = record["sha256"] if record is not None and record["proven"] else None
    for value in (entry.sha256, entry.sha256_prefix, earlier):
        if value and not digest.startswith(value):
            raise DownloadError(
                f"{path} is not the published file: its sha256 is {digest}, it should be {value}; delete it and try again"
            )
    proven = bool(entry.sha256 or entry.sha256_prefix or earlier)
    if not unchanged:
        _record(path, digest, proven)
    if not proven:
        _say_unverified(entry, digest)
    return path


def _say_unverified(entry: Entry, digest: str) -> None:
    say(f"{entry.name} is unverified: nobody announces its hash; the file's sha256 is {digest}")


def _record_of(path: Path) -> Path:
    return path.with_name(path.name + ".sha256.json")


def _record(path: Path, digest: str, proven: bool) -> None:
    """Note beside the file what was checked, so that the next start need not hash it."""
    stat = path.stat()
    document = {"sha256": digest, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "proven": proven}
    target = _record_of(path)
    fresh = target.with_name(f"{target.name}.{os.getpid()}")
    with contextlib.suppress(OSError):  # a cache that may only be read: hashed at each start
        fresh.write_text(json.dumps(document), encoding="utf-8")
        os.replace(fresh, target)


def _recorded(path: Path) -> dict | None:
    kinds = {"sha256": str, "size": int, "mtime_ns": int, "proven": bool}
    try:
        document = json.loads(_record_of(path).read_text(encoding="utf-8"))
        return document if all(isinstance(document[key], kind) for key, kind in kinds.items()) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextlib.contextmanager
def _locked(path: Path):
    """Only one process at a time downloads `path`; gives the .part file to use.

    The lock falls with the process that holds it, so a crash leaves nothing to clean up.
    """
    with open(path.with_name(path.name + ".lock"), "ab") as lock:
        try:
            _take(lock, path)
        except OSError:  # a file system without locks: a .part of our own, which nobody resumes
            part = path.with_name(f"{path.name}.{os.getpid()}.part")
            try:
                yield part
            finally:
                forget(part)
            return
        yield path.with_name(path.name + ".part")


def _take(lock, path: Path) -> None:
    if fcntl is None:
        raise OSError("no locks here")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f"another process is downloading {path.name}; waiting for it")
        fcntl.flock(lock, fcntl.LOCK_EX)
