"""Unpacked copies of archives: which are believed, which are compared first, and which are removed."""

import json
import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

from jvan.data import leftovers, unpack
from jvan.data.archive import Archive
from jvan.data.copies import stamp_of
from jvan.data.decompress import kind_of
from jvan.data.source import open_split
from jvan.errors import DataError

from .drawn import class_files, encoded, tar_of
from .test_source import cache, one_line  # noqa: F401
from .test_tar import copy_of

OTHER = 54321  # a user that this machine does not have
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
PICTURES, OTHERS = class_files(), {name: encoded(50) for name in class_files()}


@pytest.fixture
def archive(tmp_path):
    return tar_of(tmp_path / "set.tar.gz", PICTURES, "w:gz")


@pytest.fixture
def folder(cache):  # noqa: F811
    """Where copies lie, made by nobody but its owner."""
    path = cache / "data"
    path.mkdir(parents=True, mode=0o755)
    return path


@pytest.fixture
def read(monkeypatch):
    """What of archives was read through: a list that grows."""
    found, content, whole = [], Archive.content, Archive.whole.func

    def counted_content(self):
        found.append("content")
        return content(self)

    monkeypatch.setattr(Archive, "content", counted_content)
    monkeypatch.setattr(Archive.whole, "func", lambda self: found.append("whole") or whole(self))
    return found


def name_of(archive, old=False) -> str:
    """The copy's name, which anybody can work out; `old`: as 0.1.0 called it."""
    looked = Archive(str(archive), kind_of(archive.read_bytes()[:6]))
    return looked.copy_name_of_0_1 if old else looked.copy_name


def plant(place, files, owner=None):
    """An uncompressed tar file as a copy."""
    tar_of(place, files).chmod(0o644)
    if owner is not None:
        os.chown(place, owner, owner)
    return place


def first_picture(path) -> np.ndarray:
    return np.asarray(open_split(path).picture(0))


def is_of(picture: np.ndarray, files) -> bool:
    """Whether the first picture is that of these files."""
    import io

    from PIL import Image

    with Image.open(io.BytesIO(files["ant/0.png"])) as wanted:
        return np.array_equal(picture, np.asarray(wanted))


def copies(folder) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.endswith(".tar"))


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
        assert f"{planted} is not what {archive} unpacks to; it is made anew" in capsys.readouterr().err

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
        assert f"removed {old}: its archive has changed or is gone" in capsys.readouterr().err
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


class TestLinks:
    @pytest.fixture
    def victim(self, tmp_path):
        path = tmp_path / "victim"
        path.write_bytes(b"somebody's")
        return path

    @pytest.mark.parametrize("there", [True, False])
    @pytest.mark.parametrize("name", ["copy", "lock"])
    def test_a_link_is_not_followed(self, archive, folder, victim, name, there):
        if not there:
            victim.unlink()
        link = folder / (name_of(archive) + (".lock" if name == "lock" else ""))
        link.symlink_to(victim)
        with pytest.raises(DataError) as error:
            open_split(archive)
        assert f"{link}: is a link, and links are not followed here; remove it" == one_line(error)
        assert victim.read_bytes() == b"somebody's" if there else not victim.exists()

    @pytest.mark.parametrize("link", [os.link, os.symlink])
    def test_a_name_that_could_be_foreseen_is_not_written(self, archive, folder, victim, link):
        """As 0.1.0 called what is half unpacked."""
        for name in (name_of(archive), name_of(archive, old=True)):
            link(victim, folder / f"{name}.{os.getpid()}.part")
        assert is_of(first_picture(archive), PICTURES) and victim.read_bytes() == b"somebody's"

    @pytest.mark.parametrize("umask", [0o000, 0o022])
    def test_ones_own_cache_is_private_and_a_shared_one_as_the_umask_says(
        self, archive, tmp_path, monkeypatch, umask, read
    ):
        before = os.umask(umask)
        try:
            monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
            shared = copy_of(archive)
            monkeypatch.delenv("JVAN_CACHE")
            own = copy_of(archive)
            assert copy_of(archive) == own and read == ["content"] * 2
        finally:
            os.umask(before)
        modes = [stat.S_IMODE(os.stat(path).st_mode) for path in (os.path.dirname(own), os.path.dirname(shared))]
        assert modes == [0o700, 0o777 & ~umask]
        assert not os.stat(own).st_mode & 0o002 and not os.stat(shared).st_mode & 0o002

    def test_a_folder_above_may_be_a_link(self, archive, cache, tmp_path):  # noqa: F811
        (tmp_path / "scratch").mkdir()
        cache.mkdir()
        (cache / "data").symlink_to(tmp_path / "scratch")
        assert is_of(first_picture(archive), PICTURES) and len(copies(tmp_path / "scratch")) == 1
        assert copy_of(archive) == str(cache / "data" / copies(tmp_path / "scratch")[0])


