"""Unpacked copies of archives: which are believed, and which are compared first."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from jvan.data import leftovers
from jvan.data.archive import Archive
from jvan.data.copies import stamp_of
from jvan.data.source import open_split
from jvan.errors import DataError

from .copying import (
    OTHER,
    OTHERS,
    PICTURES,
    as_root,
    copies,
    first_picture,
    is_of,
    name_of,
    plant,
)
from .drawn import tar_of
from .test_source import cache, one_line  # noqa: F401
from .test_tar import copy_of


class TestPlanted:
    """Copies that somebody else put there hold other pictures under the same names."""

    @as_root
    @pytest.mark.parametrize("record", [False, True])
    def test_anothers_copy_is_compared_and_named(self, archive, folder, record, read):
        copy = copy_of(archive)
        read.clear()
        planted = plant(folder / name_of(archive), OTHERS, OTHER)
        assert str(planted) == copy
        if record:  # that vouches for it
            document = json.loads(Path(f"{copy}.json").read_text())
            Path(f"{copy}.json").write_text(json.dumps({**document, "stamp": stamp_of(copy)}))
            os.chown(f"{copy}.json", OTHER, OTHER)
        else:
            os.unlink(f"{copy}.json")
        with pytest.raises(DataError) as error:
            open_split(archive)
        assert str(planted) in one_line(error) and str(archive) in str(error.value)
        assert "belongs to another user" in str(error.value) and planted.exists() and "content" in read

    @as_root
    def test_anothers_copy_under_the_old_name_is_not_used(self, archive, folder):
        planted = plant(folder / name_of(archive, old=True), OTHERS, OTHER)
        assert is_of(first_picture(archive), PICTURES) and planted.exists()

    @pytest.mark.parametrize("old", [False, True])
    def test_a_copy_in_a_folder_that_everybody_may_write_is_compared(self, archive, folder, old, capsys):
        folder.chmod(0o777)
        planted = plant(folder / name_of(archive, old), OTHERS)
        assert is_of(first_picture(archive), PICTURES)
        assert f"jvan: {planted} is not what {archive} unpacks to; it is made anew" in capsys.readouterr().err

    @pytest.mark.parametrize("mode", [0o646, 0o666])
    def test_a_copy_that_everybody_may_write_is_compared(self, archive, folder, mode):
        copy = copy_of(archive)
        os.chmod(copy, mode)
        before = os.stat(copy)
        with open(copy, "r+b") as file:
            data = file.read()
            file.seek(data.index(PICTURES["ant/0.png"]))
            file.write(OTHERS["ant/0.png"][: len(PICTURES["ant/0.png"])])
        os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert os.path.getsize(copy) == len(data) and is_of(first_picture(archive), PICTURES)

    def test_a_record_that_everybody_may_write_counts_for_nothing(self, archive, folder, read):
        copy = copy_of(archive)
        os.chmod(f"{copy}.json", 0o666)
        read.clear()
        assert copy_of(archive) == copy and read == ["content"]

    @pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"{}", b"[" * 60000, b"\xff", b'{"archive": 1}'])
    def test_a_damaged_record_counts_for_nothing(self, archive, folder, damage, read):
        copy = copy_of(archive)
        with open(f"{copy}.json", "wb") as file:
            file.write(damage)
        read.clear()
        assert copy_of(archive) == copy == copy_of(archive) and read == ["content"]

    def test_a_copy_in_the_middle_of_its_bytes_changed_after_its_check(self, archive, folder, read):
        folder.chmod(0o777)
        copy = copy_of(archive)
        before = os.stat(copy)
        with open(copy, "r+b") as file:
            file.seek(700)
            file.write(b"changed")
        os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))
        read.clear()
        assert is_of(first_picture(archive), PICTURES) and read == ["content", "content"]  # compared, then unpacked


class TestChangedArchive:
    def change(self, path, content):
        """In place: size, inode and mtime stay."""
        before = os.stat(path)
        with open(path, "r+b") as file:
            file.write(content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        after = os.stat(path)
        assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)

    @pytest.mark.parametrize("middle", [False, True])
    def test_within_size_and_mtime_gives_the_new_pictures(self, tmp_path, cache, middle):  # noqa: F811
        """`middle`: more than a MiB away from both ends, in a part of its own."""
        import gzip

        noise = np.random.default_rng(0).bytes(2 << 20)
        ends = ({"zoo/0.bin": noise}, {"zoo/1.bin": noise}) if middle else ({}, {})
        first, second = (
            b"".join(
                gzip.compress(part, 0, mtime=0)
                for part in (
                    tar_parts(tmp_path, ends[0]),
                    tar_parts(tmp_path, files),
                    tar_parts(tmp_path, ends[1], True),
                )
            )
            for files in ({"ant/0.png": b"a" * 600}, {"ant/0.png": b"b" * 600})
        )
        path = tmp_path / "set.tar.gz"
        path.write_bytes(first)
        old = copy_of(path)
        with open(old, "rb") as file:
            assert b"a" * 600 in file.read()
        self.change(path, second)
        with open(copy_of(path), "rb") as file:
            assert b"b" * 600 in file.read()
        assert len(copies(cache / "data")) == 1

    @pytest.mark.parametrize("kind", ["gz", "xz", "bz2"])
    def test_a_replaced_one_takes_the_older_copys_place(self, tmp_path, folder, kind, capsys):
        path = tar_of(tmp_path / f"set.tar.{kind}", PICTURES, f"w:{kind}")
        old = copy_of(path)
        tar_of(path, OTHERS, f"w:{kind}")
        new = copy_of(path)
        assert copies(folder) == [os.path.basename(new)] and is_of(first_picture(path), OTHERS)
        assert f"jvan: removed {old}: its archive has changed or is gone" in capsys.readouterr().err
        assert sorted(os.listdir(folder)) == sorted(os.path.basename(new) + end for end in ("", ".json", ".lock"))

    def test_a_copy_that_is_being_read_stays_until_the_next_start(self, archive, folder):
        split = open_split(archive)
        wanted = np.asarray(split.picture(3))
        tar_of(archive, OTHERS, "w:gz")
        assert is_of(first_picture(archive), OTHERS) and len(copies(folder)) == 2
        assert np.array_equal(np.asarray(split.picture(3)), wanted)
        del split
        assert is_of(first_picture(archive), OTHERS) and len(copies(folder)) == 1

    def test_a_change_while_it_is_unpacked_is_told(self, archive, folder, monkeypatch):
        content = Archive.content

        def slowly(self):
            os.utime(archive, ns=(1, 1))
            return content(self)

        monkeypatch.setattr(Archive, "content", slowly)
        with pytest.raises(DataError, match="changed while it was read"):
            open_split(archive)
        assert copies(folder) == []


def tar_parts(tmp_path, files, last=False) -> bytes:
    """Members without a tar file's end, so that more can follow; `last`: with it."""
    data = tar_of(tmp_path / "part.tar", files).read_bytes()
    return data if last else data.rstrip(b"\0") + bytes(-len(data.rstrip(b"\0")) % 512)


