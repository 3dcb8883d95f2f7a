"""Bring a published file into the cache: by one process at a time, from the first address that gives the right bytes."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ... import files
from ..._say import say
from ...errors import DownloadError
from ...files import make_cache_folder
from ...ownership import open_lock
from .addresses import HUB, addresses_of
from .catalogue import Entry
from .download import Wanted, download
from .hash_record import Record, examine
from .http import Unusable
from .part import Partial
from .verification import contradictions, is_proven, known_of, others, places, settle


def fetch(entry: Entry, path: Path) -> bool:
    """Download the entry's file to `path`, verified; False where another process has brought it meanwhile.

    DownloadError where it cannot be had, is another file, or cannot be written.
    """
    try:
        make_cache_folder(path.parent)
        with _locked(path) as part:
            if path.is_file():
                return False
            _from_any(entry, path, part)
            return True
    except DownloadError:
        raise
    except OSError as error:
        where = error.filename2 or error.filename or path
        raise DownloadError(f"{where}: {error.strerror or error}; name another folder in JVAN_CACHE") from None


def _from_any(entry: Entry, path: Path, part: Partial) -> None:
    failures, known = [], known_of(entry, path, None)
    for address in addresses_of(entry):
        try:
            announced = download(address, part, Wanted(entry.size, entry.sha256, entry.largest))
            digest, identity = examine(part.path)
            _compare(entry, digest, announced, known, part)
        except Unusable as error:
            failures.append(f"{address.shown}: {error}")
            continue
        os.replace(part.path, path)
        part.forget()
        proven = announced is not None or is_proven(entry, digest, known)
        settle(entry, path, digest, proven, identity and identity.renamed_to(path))
        return
    mirrored = entry.urls[0].startswith(HUB) and not os.environ.get("HF_ENDPOINT")
    hint = ", or name a mirror of the hub in HF_ENDPOINT" if mirrored else ""
    raise DownloadError(f"cannot download {entry.name}: {'; '.join(failures)}. Put the file at {path} by hand{hint}")


def _compare(entry: Entry, digest: str, announced: str | None, known: list[Record], part: Partial) -> None:
    wrong, changed = contradictions(entry, digest, announced), others(entry, digest, known)
    if not wrong and not changed:
        return
    part.forget()
    came = f"what came has sha256 {digest}"
    if wrong:
        raise Unusable(f"{came}, {'; '.join(f'{who} says {value}' for who, value in wrong)}; it was deleted")
    raise Unusable(
        f"{came}, before it was {changed[0].sha256}; it was deleted; "
        f"where the publisher has replaced the file, delete {places(changed)}"
    )


@contextlib.contextmanager
def _locked(path: Path):
    """Only one process at a time downloads `path`; gives the .part file to use.

    The lock falls with the process that holds it, so a crash leaves nothing to clean up.
    """
    with open_lock(path.with_name(path.name + ".lock")) as lock:
        try:
            _take(lock, path)
        except OSError:  # a file system without locks: a .part of our own, which nobody resumes
            part = Partial(path, f".{os.urandom(8).hex()}")
            try:
                yield part
            finally:
                part.forget()
            return
        yield Partial(path)


def _take(lock, path: Path) -> None:
    if not files.lock(lock, wait=False, must=True):
        say(f"another process is downloading {path.name}; waiting for it")
        files.lock(lock, must=True)