class TestLeftovers:
    def test_a_copy_of_0_1_is_taken_over(self, archive, folder, read, capsys):
        old = plant(folder / name_of(archive, old=True), PICTURES)
        number = os.stat(old).st_ino
        copy = copy_of(archive)
        assert copies(folder) == [os.path.basename(copy)] == [name_of(archive)] and os.stat(copy).st_ino == number
        assert copy_of(archive) == copy and read == ["content"] and "unpacking" not in capsys.readouterr().err

    def test_a_copy_of_0_1_that_is_wrong_is_replaced(self, archive, folder):
        plant(folder / name_of(archive, old=True), OTHERS)
        assert is_of(first_picture(archive), PICTURES) and copies(folder) == [name_of(archive)]

    def test_a_copy_whose_archive_is_gone_goes_with_the_next_unpacking(self, archive, folder, tmp_path):
        copy_of(archive)
        archive.unlink()
        other = copy_of(tar_of(tmp_path / "other.tar.gz", OTHERS, "w:gz"))
        assert copies(folder) == [os.path.basename(other)]

    @pytest.mark.parametrize("how", ["no folder", "another folder"])
    def test_a_copy_whose_archives_disk_is_away_is_kept_and_listed(self, tmp_path, folder, how):
        """Where a disk was mounted there is no folder now, or the empty one that it was mounted on."""
        disk = tmp_path / "disk"
        disk.mkdir()
        archive = tar_of(disk / "set.tar.gz", PICTURES, "w:gz")
        copy = copy_of(archive)
        disk.rename(tmp_path / "unmounted")
        if how == "another folder":
            disk.mkdir()
        other = copy_of(tar_of(tmp_path / "other.tar.gz", OTHERS, "w:gz"))
        assert set(copies(folder)) == {os.path.basename(copy), os.path.basename(other)}
        (found,) = leftovers.leftovers()
        assert found == (copy, os.stat(copy).st_size, f"{archive} is not there")
        shutil.rmtree(disk, ignore_errors=True)
        (tmp_path / "unmounted").rename(disk)
        assert copy_of(archive) == copy and leftovers.leftovers() == []

    def test_unknown_copies_and_halves_are_listed_and_others_files_are_not(self, archive, folder):
        copy = copy_of(archive)
        names = (
            "set-0123456789abcdef.tar",
            ".set-0123456789abcdef.tar.0123456789ab.part",
            "set-0123456789abcdef.tar.12.part",
        )
        for name in (*names, "my-own.tar", "notes.part"):
            (folder / name).write_bytes(b"12345")
            os.utime(folder / name, ns=(1, 1))
        (folder / "new-0123456789abcdef.tar.13.part").touch()  # somebody unpacks just now
        found = leftovers.leftovers()
        assert {os.path.basename(each.path) for each in found} == set(names) and {each.size for each in found} == {5}
        assert os.path.exists(copy)


def test_a_lock_that_may_only_be_read_keeps_nobody_out(archive, folder, monkeypatch):
    """Another user's, whose unpacking was killed."""
    lock = folder / f"{name_of(archive)}.lock"
    lock.touch()
    opened = os.open

    def refused(path, flags, *mode, **how):
        if os.fspath(path) == str(lock) and flags & os.O_CREAT:
            raise PermissionError(13, "Permission denied", path)
        return opened(path, flags, *mode, **how)

    monkeypatch.setattr(os, "open", refused)
    assert len(open_split(str(archive), "train"))


def test_a_copy_that_is_changed_right_after_it_was_compared_is_not_believed_later(archive, folder, monkeypatch):
    """Within size and mtime, by whoever may write it."""
    copy = plant(folder / name_of(archive), PICTURES)
    copy.chmod(0o666)
    opened = unpack.open_copy

    def changed(path, stamp):
        times = os.stat(path).st_mtime_ns
        with open(path, "r+b") as file:
            file.write(b"x")
        os.utime(path, ns=(times, times))
        return opened(path, stamp)

    with monkeypatch.context() as race:
        race.setattr(unpack, "open_copy", changed)
        unpack.plain_tar(str(archive)).close()
    with unpack.plain_tar(str(archive)) as file:
        assert file.read(1) != b"x"


def test_a_file_that_takes_the_copys_place_is_not_read(archive, folder):
    """By a worker of a loader, which opens it anew."""
    import pickle

    split = open_split(archive)
    there = pickle.dumps(split)
    assert is_of(np.asarray(pickle.loads(there).picture(0)), PICTURES)
    copy = folder / copies(folder)[0]
    os.replace(plant(folder / "new", OTHERS), copy)
    with pytest.raises(ValueError, match="another file has taken the archive's place"):
        pickle.loads(there).picture(0)
    assert is_of(np.asarray(split.picture(0)), PICTURES)
