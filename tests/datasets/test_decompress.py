"""gzip, xz and bzip2: whatever their tools write is read, and nothing takes more memory or disk than there is."""

import bz2
import gzip
import lzma
import shutil
import struct
import subprocess
import sys
import zlib
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from jvan.data import new_copy
from jvan.data.decompress import decompressed, kind_of
from jvan.data.source import open_split
from jvan.errors import DataError
from jvan.memory_limit import Limit

from .drawn import class_files, tar_of
from .test_source import cache, one_line  # noqa: F401
from .test_tar import copy_of

PACK = {"gzip": gzip.compress, "xz": lzma.compress, "bzip2": bz2.compress}
NOISE = np.random.default_rng(0).bytes(100_000)
CONTENTS = {
    "empty": b"",
    "one": b"x",
    "noise": NOISE * 12,
    "zeros": bytes(5 << 20),
    "odd": (NOISE[:9000] + bytes(70_000)) * 20,
}


def unpacked(data: bytes, step: int = 1 << 20) -> bytes:
    """By the reader, which gets at most `step` bytes at a time."""
    at = 0

    def read(count):
        nonlocal at
        at += (size := min(count, step))
        return data[at - size : at]

    pieces = list(decompressed(read, kind_of(data), "a"))
    assert max(map(len, pieces), default=0) <= 1 << 20
    return b"".join(pieces)


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("kind", PACK)
def test_what_the_tools_write(kind, content):
    data = PACK[kind](CONTENTS[content])
    assert kind_of(data) == kind and unpacked(data) == CONTENTS[content]


@pytest.mark.parametrize("between", [b"", bytes(4), bytes(3 << 20)])
@pytest.mark.parametrize("kind", PACK)
def test_several_parts(kind, between):
    """As `cat`, pbzip2 and `tar -A` leave them."""
    parts = (NOISE, b"", bytes(2 << 20), b"last")
    data = between.join(PACK[kind](part) for part in parts) + between
    assert unpacked(data) == b"".join(parts)
    small = between.join(PACK[kind](part) for part in (b"a", b"", b"c"))[: 1 << 20]
    if len(between) < 10:
        assert unpacked(small, 1) == b"ac"


