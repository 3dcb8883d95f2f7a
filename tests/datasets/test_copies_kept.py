"""Unpacked copies of archives: links in their places, what is removed, and what happens between two looks."""

import os
import shutil
import stat

import numpy as np
import pytest

from jvan.data import leftovers, unpack
from jvan.data.source import open_split
from jvan.errors import DataError

from .copying import OTHERS, PICTURES, copies, first_picture, is_of, name_of, plant
from .drawn import tar_of
from .test_source import cache, one_line  # noqa: F401
from .test_tar import copy_of


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
