"""What others may have put where a download writes: it is never written through, nor gone on with."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from jvan.checkpoints.published.part import Partial
from jvan.checkpoints.published.weights_cache import obtain, place
from jvan.errors import DownloadError

from .download_help import CONTENT, OTHER, PATH, entry, fails, quick_and_clean

SOMEBODY = 54321  # a user that this machine does not have
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
UNKNOWN = {"size": None, "sha256": None}


@pytest.fixture(autouse=True)
def _environment(monkeypatch, tmp_path):
    quick_and_clean(monkeypatch, tmp_path / "cache")
    place(entry()).parent.mkdir(parents=True)


@pytest.fixture
def victim(tmp_path):
    path = tmp_path / "precious"
    path.write_bytes(CONTENT[:1000])
    return path


def beside(suffix: str):
    return place(entry()).with_name("van_tiny.pth.tar" + suffix)


def noted(suffix=".part") -> None:
    """What makes an earlier run's .part worth going on with."""
    url = os.environ["HF_ENDPOINT"] + PATH
    note = {"url_sha256": hashlib.sha256(url.encode()).hexdigest(), "validator": '"first"'}
    beside(suffix + ".json").write_text(json.dumps(note))


def _link(part, victim):
    part.symlink_to(victim)


def _dangling(part, victim):
    part.symlink_to(victim.with_name("missing"))


def _hard_link(part, victim):
    os.link(victim, part)


def _pipe(part, victim):
    os.mkfifo(part)


def _open_to_all(part, victim):
    part.write_bytes(CONTENT[:1000])
    part.chmod(0o666)


def _foreign(part, victim):
    part.write_bytes(CONTENT[:1000])
    os.chown(part, SOMEBODY, -1)


PLANTED = [_link, _dangling, _hard_link, _pipe, _open_to_all, pytest.param(_foreign, marks=as_root)]


@pytest.mark.parametrize("by", PLANTED)
def test_a_planted_part_is_thrown_away(served, victim, by):
    by(beside(".part"), victim)
    noted()
    assert obtain(entry()).read_bytes() == CONTENT
    assert victim.read_bytes() == CONTENT[:1000]
    assert not victim.with_name("missing").exists()
    assert place(entry()).stat().st_nlink == 1 and not place(entry()).is_symlink()
    assert served.ranges_asked == [None]


@pytest.mark.parametrize("by", PLANTED[:1])
def test_a_planted_part_that_is_complete_is_not_taken_for_the_file(served, victim, by):
    victim.write_bytes(CONTENT)
    by(beside(".part"), victim)
    assert obtain(entry()).read_bytes() == CONTENT
    assert not place(entry()).is_symlink()
    assert len(served.requests) == 1


def test_ones_own_part_is_gone_on_with(served):
    beside(".part").write_bytes(CONTENT[:1000])
    noted()
    assert obtain(entry()).read_bytes() == CONTENT
    assert served.ranges_asked == ["bytes=1000-"]


def test_a_folder_in_the_parts_place_is_one_line(served):
    beside(".part").mkdir()
    fails("van_tiny.pth.tar.part: .*; name another folder in JVAN_CACHE")
    assert beside(".part").is_dir()


@pytest.mark.parametrize("by", [_link, _dangling, _hard_link, _pipe])
def test_a_planted_note_is_neither_read_nor_written_through(served, victim, by):
    beside(".part").write_bytes(OTHER[:1000])
    noted()
    os.replace(beside(".part.json"), victim)
    before = victim.read_bytes()
    by(beside(".part.json"), victim)
    assert obtain(entry(**UNKNOWN)).read_bytes() == CONTENT
    assert victim.read_bytes() == before
    assert not victim.with_name("missing").exists()
    assert served.ranges_asked == [None]


@as_root
def test_somebody_elses_note_is_not_believed(served):
    beside(".part").write_bytes(OTHER[:1000])
    noted()
    os.chown(beside(".part.json"), SOMEBODY, -1)
    assert obtain(entry(**UNKNOWN)).read_bytes() == CONTENT
    assert served.ranges_asked == [None]


@pytest.mark.parametrize("junk", ["", "[]", "{}", "null", "\0", '{"url_sha256": 1, "validator": 2}'])
def test_a_note_that_is_none(served, junk):
    beside(".part").write_bytes(OTHER[:1000])
    beside(".part.json").write_text(junk)
    assert obtain(entry(**UNKNOWN)).read_bytes() == CONTENT
    assert served.ranges_asked == [None]


@pytest.mark.parametrize("by", [_link, _dangling])
def test_a_lock_that_is_a_link_is_refused_in_one_line(served, victim, by):
    by(beside(".lock"), victim)
    fails("van_tiny.pth.tar.lock: is a link, and links are not followed here; remove it")
    assert victim.read_bytes() == CONTENT[:1000]
    assert not victim.with_name("missing").exists()
    assert not served.requests


def test_a_lock_that_may_only_be_read_keeps_nobody_out(served, monkeypatch):
    """Another user's, whose download was killed."""
    beside(".lock").touch()
    opened = os.open

    def refused(path, flags, *mode, **how):
        if str(path).endswith(".lock") and flags & os.O_CREAT:
            raise PermissionError(13, "Permission denied", path)
        return opened(path, flags, *mode, **how)

    monkeypatch.setattr(os, "open", refused)
    assert obtain(entry()).read_bytes() == CONTENT


def test_a_record_that_is_a_link_is_replaced(served, victim):
    beside(".sha256.json").symlink_to(victim)
    obtain(entry())
    assert victim.read_bytes() == CONTENT[:1000]
    assert not beside(".sha256.json").is_symlink()


def test_a_part_that_is_exchanged_between_two_attempts(victim):
    part = Partial(place(entry()))
    with part.open(0) as file:
        file.write(CONTENT[:500])
    assert part.size() == 500
    part.path.unlink()
    os.link(victim, part.path)
    assert part.size() == 0
    with pytest.raises(OSError, match="was replaced while it was written"):
        part.open(500)
    assert victim.read_bytes() == CONTENT[:1000]


@as_root
def test_a_disk_that_gives_our_files_to_somebody_else_is_written_and_resumed(served, monkeypatch):
    """As NFS does to root, and SMB to all."""
    monkeypatch.setattr(os, "getuid", lambda: SOMEBODY)
    served.cut, served.then = 100_000, [{"cut": None}]
    assert obtain(entry()).read_bytes() == CONTENT
    assert served.ranges_asked == [None, "bytes=100000-"]


def test_a_mirrors_token_is_not_in_the_note(served, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", os.environ["HF_ENDPOINT"].replace("//", "//me:password@") + "/token123")
    served.cut, served.then = 100_000, [{"status": 404}]
    message = fails("HTTP 404")
    files = {p.name: p.read_bytes() for p in place(entry()).parent.iterdir()}
    assert set(files) == {beside(s).name for s in (".part", ".part.json", ".lock")}
    for secret in ("token123", "password"):
        assert secret not in message
        assert not any(secret.encode() in content for content in files.values())
    vars(served).update(cut=None, status=None)
    assert obtain(entry()).read_bytes() == CONTENT
    assert served.ranges_asked[-1] == "bytes=100000-"


def test_a_folder_in_the_notes_place_is_one_line(served):
    beside(".part.json").mkdir()
    with pytest.raises(DownloadError, match=r"van_tiny.pth.tar.part.json: .*; name another folder in JVAN_CACHE"):
        obtain(entry())
