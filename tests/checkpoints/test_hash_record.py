"""Whose note of a hash counts: attacks on a folder that others can write, and the ordinary uses of one."""

from __future__ import annotations

import hashlib
import itertools
import json
import os

import pytest

from jvan import inspect
from jvan.checkpoints.published import hash_record, weights_cache
from jvan.checkpoints.published import resolve as resolve_module
from jvan.checkpoints.published.hash_record import identity_of
from jvan.checkpoints.published.weights_cache import obtain, place
from jvan.errors import DownloadError
from jvan.files import own_cache_dir

from .download_help import CONTENT, OTHER, SHA256, entry, quick_and_clean

UNKNOWN = {"size": None, "sha256": None}
DIGITS = {**UNKNOWN, "sha256_prefix": SHA256[:2]}  # eight of them would take an hour to forge
FORGED = next(data for n in itertools.count() if hashlib.sha256(data := b"%d" % n).hexdigest()[:2] == SHA256[:2])
SOMEBODY = 54321  # a user that this machine does not have
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")


@pytest.fixture(autouse=True)
def _environment(monkeypatch, tmp_path):
    quick_and_clean(monkeypatch, tmp_path / "cache")


@pytest.fixture
def hashed(monkeypatch):
    """How often a file is hashed."""
    taken = []
    monkeypatch.setattr(weights_cache, "examine", lambda path: taken.append(path) or hash_record.examine(path))
    return taken


def record():
    return place(entry()).with_name("van_tiny.pth.tar.sha256.json")


def put(content: bytes, sha256: str | None = None) -> None:
    """A file in the cache, with a note that says that it was checked if `sha256` is given."""
    path = place(entry())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if sha256 is not None:
        note = {"format": 2, "sha256": sha256, "proven": True, **identity_of(path)._asdict()}
        record().write_text(json.dumps(note))


def _open_folder():
    record().parent.chmod(0o777)


def _open_file():
    place(entry()).chmod(0o666)


def _open_record():
    record().chmod(0o666)


def _foreign_folder():
    os.chown(record().parent, SOMEBODY, -1)


def _foreign_record():
    os.chown(record(), SOMEBODY, -1)


def _foreign_file():
    os.chown(place(entry()), SOMEBODY, -1)


OPEN = [_open_folder, _open_file, _open_record]
FOREIGN = [pytest.param(one, marks=as_root) for one in (_foreign_folder, _foreign_file, _foreign_record)]


@pytest.mark.parametrize("by", [*OPEN, *FOREIGN])
def test_a_planted_record_does_not_switch_the_check_off(by, monkeypatch, capsys):
    put(OTHER)
    record().touch()
    by()
    mode = record().stat().st_mode, record().stat().st_uid
    put(OTHER, SHA256)  # after its ctime has changed for the last time
    assert (record().stat().st_mode, record().stat().st_uid) == mode
    monkeypatch.setattr(resolve_module, "catalogue", lambda: {"van_b0.test": entry()})
    assert inspect.main(["van_b0.test"]) == 1
    error = capsys.readouterr().err
    assert "is not the published file" in error and hashlib.sha256(OTHER).hexdigest() in error
    assert error.count("\n") == 1


def test_the_same_record_counts_where_nobody_else_can_write(hashed):
    put(CONTENT, SHA256)
    assert obtain(entry()) and not hashed


@pytest.mark.parametrize("by", [_open_folder, _open_file, *FOREIGN[:2]])
def test_a_shared_folder_is_read_and_hashed_once(by, hashed):
    put(CONTENT)
    record().touch()
    by()
    before = sorted(p.name for p in record().parent.iterdir())
    for _ in range(2):
        assert obtain(entry()).read_bytes() == CONTENT
    assert len(hashed) == 1
    assert sorted(p.name for p in record().parent.iterdir()) == before
    assert record().read_bytes() == b""
    assert (own_cache_dir() / "hashes").stat().st_mode & 0o777 == 0o700


