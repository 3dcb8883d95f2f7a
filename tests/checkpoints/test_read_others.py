"""Metadata in and beside files, and files that are no checkpoints."""

from __future__ import annotations

import gzip
import io
import os
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from jvan.checkpoints.metadata import Metadata
from jvan.checkpoints.published.resolve import resolve_weights
from jvan.checkpoints.reader import open_checkpoint, read_checkpoint
from jvan.errors import CheckpointError
from jvan.variants import variant_config

from .crafted import W, read, refused, row, safetensors, torch_zip

METADATA = Metadata(variant_config("van_b0", num_classes=3), labels=("a", "b", "c"), source="x.pth")


def test_metadata_inside_safetensors_and_beside_others(tmp_path):
    inside = safetensors(tmp_path / "x.safetensors", {"__metadata__": {"jvan": METADATA.to_json()}, **row()})
    beside = torch_zip(tmp_path / "x.pth", W)
    (tmp_path / "x.pth.json").write_text(METADATA.to_json())
    for path in (inside, beside):
        with open_checkpoint(path) as checkpoint:
            assert checkpoint.metadata == METADATA


@pytest.mark.parametrize(
    "document", ["", "{}", "[]", "nonsense", "[" * 100_000, '{"format": 1}', METADATA.to_json()[:-1], "\ud800"]
)
def test_malformed_metadata(document, tmp_path):
    beside = torch_zip(tmp_path / "x.pth", W)
    (tmp_path / "x.pth.json").write_bytes(document.encode(errors="surrogatepass"))
    with pytest.raises(CheckpointError, match=r"x.pth.json: .*metadata") as caught:
        read(beside)
    assert str(caught.value).isprintable()
    inside = safetensors(tmp_path / "x.safetensors", {"__metadata__": {"jvan": document}, **row()})
    with pytest.raises(CheckpointError, match="metadata"):
        read(inside)


# Files that are no checkpoints


def tarred() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return out.getvalue()


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html>\n<html>not found</html>", "is a web page"),
        (b"<?xml version='1.0'?><Error/>", "is a web page or XML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        (gzip.compress(b"x"), "compressed with gzip"),
        (b"BZh9", "compressed with bzip2"),
        (b"\xfd7zXZ\0", "compressed with xz"),
        (b"\x28\xb5\x2f\xfd\0", "compressed with zstd"),
        (tarred(), "is a tar archive"),
        (b"\x93NUMPY\1\0", "single numpy array"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"GGUF\3\0\0\0", "GGUF"),
        (b"hello", "in no format that is read here"),
        (b"\0" * 4096, "in no format that is read here"),
        (b"\x1b[31mred", "in no format that is read here"),
        (b"classes are words", "in no format that is read here"),
        (b"\x80", "the pickle ends in the middle"),
        (b".", "in no format that is read here"),
    ],
)
def test_files_that_are_no_checkpoints(content, words, tmp_path):
    (tmp_path / "weights.pth").write_bytes(content)
    refused(tmp_path / "weights.pth", words)


def test_paths_that_are_no_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_checkpoint(tmp_path / "nothing.pth")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "no regular file")
    with pytest.raises(CheckpointError, match="no regular file"):
        read_checkpoint("/dev/zero")


# Cost


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Windows does not let a file shrink that is open")
def test_a_file_that_shrinks_while_it_is_read_ends_in_one_line(tmp_path):
    path = tmp_path / "w.npz"
    np.savez(path, w=np.zeros(100_000, np.float32))
    with open_checkpoint(path) as checkpoint:
        os.truncate(path, 1000)
        with pytest.raises(CheckpointError, match="became shorter while it was read"):
            checkpoint.tensors()["w"].numpy()


def test_a_name_that_begins_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="~nosuch"):
        resolve_weights("~nosuch.pth")
    np.savez("~w.npz", w=np.zeros(1))
    assert resolve_weights("~w.npz") == Path("~w.npz")
