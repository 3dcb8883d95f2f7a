"""The tar reader against Python's own, and against archives that mean harm."""

import errno
import fcntl
import io
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from jvan.data.source import open_split
from jvan.data.tar_index import index_tar
from jvan.data.unpack import plain_tar
from jvan.errors import DataError
from jvan.pictures.read import read_picture

from .drawn import class_files, encoded, pixels, tar_of
from .test_source import cache, one_line  # noqa: F401

LONG = "/".join(["deep" * 12] * 5)


def copy_of(path) -> str:
    """Where the unpacked copy of an archive lies."""
    with plain_tar(str(path)) as file:
        return file.name


@pytest.mark.parametrize("style", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_lie_where_pythons_reader_finds_them(tmp_path, style):
    rng = np.random.default_rng(style)
    files = {
        f"c{n % 3}/{n:03}{'x' * int(rng.integers(0, 80))}.bin": rng.bytes(int(rng.integers(0, 2000))) for n in range(60)
    }
    if style != tarfile.USTAR_FORMAT:
        files.update({f"{LONG}/{'n' * 150}.bin": b"long", "c1/größe 猫.bin": b"unicode"})
    path = tar_of(tmp_path / "a.tar", files, format=style)
    with open(path, "rb") as file:
        index = index_tar(file, "a.tar")
    with tarfile.open(path) as archive:
        wanted = {m.name: (m.offset_data, m.size) for m in archive if m.isreg()}
        folders = {m.name.rstrip("/") for m in archive if m.isdir()}  # Python 3.9 leaves it on long names
    assert dict(zip(index.names, zip(index.offsets, index.sizes))) == wanted and set(wanted) == set(files)
    assert index.folders == folders


def test_a_tar_file_of_tar_files(tmp_path):
    """ImageNet's ILSVRC2012_img_train.tar: one a class."""
    inner = {}
    for name in ("n01", "n02"):
        files = {f"{name}_{n}.JPEG": encoded(n, "JPEG") for n in range(3)}
        inner[f"{name}.tar"] = tar_of(tmp_path / f"{name}.tar", files).read_bytes()
    split = open_split(tar_of(tmp_path / "all.tar", inner))
    assert split.classes == ("n01", "n02") and split.labels.tolist() == [0, 0, 0, 1, 1, 1]
    with open(tmp_path / "one", "wb") as file:
        file.write(encoded(2, "JPEG"))
    assert np.array_equal(np.asarray(split.picture(5)), np.asarray(read_picture(tmp_path / "one")))


def test_damage_in_an_inner_tar_file_is_found(tmp_path):
    inner = tar_of(tmp_path / "n01.tar", {"a.JPEG": bytes(5000)}).read_bytes()[:3000]
    with pytest.raises(DataError, match=r"n01\.tar: .* claims 5,000 bytes"):
        open_split(tar_of(tmp_path / "all.tar", {"n01.tar": inner, "n02.tar": bytes(9000)}))


def test_links_and_devices_are_passed_over(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo(f"ant/{kind.decode()}.png")
            member.type, member.linkname, member.size = kind, "/etc/passwd", 5000
            archive.addfile(member)
        for name, data in class_files().items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    split = open_split(path)
    assert len(split) == 6 and not [n for n in range(6) if "/etc" in split.name(n)]
    for n in range(6):
        split.picture(n)


@pytest.mark.parametrize("style", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_hard_links_are_the_files_they_lead_to(tmp_path, style):
    """To one before them, to a hidden one, to another link, by long names; the content is that of the moment, as for tar."""
    long = f"ant/{'n' * 90}.png" if style == tarfile.USTAR_FORMAT else f"{LONG}/{'n' * 150}.png"
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=style) as archive:

        def add(name, data=None, target=None, kind=tarfile.LNKTYPE):
            member = tarfile.TarInfo(name)
            member.size = len(data or b"")
            member.type, member.linkname = (kind, target) if target else (tarfile.REGTYPE, "")
            archive.addfile(member, io.BytesIO(data or b""))

        add(".store/1", encoded(1))
        add(long, encoded(2))
        for n, target in enumerate([".store/1", f"./{long}", "bee/1.png", long]):
            add(f"bee/{n}.png", target=target)
        add(long, encoded(3))
        add("bee/8.png", target="../outside.png")
        add("bee/9.png", target="bee/0.png", kind=tarfile.SYMTYPE)
        add("bee/.hidden.png", target=long)
    split = open_split(path)
    found = {split.name(n).rpartition("/")[2]: np.asarray(split.picture(n)) for n in range(len(split))}
    seeds = {"0.png": 1, "1.png": 2, "2.png": 2, "3.png": 2, long.rpartition("/")[2]: 3}
    assert set(found) == set(seeds)
    assert all(np.array_equal(found[name], pixels(seed=seed)) for name, seed in seeds.items())
    assert len(split.notes) == 1 and split.notes[0].endswith("not followed: 2")


def test_absolute_names_are_only_names(tmp_path):
    path = tar_of(tmp_path / "a.tar", {f"/{name}": data for name, data in class_files().items()})
    assert open_split(path).classes == ("ant", "bee")


@pytest.mark.parametrize("name", ["../evil/a.png", "ant/../../a.png", "/../a.png"])
def test_a_name_that_climbs_out_is_refused(tmp_path, name):
    path = tar_of(tmp_path / "a.tar", {**class_files(), name: encoded()})
    with pytest.raises(DataError) as error:
        open_split(path)
    assert "unsafe" in one_line(error) and sorted(os.listdir(tmp_path)) == ["a.tar"]


@pytest.mark.parametrize("size", [1 << 33, (1 << 33) - 1, 1 << 62])
def test_a_member_that_claims_more_than_there_is(tmp_path, size):
    path = tar_of(tmp_path / "a.tar", class_files())
    member = tarfile.TarInfo("ant/huge.png")
    member.size = size
    content = path.read_bytes()
    path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + content)
    with pytest.raises(DataError) as error:
        open_split(path)
    assert "claims" in one_line(error)


def test_a_huge_name_is_refused(tmp_path):
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 1 << 20
    path = tmp_path / "a.tar"
    path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + b"n" * (1 << 20) + b"\0" * 1024)
    with pytest.raises(DataError, match="a name of"):
        open_split(path)