class TestNoSecondCopy:
    @pytest.mark.parametrize("how", ["touch", "chmod", "replace"])
    def test_a_touched_archive_is_looked_at_once(self, archive, folder, how, read, capsys):
        copy = copy_of(archive)
        stamp = os.stat(copy).st_ino
        read.clear()
        if how == "touch":
            os.utime(archive, ns=(1, 1))
        elif how == "chmod":
            archive.chmod(0o600)
        else:
            os.replace(shutil.copy(archive, archive.with_name("copy")), archive)
        assert [copy_of(archive) for _ in range(3)] == [copy] * 3 and os.stat(copy).st_ino == stamp
        assert read == ["whole"] and copies(folder) == [os.path.basename(copy)]
        assert capsys.readouterr().err.count("unpacking") == 1

    def test_machines_that_see_other_inodes_need_no_look(self, archive, folder, read, monkeypatch):
        copy = copy_of(archive)
        made = Archive.__init__

        def elsewhere(self, *arguments):
            made(self, *arguments)
            self.seen[0] += 1

        monkeypatch.setattr(Archive, "__init__", elsewhere)
        read.clear()
        assert copy_of(archive) == copy and read == []

    def test_an_uncompressed_tar_file_is_read_where_it_lies(self, tmp_path, cache):  # noqa: F811
        path = tar_of(tmp_path / "set.tar", PICTURES)
        assert copy_of(path) == str(path) and not cache.exists()
        (tmp_path / "link.tar").symlink_to(path)
        assert is_of(first_picture(tmp_path / "link.tar"), PICTURES)

    def test_an_archive_that_is_a_link_has_the_copy_of_its_file(self, archive, folder):
        link = archive.with_name("link.tar.gz")
        link.symlink_to(archive)
        first = copy_of(archive)
        assert len({first, copy_of(archive)}) == 1
        assert os.path.basename(copy_of(link)).split("-", 1)[1] == os.path.basename(first).split("-", 1)[1]


class TestAdministratorsFolder:
    """A shared folder with a copy of another user's, in which nothing may be written."""

    @pytest.fixture
    def shared(self, archive, folder):
        copy = plant(folder / name_of(archive), PICTURES, OTHER)
        os.chown(folder, OTHER, OTHER)
        folder.chmod(0o555)
        return copy

    @as_root
    @pytest.mark.parametrize("old", [False, True])
    def test_it_is_compared_once_and_never_refused(self, archive, shared, old, read):
        if old:
            shared = shared.rename(shared.with_name(name_of(archive, old=True)))
        before = [(entry.name, entry.stat().st_ctime_ns) for entry in os.scandir(shared.parent)]
        for _ in range(3):
            assert is_of(first_picture(archive), PICTURES)
            assert read == ["content"]
        assert before == [(entry.name, entry.stat().st_ctime_ns) for entry in os.scandir(shared.parent)]

    @as_root
    def test_one_that_root_made_is_believed(self, archive, folder, read, monkeypatch):
        copy = copy_of(archive)
        read.clear()
        monkeypatch.setattr(os, "getuid", lambda: OTHER)
        assert copy_of(archive) == copy and read == []
        assert leftovers.leftovers() == []

    @as_root
    def test_a_cache_of_ones_own_that_cannot_be_written(self, archive, shared, read, monkeypatch, tmp_path, capsys):
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        for times in (1, 2):
            assert copy_of(archive) == str(shared)
            assert read == ["content"] * times and "cannot be written" in capsys.readouterr().err

    @as_root
    def test_a_changed_copy_is_compared_again(self, archive, shared, read):
        copy_of(archive)
        with open(shared, "r+b") as file:
            file.seek(700)
            file.write(b"changed")
        with pytest.raises(DataError, match="belongs to another user"):
            copy_of(archive)
        assert len(read) == 2

    @as_root
    def test_nothing_of_anybody_elses_is_removed(self, archive, shared, tmp_path):
        copy_of(archive)
        archive.unlink()
        copy_of(tar_of(tmp_path / "other.tar.gz", OTHERS, "w:gz"))
        assert shared.exists() and len(copies(shared.parent)) == 2