@pytest.mark.parametrize("kind", PACK)
def test_damage(kind):
    data = PACK[kind](NOISE)
    end = len(data)
    damaged = [data[: end - 1], data[: end // 2], data[:20], data + b"garbage", data + data[:-5], data + data[:3]]
    damaged += [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in (end // 2, end - 6)]
    for each in damaged:
        with pytest.raises(DataError, match=r"^a: damaged or cut short"):
            unpacked(each)


@pytest.mark.parametrize(
    "options", [{}, {"preset": 9}, {"preset": 9 | lzma.PRESET_EXTREME}, {"check": lzma.CHECK_NONE}]
)
def test_xz_of_every_preset(options):
    assert unpacked(lzma.compress(NOISE, **options)) == NOISE


def test_xz_with_filters_and_sizes():
    filters = [
        {"id": lzma.FILTER_DELTA, "dist": 3},
        {"id": lzma.FILTER_X86},
        {"id": lzma.FILTER_LZMA2, "dict_size": 1 << 22},
    ]
    assert unpacked(lzma.compress(NOISE, filters=filters)) == NOISE


def greedy_xz(content: bytes = bytes(1000)) -> bytes:
    """A small xz file whose header asks for a dictionary of 4 GiB."""
    data = lzma.compress(content, check=lzma.CHECK_CRC32, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}])
    end = 12 + 4 * (data[12] + 1)
    header = bytearray(data[12 : end - 4])
    header[header.index(b"\x21\x01") + 2] = 40
    return data[:12] + header + struct.pack("<I", zlib.crc32(header)) + data[end:]


LIMITED = """
import resource, sys
from jvan.data.source import open_split
from jvan.errors import DataError
from jvan.memory_limit import Limit
with open("/proc/self/statm") as file:
    now = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (300 << 20),) * 2)
try:
    print(len(open_split(sys.argv[1])))
except DataError as error:
    print(error)
"""


def limited(path) -> str:
    """What `open_split` gives where a process may take 300 MiB more."""
    root = Path(__file__).parents[2]
    # Jittor, where this process has imported it, asks for stacks of 512 MiB: a child's threads would take so much each.
    command = ["sh", "-c", 'ulimit -s 8192; exec "$@"', "sh", sys.executable, "-c", LIMITED, path]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.count("\n") == 1, done.stderr
    return done.stdout.strip()


def test_a_greedy_xz_is_one_line(tmp_path, cache):  # noqa: F811
    path = tmp_path / "set.tar.xz"
    path.write_bytes(greedy_xz())
    assert path.stat().st_size <= 240
    said = limited(path)
    assert said.startswith(f"{path}: unpacking it takes 4,095 MiB of memory, and this process may have ")
    assert said.endswith("raise its limit, or pack it again with xz -6")


def test_a_greedy_second_part_is_one_line(tmp_path, cache):  # noqa: F811
    path = tmp_path / "set.tar.xz"
    path.write_bytes(lzma.compress(bytes(10_000)) + greedy_xz())
    assert "unpacking it takes 4,095 MiB" in limited(path)


def test_a_decoder_without_memory_is_one_line(monkeypatch):
    def none(*_, **__):
        raise MemoryError

    monkeypatch.setattr(lzma, "LZMADecompressor", none)
    with pytest.raises(DataError, match=r"^a: unpacking it takes more memory than this process may have"):
        unpacked(lzma.compress(b"x"))


def test_xz_9_is_read_under_the_same_limit(tmp_path, cache):  # noqa: F811
    assert limited(tar_of(tmp_path / "set.tar.xz", class_files(), "w:xz", preset=9)) == "6"


def test_a_greedy_xz_is_read_where_there_is_memory(monkeypatch):
    monkeypatch.setattr("jvan.data.decompress.available_memory", lambda: Limit(8 << 30, "the test"))
    assert unpacked(greedy_xz(b"content")) == b"content"


Usage = namedtuple("Usage", "total used free")


class TestDisk:
    @pytest.mark.parametrize(("total", "kept"), [(100 << 30, 256 << 20), (1 << 30, (1 << 30) // 20)])
    def test_a_part_of_it_stays_free(self, monkeypatch, total, kept):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(total, 0, 1 << 30))
        assert new_copy.disk_allowed("/") == (1 << 30) - kept

    def test_an_archive_that_has_no_room_is_refused_at_once(self, tmp_path, cache, monkeypatch):  # noqa: F811
        path = tar_of(tmp_path / "set.tar.gz", {"a/b.png": np.random.default_rng(1).bytes(5 << 19)}, "w:gz")
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100 << 30, 0, (256 << 20) + (1 << 20)))
        with pytest.raises(DataError) as error:
            open_split(path)
        said = one_line(error)
        assert "set.tar.gz holds 2 MiB, and 1 MiB may be written to" in said and "JVAN_CACHE" in said
        assert not [path for path in (cache / "data").iterdir() if path.suffix != ".lock"]

    def test_unpacking_stops_before_the_disk_is_full(self, tmp_path, cache, monkeypatch):  # noqa: F811
        monkeypatch.setattr(new_copy, "BETWEEN", 1 << 20)
        path = tar_of(tmp_path / "set.tar.gz", {"a/b.png": bytes(20 << 20)}, "w:gz")

        def usage(folder):
            taken = sum(path.stat().st_size for path in Path(folder).iterdir())
            return Usage(100 << 30, 0, (256 << 20) + (5 << 20) - taken)

        monkeypatch.setattr(shutil, "disk_usage", usage)
        with pytest.raises(DataError, match=r"unpacks to more than [345] MiB, and 5 MiB may be written to"):
            open_split(path)
        assert not [path for path in (cache / "data").iterdir() if path.suffix != ".lock"]

    def test_a_disk_with_room_for_it_is_used(self, tmp_path, cache, monkeypatch):  # noqa: F811
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100 << 30, 0, (256 << 20) + (64 << 20)))
        assert copy_of(tar_of(tmp_path / "set.tar.gz", class_files(), "w:gz"))