@as_root
def test_what_an_administrator_noted_is_taken_by_everybody(hashed, monkeypatch):
    put(CONTENT, SHA256)
    monkeypatch.setattr(os, "getuid", lambda: SOMEBODY)
    assert obtain(entry()) and not hashed


def _swap(path) -> None:
    status = path.stat()
    path.write_bytes(OTHER)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)


@pytest.mark.parametrize("shared", [False, True])
def test_a_swap_within_size_and_mtime_is_noticed(shared, hashed):
    put(CONTENT)
    if shared:
        _open_folder()
    obtain(entry())
    _swap(place(entry()))
    with pytest.raises(DownloadError, match="is not the published file"):
        obtain(entry())
    assert len(hashed) == 2


def test_a_swap_by_another_file_of_the_same_times_is_noticed(hashed, monkeypatch):
    """Were its ctime the same, too, its number would not be."""
    put(CONTENT)
    obtain(entry())
    note = json.loads(record().read_text())
    record().write_text(json.dumps({**note, "inode": note["inode"] + 1}))
    obtain(entry())
    record().write_text(json.dumps({**note, "path": note["path"] + "x"}))
    obtain(entry())
    assert len(hashed) == 3


def test_a_file_that_changes_while_it_is_hashed_is_not_noted(monkeypatch):
    put(CONTENT)

    def slow(file):
        place(entry()).write_bytes(OTHER)
        return SHA256

    monkeypatch.setattr(hash_record, "sha256_of_open", slow)
    obtain(entry())
    assert not record().exists()
    monkeypatch.undo()


def old(sha256=SHA256, **what) -> None:
    """A note as 0.1.0 wrote it."""
    status = place(entry()).stat()
    document = {"sha256": sha256, "size": status.st_size, "mtime_ns": status.st_mtime_ns, "proven": True, **what}
    record().write_text(json.dumps(document))


def test_a_record_of_0_1_0_is_read_and_completed(hashed, capsys):
    put(CONTENT)
    old()
    for _ in range(2):
        assert obtain(entry()).read_bytes() == CONTENT
    assert len(hashed) == 1
    assert json.loads(record().read_text())["ctime_ns"] == place(entry()).stat().st_ctime_ns
    assert capsys.readouterr().err == ""


def test_what_0_1_0_called_proven_is_no_proof(capsys):
    """It took any mirror's word."""
    put(CONTENT)
    old()
    for _ in range(2):
        obtain(entry(**UNKNOWN))
        assert "van_b0.test is unverified" in capsys.readouterr().err


@pytest.mark.parametrize("junk", [{"sha256": 7}, {"ctime_ns": "x"}, {"inode": None}, {"path": 1}])
def test_a_malformed_record_is_hashed_again(junk, hashed):
    put(CONTENT, SHA256)
    record().write_text(json.dumps({**json.loads(record().read_text()), **junk}))
    assert obtain(entry()) and len(hashed) == 1


def test_weights_that_the_user_linked_are_read_and_hashed(tmp_path, hashed):
    mine = tmp_path / "scratch" / "mine.pth"
    mine.parent.mkdir()
    mine.write_bytes(CONTENT)
    place(entry()).parent.mkdir(parents=True)
    place(entry()).symlink_to(mine)
    for _ in range(2):
        assert obtain(entry()).read_bytes() == CONTENT
    assert len(hashed) == 1
    _swap(mine)
    with pytest.raises(DownloadError, match="is not the published file"):
        obtain(entry())
    assert place(entry()).is_symlink()


def test_where_nothing_can_be_noted_the_file_is_hashed_at_each_start(monkeypatch, tmp_path, hashed):
    put(CONTENT)
    _open_folder()
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for known in ({}, UNKNOWN):
        assert obtain(entry(**known)).read_bytes() == CONTENT
    assert len(hashed) == 2


def test_a_note_in_ones_own_cache_that_others_can_write_does_not_count(hashed):
    put(CONTENT)
    _open_folder()
    obtain(entry())
    for note in (own_cache_dir() / "hashes").iterdir():
        note.chmod(0o666)
    obtain(entry())
    assert len(hashed) == 2


