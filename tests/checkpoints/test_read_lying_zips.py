"""Zip archives whose directory, headers and entries contradict each other; PyTorch's and numpy's."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import numpy as np
import pytest

from jvan.checkpoints.file_bytes import Source
from jvan.checkpoints.formats.zip_container import ZipContainer
from jvan.checkpoints.reader import open_checkpoint
from jvan.errors import CheckpointError

from .crafted import ARRAY, deflated, npy, pickled, read, refused, state, torch_storage, torch_tensor, torch_zip

BODY = state(w=torch_tensor())
HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"


class Entry:
    """One file of an archive; what its own header and the directory say can be set apart from the truth."""

    def __init__(self, name: str, data: bytes, method: int = 0, **lies):
        packed = deflated(data) if method == 8 else data
        truth = {"name": name, "method": method, "flags": 0, "crc": zlib.crc32(data)}
        truth.update(packed=len(packed), size=len(data), offset=None)
        self.data, self.truth, self.lies = packed, truth, lies

    def say(self, where: str) -> dict:
        """Keywords `local_size=…`, `directory_crc=…`; `both_method=…`."""
        mine = {key.split("_", 1)[1]: value for key, value in self.lies.items() if key.startswith((where, "both"))}
        return {**self.truth, **mine}


def build(path, entries, count=None, comment=b"", **end_lies):
    """Write the archive."""
    out, rows = io.BytesIO(), []
    for entry in entries:
        told, here = entry.say("local"), out.tell()
        name = told["name"].encode()
        numbers = (20, told["flags"], told["method"], 0, 0, told["crc"], told["packed"], told["size"], len(name), 0)
        out.write(struct.pack("<4s5H3L2H", b"PK\3\4", *numbers) + name + entry.data)
        rows.append((entry.say("directory"), here))
    start = out.tell()
    for told, here in rows:
        name = told["name"].encode()
        numbers = (20, 20, told["flags"], told["method"], 0, 0, told["crc"], told["packed"], told["size"], len(name))
        offset = here if told["offset"] is None else told["offset"]
        out.write(struct.pack("<4s6H3L5H2L", b"PK\1\2", *numbers, 0, 0, 0, 0, 0, offset) + name)
    size = out.tell() - start
    end = {"disk": 0, "count": len(rows) if count is None else count, "size": size, "start": start, **end_lies}
    numbers = (end["disk"], 0, end["count"], end["count"], end["size"], end["start"], len(comment))
    out.write(struct.pack("<4s4H2LH", b"PK\5\6", *numbers) + comment)
    path.write_bytes(out.getvalue())
    return path


def parts(storage: Entry | None = None, pickle: Entry | None = None) -> list[Entry]:
    pickle = pickle or Entry("m/data.pkl", pickled(BODY))
    return [pickle, storage or Entry("m/data/0", ARRAY), Entry("m/version", b"3\n")]


def test_the_crafted_archive_is_good_where_it_does_not_lie(tmp_path):
    assert read(build(tmp_path / "x.pth", parts()))["w"].tolist() == [1, 2]
    assert read(build(tmp_path / "x.pth", parts(), comment=b"made by hand"))["w"].tolist() == [1, 2]
    packed = [Entry("m/data.pkl", pickled(BODY), 8), Entry("m/data/0", ARRAY, 8)]
    assert read(build(tmp_path / "x.pth", packed))["w"].tolist() == [1, 2]
    streamed = Entry("m/data/0", ARRAY, local_crc=0, local_packed=0, local_size=0, both_flags=8)
    assert read(build(tmp_path / "x.pth", parts(streamed)))["w"].tolist() == [1, 2]


CONTRADICT = "contradict each other"


@pytest.mark.parametrize(
    "lies, words",
    [
        ({"local_name": "m/data/1"}, CONTRADICT),
        ({"local_method": 8}, CONTRADICT),
        ({"local_size": 4}, CONTRADICT),
        ({"local_packed": 4}, CONTRADICT),
        ({"local_crc": 7}, CONTRADICT),
        ({"local_flags": 1}, CONTRADICT),
        ({"local_size": 0, "local_packed": 0, "local_crc": 0}, CONTRADICT),
        ({"directory_size": 1 << 31}, CONTRADICT),
        ({"both_size": 1 << 31}, "claims 2147483648 bytes in 8"),
        ({"both_size": 4}, "claims 4 bytes in 8"),
        ({"both_packed": 1 << 30, "both_size": 1 << 30}, "overlaps another"),
        ({"both_packed": 40, "both_size": 40}, "overlaps another"),
        ({"both_crc": 7}, "does not match its checksum"),
        ({"both_flags": 1}, "contradict|encrypted"),
        ({"directory_flags": 1}, "is encrypted"),
        ({"directory_flags": 0x2000}, "is encrypted"),
        ({"both_method": 12}, "compressed by method 12"),
        ({"both_method": 99}, "compressed by method 99"),
        ({"both_method": 8}, "cannot be inflated|is not 8 bytes"),
        ({"directory_offset": 0}, CONTRADICT),
        ({"directory_offset": 1 << 20}, "lies outside"),
        ({"directory_offset": 0xFFFFFFFF}, "lies outside"),
        ({"directory_offset": 3}, "no zip entry lies where"),
        ({"both_name": "m/data.pkl"}, "stands twice"),
        ({"both_name": "m/data/\0"}, "impossible name"),
        ({"both_name": "other/data/0"}, "in 2 folders"),
        ({"both_name": "m/other.pkl"}, "holds 2 pickles"),
        ({"both_name": "n/data.pkl"}, "holds 2 pickles in 2 folders"),
        ({"both_name": "m/data/00"}, "not in the archive"),
        ({"both_name": "m/constants.pkl"}, "TorchScript"),
        ({"both_name": "m/code/x.py"}, "TorchScript"),
    ],
)
def test_entries_that_lie(lies, words, tmp_path):
    path = build(tmp_path / "x.pth", parts(Entry("m/data/0", ARRAY, **lies)))
    with pytest.raises(CheckpointError, match=words):
        read(path)


@pytest.mark.parametrize("where", [0, 1, 2])
def test_bytes_shared_by_two_entries(where, tmp_path):
    """The same stretch of the file under two names: what one tool sees and another does not."""
    entries = parts()
    whole = build(tmp_path / "good.pth", entries).read_bytes()
    offset = whole.index(b"PK\3\4", 1 + whole.index(b"PK\3\4")) if where == 1 else 0
    double = Entry("m/data/9", b"", directory_offset=offset)
    with pytest.raises(CheckpointError, match=r"overlaps another|contradict each other"):
        read(build(tmp_path / "x.pth", [*entries, double]))


@pytest.mark.parametrize(
    "lies, words",
    [
        ({"count": 2}, "more than its entries"),
        ({"count": 4}, "directory is damaged"),
        ({"count": 65535}, "at most 50000"),
        ({"start": 0}, "does not lie where it claims"),
        ({"size": 10}, "does not lie where it claims"),
        ({"start": 0xFFFFFFF0}, "does not lie where it claims"),
        ({"disk": 1}, "one part of several"),
    ],
)
def test_directories_that_lie(lies, words, tmp_path):
    refused(build(tmp_path / "x.pth", parts(), **lies), words)


def test_bytes_around_the_archive(tmp_path):
    good = build(tmp_path / "x.pth", parts()).read_bytes()
    for data, words in (
        (
            good + b"\r\n",
            f"has 2 bytes after the end of its zip archive; fetch it again, or cut them off (its first {len(good)}",
        ),
        (good[:-1], "truncated"),
        (good[:40], "truncated"),
        (good[: len(good) // 2], "truncated"),
        (good[:30] + good, "does not lie where it claims"),
        (good + good, "does not lie where it claims"),
        (b"PK\5\6" + b"\0" * 18, "without weights"),
        (good.replace(b"PK\1\2", b"PK\1\3"), "directory is damaged"),
    ):
        (tmp_path / "x.pth").write_bytes(data)
        refused(tmp_path / "x.pth", words)


def test_zip64_records(tmp_path):
    """As PyTorch writes them for large files, and damaged."""
    count, size, start = 3, 300, 700
    good = torch_zip(tmp_path / "x.pth", BODY).read_bytes()
    end = good.index(b"PK\5\6")
    count, size, start = struct.unpack("<H2L", good[end + 10 : end + 20])

    def wide(count=count, size=size, start=start, at=end, length=44, part=0):
        record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", length, 45, 45, part, 0, count, count, size, start)
        locator = struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
        return (
            good[:end] + record + locator + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, *[2**32 - 1] * 2, 0)
        )

    (tmp_path / "x.pth").write_bytes(wide())
    assert read(tmp_path / "x.pth")["w"].tolist() == [1, 2]
    for lies in ({"count": 1 << 40}, {"size": 1 << 60}, {"start": 1 << 60}, {"at": 1 << 60}, {"length": 1 << 63}):
        (tmp_path / "x.pth").write_bytes(wide(**lies))
        with pytest.raises(CheckpointError):
            read(tmp_path / "x.pth")
    (tmp_path / "x.pth").write_bytes(wide(part=1))
    refused(tmp_path / "x.pth", "contradicts itself")


def bomb(size: int) -> Entry:
    """Zeros, which deflate a thousandfold."""
    return Entry("m/data/0", b"\0" * size, 8)


def test_decompression_bombs(tmp_path):
    """A claim beyond what deflate can do, an honest bomb, and one that claims less than it holds."""
    tensor = torch_tensor(shape=(1 << 28,), storage=torch_storage(count=1 << 28))
    beyond = build(
        tmp_path / "x.pth",
        [Entry("m/data.pkl", pickled(state(w=tensor))), Entry("m/data/0", ARRAY, 8, both_size=1 << 30)],
    )
    refused(beyond, "claims 1073741824 bytes in")
    honest = [Entry("m/data.pkl", pickled(BODY)), bomb(100 << 20)]
    path = build(tmp_path / "x.pth", honest)
    refused(path, "decompression bomb")
    modest = build(
        tmp_path / "x.pth", [Entry("m/data.pkl", pickled(BODY)), Entry("m/data/0", b"\0" * (8 << 20), 8, both_size=8)]
    )
    refused(modest, "is not 8 bytes long as it claims")
    pickle_bomb = Entry("m/data.pkl", b"\0" * (8 << 20), 8, both_size=100)
    refused(build(tmp_path / "x.pth", [pickle_bomb, Entry("m/data/0", ARRAY)]), "is not 100 bytes long as it claims")


def test_deflated_storages_are_charged_for(tmp_path):
    """Tensors that take turns at two deflated storages would inflate them again and again."""
    count = 1 << 20
    entries = [Entry(f"m/data/{key}", b"\0" * 4 * count, 8) for key in "01"]
    first, second = (torch_tensor(shape=(1,), storage=torch_storage(key, count)) for key in "01")
    turns = state(**{f"t{i}": (first, second)[i % 2] for i in range(60)})
    path = build(tmp_path / "x.pth", [Entry("m/data.pkl", pickled(turns)), *entries])
    refused(path, "its tensors claim")
    in_order = state(**{f"t{i}": (first, second)[i // 30] for i in range(60)})
    path = build(tmp_path / "x.pth", [Entry("m/data.pkl", pickled(in_order)), *entries])
    assert len(read(path)) == 60


def test_a_pickle_that_goes_on_after_its_end(tmp_path):
    body = pickled(BODY)[2:-1] + b".cposix\nsystem\n"
    refused(torch_zip(tmp_path / "x.pth", body), "goes on after its end")


@pytest.mark.parametrize("order, values", [("little", [1, 2]), ("big", [4.6006e-41, 8.96831e-44])])
def test_byte_order(order, values, tmp_path):
    path = torch_zip(tmp_path / "x.pth", BODY, extra=[("model/byteorder", order)])
    assert read(path)["w"].tolist() == pytest.approx(values, rel=1e-4)
    swapped = np.frombuffer(ARRAY, "<f4").astype(">f4").tobytes()
    path = torch_zip(tmp_path / "x.pth", BODY, {"0": swapped}, extra=[("model/byteorder", "big")])
    assert read(path)["w"].tolist() == [1, 2] and read(path)["w"].dtype.isnative


def test_an_unknown_byte_order(tmp_path):
    refused(torch_zip(tmp_path / "x.pth", BODY, extra=[("model/byteorder", "middle")]), "byte order \"b'middle")


def test_damage_in_a_storage_is_noticed_when_it_is_read(tmp_path):
    path = torch_zip(tmp_path / "x.pth", state(w=torch_tensor(), other=torch_tensor(storage=torch_storage("1"))))
    path = torch_zip(path, state(w=torch_tensor()), {"0": ARRAY, "1": b"untouched"})
    data = bytearray(path.read_bytes())
    data[data.index(b"untouched")] ^= 1
    path.write_bytes(data)
    assert read(path)["w"].tolist() == [1, 2]
    data[data.index(ARRAY)] ^= 1
    path.write_bytes(data)
    refused(path, 'the entry "model/data/0" does not match its checksum')


@pytest.mark.parametrize(
    "content, words",
    [
        (npy(HEADER.replace("<f4", "|O")), "Python objects"),
        (npy(HEADER.replace("'<f4'", "[('a', '<f4')]")), "numpy does not write for numbers"),
        (npy(HEADER.replace("<f4", "<U2")), 'of the type "U2"'),
        (npy(HEADER.replace("(2,)", "(3,)")), "needs more than the 2 elements"),
        (npy(HEADER.replace("(2,)", "(1,)")), "of 4 bytes is given 8"),
        (npy(HEADER.replace("(2,)", "(-2,)")), "numpy does not write for numbers"),
        (npy(HEADER.replace("(2,)", "(9999999999999999999,)")), "not counts of 0 or more"),
        (npy(HEADER.replace("(2,)", "(__import__('os').system('true'),)")), "numpy does not write for numbers"),
        (npy(HEADER.replace("(2,)", "(" * 9000)), "numpy does not write for numbers"),
        (npy(HEADER.replace("(2,)", "(" + "1, " * 40 + ")")), "a tensor has shape"),
        (npy(HEADER.replace("(2,)", "(2, 1 << 60)")), "numpy does not write for numbers"),
        (npy("{}"), "numpy does not write for numbers"),
        (npy(HEADER, version=4), "is no array of numpy's"),
        (npy(HEADER + " " * 40000, version=2), "is no array of numpy's"),
        (npy(HEADER)[:12], "is no array of numpy's"),
        (b"", "is no array of numpy's"),
        (b"PK", "is no array of numpy's"),
    ],
)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_lying_arrays_in_an_npz(content, words, method, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", method) as archive:
        archive.writestr("w.npy", content)
    refused(tmp_path / "x.npz", words)


def test_versions_of_the_npy_header(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for version in (1, 2, 3):
            archive.writestr(f"v{version}.npy", npy(HEADER, version=version))
        archive.writestr("old.npy", npy(HEADER.replace("(2,)", "(2L, 1L)")))
    assert {name: array.shape for name, array in read(tmp_path / "x.npz").items()} == {
        "v1": (2,),
        "v2": (2,),
        "v3": (2,),
        "old": (2, 1),
    }


def test_an_npz_bomb(tmp_path):
    """Zeros that deflate a thousandfold, in many arrays."""
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(20):
            archive.writestr(f"{i}.npy", npy(HEADER.replace("(2,)", f"({1 << 20},)"), b"\0" * (4 << 20)))
    refused(tmp_path / "x.npz", "decompression bomb")


def test_names_outside_ascii(tmp_path):
    """PyTorch names the folder after the file, without the flag for UTF-8."""
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("модель/data.pkl", pickled(BODY))
        archive.writestr("модель/data/0", ARRAY)
    assert read(tmp_path / "x.pth")["w"].tolist() == [1, 2]
    with Source.open_file(tmp_path / "x.pth") as source:
        assert list(ZipContainer(source).entries) == ["модель/data.pkl", "модель/data/0"]


def test_nothing_is_read_that_is_not_asked_for(tmp_path):
    """The optimiser's storages may even be damaged."""
    body = state(state_dict=state(w=torch_tensor()), optimizer=state(m=torch_tensor(storage=torch_storage("1"))))
    path = torch_zip(tmp_path / "x.pth", body, {"0": ARRAY, "1": ARRAY[::-1]})
    data = bytearray(path.read_bytes())
    data[data.index(ARRAY[::-1])] ^= 1
    path.write_bytes(data)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.tensors()["w"].numpy().tolist() == [1, 2]
        with pytest.raises(CheckpointError, match="does not match its checksum"):
            checkpoint.tree["optimizer"]["m"].numpy()


def test_a_deflated_entry_that_claims_no_bytes_is_not_inflated(tmp_path):
    """zlib takes a limit of 0 for none."""
    path = build(tmp_path / "x.npz", [Entry("w.npy", npy(HEADER, bytes(200 << 20)), 8, both_size=0)])
    refused(path, "no array of numpy's")