@pytest.mark.parametrize(
    "records",
    [b"99 path=x\n", b"x", b"10 size=-1\n", b"9 a", b"0 a=b\n", b"12 size=1e99\n", b"5008 size=" + b"9" * 4997 + b"\n"],
)
def test_damaged_extended_headers(tmp_path, records):
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, len(records)
    path = tmp_path / "a.tar"
    path.write_bytes(member.tobuf(tarfile.USTAR_FORMAT) + records.ljust(5120, b"\0") + b"\0" * 1024)
    with pytest.raises(DataError) as error:
        open_split(path)
    one_line(error)


@pytest.mark.parametrize("at", [0, 130, 156, 400])
def test_a_header_with_a_wrong_sum_is_refused(tmp_path, at):
    data = bytearray(tar_of(tmp_path / "a.tar", class_files()).read_bytes())
    data[at] ^= 1
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(DataError, match="damaged or cut short at byte 0"):
        open_split(tmp_path / "a.tar")


def test_any_damage_ends_in_one_line_or_in_other_pictures(tmp_path):
    whole = tar_of(tmp_path / "a.tar", class_files(each=2)).read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "b.tar"
    refused = 0
    for _ in range(300):
        data = bytearray(whole[: int(rng.integers(len(whole)))] if rng.random() < 0.3 else whole)
        for at in rng.integers(0, max(1, len(data)), 3):
            data[at : at + 1] = rng.bytes(1) if data else b""
        path.write_bytes(data)
        try:
            open_split(path)
        except DataError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 50