def _records() -> list:
    return [record(), *(own_cache_dir() / "hashes").iterdir()]


@pytest.mark.parametrize("known", [UNKNOWN, DIGITS], ids=["no digit known", "digits known"])
def test_the_first_downloads_whole_hash_is_kept_and_compared(served, known, capsys):
    obtain(entry(**known))
    place(entry()).unlink()
    served.content = FORGED
    with pytest.raises(DownloadError) as caught:
        obtain(entry(**known))
    message = str(caught.value)
    assert f"what came has sha256 {hashlib.sha256(FORGED).hexdigest()}, before it was {SHA256}" in message
    assert "where the publisher has replaced the file, delete " + " and ".join(map(str, _records())) in message
    assert not place(entry()).exists()
    for note in _records():
        note.unlink()
    assert obtain(entry(**known)).read_bytes() == FORGED


def test_the_first_hash_is_compared_though_the_whole_cache_is_another(served, monkeypatch, tmp_path):
    obtain(entry(**DIGITS))
    monkeypatch.setenv("JVAN_CACHE", str(tmp_path / "another"))
    served.content = FORGED
    with pytest.raises(DownloadError, match=f"before it was {SHA256}"):
        obtain(entry(**DIGITS))


def test_the_owner_of_a_shared_folder_cannot_exchange_what_was_once_read():
    put(CONTENT)
    _open_folder()
    obtain(entry(**DIGITS))
    put(FORGED, hashlib.sha256(FORGED).hexdigest())
    with pytest.raises(DownloadError, match=f"has changed: .* before it was {SHA256}; delete it and try again, or"):
        obtain(entry(**DIGITS))


def test_a_hash_that_the_catalogue_has_needs_no_memory(served):
    obtain(entry())
    assert not (own_cache_dir() / "hashes").exists()


def test_a_file_that_was_once_proven_is_so_again_by_its_hash(served, monkeypatch, capsys):
    """From a mirror, which proves nothing: the hub announced the same hash before."""
    hash_record.remember_first("van_b0.test", SHA256, True)
    obtain(entry(**UNKNOWN))
    assert "unverified" not in capsys.readouterr().err


def test_proof_that_comes_later_is_kept_and_the_hash_is_not_changed():
    hash_record.remember_first("x", SHA256, False)
    hash_record.remember_first("x", "0" * 64, True)
    assert [(known.sha256, known.proven) for known in hash_record.first_of("x")] == [(SHA256, False)]
    hash_record.remember_first("x", SHA256, True)
    assert [(known.sha256, known.proven) for known in hash_record.first_of("x")] == [(SHA256, True)]


def test_folders_in_ones_own_cache_are_private_and_those_of_JVAN_CACHE_are_as_they_were(served, monkeypatch, tmp_path):
    umask = os.umask(0o022)
    try:
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache").chmod(0o775)
        obtain(entry())
        assert [oct(p.stat().st_mode & 0o777) for p in (tmp_path / "cache", record().parent)] == ["0o775", "0o755"]
        monkeypatch.delenv("JVAN_CACHE")
        obtain(entry())
        assert place(entry()).is_relative_to(tmp_path / "own" / "jvan")
        assert [oct(p.stat().st_mode & 0o777) for p in (record().parent, own_cache_dir())] == ["0o700", "0o700"]
    finally:
        os.umask(umask)


@pytest.mark.parametrize("umask", [0, 0o002])
def test_no_umask_makes_files_that_everybody_can_write(served, umask, hashed):
    before = os.umask(umask)
    try:
        record().parent.mkdir(parents=True, mode=0o755)
        record().parent.chmod(0o775)
        obtain(entry())
        obtain(entry())
    finally:
        os.umask(before)
    assert {oct(p.stat().st_mode & 0o777) for p in (record(), place(entry()))} == {"0o664"}
    assert not hashed
