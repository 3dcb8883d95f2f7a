"""CIFAR's own files: binary records and pickles, in a folder and in an archive; a pickle is never run."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jvan.data import cifar
from jvan.data.source import open_split, open_train_and_val
from jvan.errors import DataError

from .drawn import tar_of, write
from .test_source import cache, one_line  # noqa: F401

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
HUNDRED = tuple(f"thing_{n:02}" for n in range(100))


def batch(count, classes, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, classes, count), rng.integers(0, 256, (count, 3072), dtype=np.uint8)


def records(*columns) -> bytes:
    return np.concatenate([np.asarray(c, np.uint8).reshape(len(columns[-1]), -1) for c in columns], axis=1).tobytes()


def python_files(protocol=2):
    files = {"batches.meta": pickle.dumps({"label_names": list(NAMES), "num_vis": 3072}, protocol)}
    for n in range(1, 6):
        labels, data = batch(4, 10, n)
        content = {"data": data, "labels": labels.tolist(), "batch_label": "x", "filenames": ["a"] * 4}
        files[f"data_batch_{n}"] = pickle.dumps(content, protocol)
    labels, data = batch(3, 10, 9)
    files["test_batch"] = pickle.dumps({b"data": data, b"labels": labels.tolist()}, protocol)
    return files


def binary_files():
    files = {"batches.meta.txt": "\n".join(NAMES).encode() + b"\n\n"}
    files.update({f"data_batch_{n}.bin": records(*batch(4, 10, n)) for n in range(1, 6)})
    return {**files, "test_batch.bin": records(*batch(3, 10, 9))}


def hundred_files(binary):
    train, test = batch(6, 100, 1), batch(5, 100, 2)
    coarse = np.zeros(6), np.zeros(5)
    if binary:
        names = "\n".join(HUNDRED).encode()
        return {
            "train.bin": records(coarse[0], *train),
            "test.bin": records(coarse[1], *test),
            "fine_label_names.txt": names,
        }
    made = [
        pickle.dumps({"data": data, "fine_labels": labels.tolist(), "coarse_labels": []}, 2)
        for labels, data in (train, test)
    ]
    meta = {"fine_label_names": list(HUNDRED), "coarse_label_names": []}
    return {"train": made[0], "test": made[1], "meta": pickle.dumps(meta, 2)}


FORMS = {
    "python": python_files(), "python 4": python_files(4), "python 0": python_files(0), "binary": binary_files(),
    "hundred": hundred_files(False), "hundred binary": hundred_files(True),
}  # fmt: skip


@pytest.mark.parametrize("container", ["folder", "inside", "tar", "gz"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form(tmp_path, form, container):
    files = {f"cifar/{name}" if container != "folder" else name: data for name, data in FORMS[form].items()}
    path = tmp_path / "data"
    path = (
        tar_of(path, files, "w:gz" if container == "gz" else "w") if container in ("tar", "gz") else write(path, files)
    )
    train, val, said = open_train_and_val(path)
    if "hundred" in form:
        wanted, test, names = [batch(6, 100, 1)], batch(5, 100, 2), HUNDRED
    else:
        wanted, test, names = [batch(4, 10, n) for n in range(1, 6)], batch(3, 10, 9), NAMES
    labels, data = (np.concatenate(parts) for parts in zip(*wanted))
    assert train.classes == val.classes == names and "val" in said
    for split, (numbers, rows) in ((train, (labels, data)), (val, test)):
        assert split.labels.tolist() == list(numbers) and split.labels.dtype == np.int32
        for i in range(len(split)):
            assert np.array_equal(np.asarray(split.picture(i)), rows[i].reshape(3, 32, 32).transpose(1, 2, 0))
    assert open_split(path, "val").labels.tolist() == val.labels.tolist()


class Evil:
    def __reduce__(self):
        return os.system, ("touch ran",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_hostile_pickle_is_refused_and_never_runs(tmp_path, protocol, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labels, data = batch(4, 10, 1)
    hostile = pickle.dumps({"data": data, "labels": labels.tolist(), "x": Evil()}, protocol)
    path = write(tmp_path / "data", {**FORMS["python"], "data_batch_3": hostile})
    with pytest.raises(DataError) as error:
        open_split(path)
    assert "system" in one_line(error) and "data_batch_3" in str(error.value) and not (tmp_path / "ran").exists()


def changed(**content):
    labels, data = batch(4, 10, 1)
    return pickle.dumps({**{"data": data, "labels": labels.tolist()}, **content}, 2)


@pytest.mark.parametrize(
    ("form", "name", "data"),
    [
        ("python", "data_batch_2", b""),
        ("python", "data_batch_2", b"garbage"),
        ("python", "data_batch_2", FORMS["python"]["data_batch_2"][:5000]),
        ("python", "data_batch_2", pickle.dumps([1])),
        ("python", "data_batch_2", changed(labels=[1, 2])),
        ("python", "data_batch_2", changed(labels=[1, 2, 3, 10])),
        ("python", "data_batch_2", changed(labels=[1, 2, 3, -1])),
        ("python", "data_batch_2", changed(labels=["a"] * 4)),
        ("python", "data_batch_2", changed(labels=[1, 2, 3, 1 << 32])),
        ("python", "data_batch_2", changed(labels=[1, 2, 3, 1 << 70])),
        ("python", "data_batch_2", changed(data=np.zeros((4, 3072), np.float32))),
        ("python", "data_batch_2", changed(data=np.zeros((4, 3073), np.uint8))),
        ("python", "data_batch_2", changed(data=[0])),
        ("python", "batches.meta", pickle.dumps({"label_names": ["a"]}, 2)),
        ("binary", "data_batch_2.bin", b"x" * 3074),
        ("binary", "data_batch_2.bin", b""),
        ("binary", "data_batch_2.bin", b"\xff" * 3073),
        ("binary", "batches.meta.txt", b"a\nb\n"),
    ],
)
def test_damage_is_one_line(tmp_path, form, name, data):
    path = write(tmp_path / "data", {**FORMS[form], name: data})
    with pytest.raises(DataError) as error:
        open_split(path)
    one_line(error)


def test_a_missing_test_batch_is_named(tmp_path):
    files = dict(FORMS["binary"])
    del files["test_batch.bin"]
    with pytest.raises(DataError, match=r"test_batch\.bin"):
        open_train_and_val(write(tmp_path / "data", files))


def large_files(form: str, folder: Path, size: int) -> Path:
    """Nine batches of `size` bytes that take no room on the disk."""
    write(folder, FORMS[form])
    for number in range(1, 10):
        with open(folder / f"data_batch_{number}{'.bin' if form == 'binary' else ''}", "ab") as file:
            file.truncate(size)
    return folder


@pytest.mark.parametrize(
    ("form", "size", "said"),
    [
        ("binary", 1 << 30, "it has more than 256 MiB"),
        ("python", 1 << 30, "it has more than 256 MiB"),
        ("python", 200 << 20, "it and the files before it have more than 512 MiB"),
    ],
)
def test_nine_large_files_are_refused_before_they_fill_the_memory(tmp_path, form, size, said):
    path = large_files(form, tmp_path / "data", size - size % 3073)
    program = (
        "import resource, sys\nimport jvan.data.source as source\n"
        "with open('/proc/self/statm') as file:\n    now = int(file.read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (now + (1 << 30),) * 2)\n"
        "try:\n    source.open_split(sys.argv[1])\nexcept source.DataError as error:\n    print(error)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program, path], cwd=root, capture_output=True, text=True, timeout=120)
    assert said in done.stdout and done.stdout.count("\n") == 1, done.stderr


@pytest.mark.parametrize("form", ["python", "binary", "hundred", "hundred binary"])
def test_files_of_the_most_that_is_allowed_are_read(tmp_path, form, monkeypatch):
    path, sizes = write(tmp_path / "data", FORMS[form]), {name: len(data) for name, data in FORMS[form].items()}
    names = sum(size for name, size in sizes.items() if "meta" in name or "names" in name)  # read with each part
    monkeypatch.setattr(cifar, "LARGEST", max(sizes.values()))
    monkeypatch.setattr(cifar, "TOGETHER", sum(sizes.values()) + names)
    assert len(open_train_and_val(path)[1])
    monkeypatch.setattr(cifar, "TOGETHER", cifar.TOGETHER - 1)
    with pytest.raises(DataError, match="it and the files before it have more"):
        open_train_and_val(path)
    monkeypatch.setattr(cifar, "LARGEST", max(sizes.values()) - 1)
    with pytest.raises(DataError, match="it has more than"):
        open_train_and_val(path)