def test_the_last_of_two_members_with_one_name_counts(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for data in (b"old", encoded(3)):
            member = tarfile.TarInfo("ant/a.png")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    assert open_split(path).picture(0).size == (24, 20)


@pytest.mark.parametrize("kind", ["gz", "xz", "bz2"])
class TestCompressed:
    def test_it_is_unpacked_once(self, tmp_path, kind, cache, capsys):  # noqa: F811
        path = tar_of(tmp_path / f"set.tar.{kind}", class_files(), f"w:{kind}")
        first = copy_of(path)
        before = os.stat(first).st_mtime_ns
        assert copy_of(path) == first and os.stat(first).st_mtime_ns == before
        assert capsys.readouterr().err.count("unpacking") == 1
        assert sorted(os.path.splitext(name)[1] for name in os.listdir(cache / "data")) == [".json", ".lock", ".tar"]

    def test_a_changed_archive_is_unpacked_anew(self, tmp_path, kind):
        path = tar_of(tmp_path / f"set.tar.{kind}", class_files(), f"w:{kind}")
        assert len(open_split(path)) == 6
        tar_of(path, class_files(each=4), f"w:{kind}")
        assert len(open_split(path)) == 8

    @pytest.mark.parametrize("keep", [0.5, 0.99])
    def test_a_truncated_one_leaves_nothing(self, tmp_path, kind, keep, cache):  # noqa: F811
        path = tar_of(tmp_path / f"set.tar.{kind}", class_files(each=30), f"w:{kind}")
        data = path.read_bytes()
        path.write_bytes(data[: int(keep * len(data))])
        with pytest.raises(DataError) as error:
            open_split(path)
        assert "damaged or cut short" in one_line(error)
        assert [name for name in os.listdir(cache / "data") if not name.endswith(".lock")] == []

    def test_a_bomb_is_refused(self, tmp_path, kind, cache, monkeypatch):  # noqa: F811
        monkeypatch.setattr("jvan.data.new_copy.FREE_RATIO", 1 << 20)
        path = tar_of(tmp_path / f"set.tar.{kind}", {"a/zeros.png": bytes(20 << 20)}, f"w:{kind}")
        with pytest.raises(DataError, match="unsafe"):
            open_split(path)
        assert [name for name in os.listdir(cache / "data") if not name.endswith(".lock")] == []

    def test_what_a_killed_process_left_is_cleared(self, tmp_path, kind, cache):  # noqa: F811
        path = tar_of(tmp_path / f"set.tar.{kind}", class_files(), f"w:{kind}")
        first = copy_of(path)
        os.rename(first, os.path.join(os.path.dirname(first), f".{os.path.basename(first)}.0123456789ab.part"))
        assert copy_of(path) == first
        assert not [name for name in os.listdir(cache / "data") if name.endswith(".part")]

    def test_a_cache_that_cannot_be_written(self, tmp_path, kind, monkeypatch):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("JVAN_CACHE", str(tmp_path / "file"))
        path = tar_of(tmp_path / f"set.tar.{kind}", class_files(), f"w:{kind}")
        with pytest.raises(DataError) as error:
            open_split(path)
        assert "JVAN_CACHE" in one_line(error)

    def test_a_full_disk_is_one_line(self, tmp_path, kind, cache, monkeypatch):  # noqa: F811
        path = tar_of(tmp_path / f"set.tar.{kind}", class_files(), f"w:{kind}")

        def full(descriptor):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(DataError) as error:
            open_split(path)
        assert "No space left" in one_line(error)
        assert [name for name in os.listdir(cache / "data") if not name.endswith(".lock")] == []


def test_processes_that_begin_together_unpack_once(tmp_path, cache):  # noqa: F811
    path = tar_of(tmp_path / "set.tar.xz", class_files(each=40), "w:xz")
    target = copy_of(path)
    os.unlink(target)
    os.unlink(f"{target}.json")
    code = f"from jvan.data.source import open_split; print('go', flush=True); print(len(open_split({str(path)!r})))"
    command, root = [sys.executable, "-c", code], Path(__file__).parents[2]
    with open(f"{target}.lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as one that has just begun
        many = [subprocess.Popen(command, cwd=root, stdout=-1, stderr=-1, text=True) for _ in range(3)]
        assert [process.stdout.readline() for process in many] == ["go\n"] * 3
        time.sleep(0.3)
        assert os.listdir(cache / "data") == [os.path.basename(lock.name)]
    ends = [process.communicate(timeout=60) for process in many]
    assert [out for out, _ in ends] == ["80\n"] * 3
    assert "".join(errors for _, errors in ends).count("unpacking") == 1
