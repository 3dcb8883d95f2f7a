"""Where downloaded weights are kept, and how a file there is known to be the published one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ..errors import DownloadError
from ..files import cache_dir, own_cache_dir
from ..ownership import make_private_folder, open_unlinked
from ._http import Unusable
from .addresses import HUB, addresses_of
from .catalogue import Entry
from .download import Wanted, download, say
from .hash_record import Record, examine, first_of, identity_of, records_of, remember, remember_first
from .part import Part

try:
    import fcntl
except ImportError:  # Windows: no lock, each process has a .part of its own
    fcntl = None


def place(entry: Entry) -> Path:
    """Where this entry's file lies, or would; a folder an entry, since several files are called pytorch_model.bin."""
    return cache_dir() / entry.name / entry.file


def obtain(entry: Entry) -> Path:
    """The entry's file in the cache, downloaded unless it is there, verified as far as anybody publishes its hash.

    DownloadError where it cannot be had or is not the published file. Prints on stderr that a new file was compared
    with eight digits, and "unverified" where neither the catalogue, the file's name nor the hub gives a hash.
    """
    path = place(entry)
    if path.is_file():
        return _accept(path, entry)
    try:
        _make_folder(path.parent)
        with _locked(path) as part:
            if path.is_file():
                return _accept(path, entry)
            _download_any(entry, path, part)
    except DownloadError:
        raise
    except OSError as error:
        where = error.filename2 or error.filename or path
        raise DownloadError(f"{where}: {error.strerror or error}; name another folder in JVAN_CACHE") from None
    return path


def _make_folder(folder: Path) -> None:
    if cache_dir() == own_cache_dir():
        make_private_folder(folder)
    else:  # which several people may share
        folder.mkdir(parents=True, exist_ok=True)


def _download_any(entry: Entry, path: Path, part: Part) -> None:
    failures, known = [], _known(path, entry)
    for address in addresses_of(entry):
        try:
            announced = download(address, part, Wanted(entry.size, entry.sha256, entry.largest))
            digest, identity = examine(part.path)
            _compare(digest, entry, announced, known, part)
        except Unusable as error:
            failures.append(f"{address.shown}: {error}")
            continue
        os.replace(part.path, path)
        part.forget()
        proven = announced is not None or _proven(digest, known)
        _settle(entry, path, digest, proven, identity and identity.renamed_to(path))
        return
    mirrored = entry.urls[0].startswith(HUB) and not os.environ.get("HF_ENDPOINT")
    hint = ", or name a mirror of the hub in HF_ENDPOINT" if mirrored else ""
    raise DownloadError(f"cannot download {entry.name}: {'; '.join(failures)}. Put the file at {path} by hand{hint}")


def _compare(digest: str, entry: Entry, announced: str | None, known: list[Record], part: Part) -> None:
    wanted = {"the catalogue": entry.sha256, "the file's name": entry.sha256_prefix, "the hub": announced}
    wrong = [f"{who} says {value}" for who, value in wanted.items() if value and not digest.startswith(value)]
    others = _others(digest, known, entry)
    if wrong or others:
        part.forget()
        fix = f"; where the publisher has replaced the file, delete {_places(others)}" if others and not wrong else ""
        said = "; ".join(wrong) or f"before it was {others[0].sha256}"
        raise Unusable(f"what came has sha256 {digest}, {said}; it was deleted{fix}")


def _accept(path: Path, entry: Entry) -> Path:
    """A file that lies in the cache: as noted when it came, or else hashed again (put there by hand, touched)."""
    known, now = _known(path, entry), identity_of(path)
    digest = next((record.sha256 for record in known if record.identity == now), None)
    noted = digest is not None
    if not noted:
        digest, now = examine(path)
    for value in (entry.sha256, entry.sha256_prefix):
        if value and not digest.startswith(value):
            raise DownloadError(
                f"{path} is not the published file: its sha256 is {digest}, it should be {value}; delete it and try again"
            )
    others = _others(digest, known, entry)
    if others:
        raise DownloadError(
            f"{path} has changed: its sha256 is {digest}, before it was {others[0].sha256}; delete it and try again, "
            f"or, where the publisher has replaced the file, delete {_places(others)}"
        )
    proven = _proven(digest, known)
    if noted:
        _say_how_far(entry, digest, proven, anew=False)
    else:
        _settle(entry, path, digest, proven, now)
    return path


def _settle(entry: Entry, path: Path, digest: str, proven: bool, identity) -> None:
    """Note what a file was found to be, and say how far it could be verified."""
    proven = proven or entry.sha256 is not None
    if identity is not None:
        remember(path, digest, proven, identity)
    if entry.sha256 is None:
        remember_first(entry.name, digest, proven)
    _say_how_far(entry, digest, proven, anew=True)


def _known(path: Path, entry: Entry) -> list[Record]:
    return records_of(path) + ([] if entry.sha256 else first_of(entry.name))


def _others(digest: str, known: list[Record], entry: Entry) -> list[Record]:
    """The notes of another hash; where the catalogue has the whole hash they do not matter."""
    return [] if entry.sha256 else [record for record in known if record.sha256 != digest]


def _proven(digest: str, known: list[Record]) -> bool:
    """Whether the hub announced this hash when the file first came."""
    return any(record.proven for record in known if record.sha256 == digest)


def _places(records: list[Record]) -> str:
    return " and ".join(str(record.place) for record in records)


def _say_how_far(entry: Entry, digest: str, proven: bool, anew: bool) -> None:
    if proven or entry.sha256:
        return
    if not entry.sha256_prefix:
        say(
            f"{entry.name} is unverified: neither the catalogue nor the hub gives its hash; the file's sha256 is {digest}"
        )
    elif anew:
        say(f"{entry.name}: eight digits of its sha256 are published, and they match; the whole one is {digest}")


@contextlib.contextmanager
def _locked(path: Path):
    """Only one process at a time downloads `path`; gives the .part file to use.

    The lock falls with the process that holds it, so a crash leaves nothing to clean up.
    """
    with open_unlinked(path.with_name(path.name + ".lock"), "ab") as lock:
        try:
            _take(lock, path)
        except OSError:  # a file system without locks: a .part of our own, which nobody resumes
            part = Part(path, f".{os.urandom(8).hex()}")
            try:
                yield part
            finally:
                part.forget()
            return
        yield Part(path)


def _take(lock, path: Path) -> None:
    if fcntl is None:
        raise OSError("no locks here")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f"another process is downloading {path.name}; waiting for it")
        fcntl.flock(lock, fcntl.LOCK_EX)
