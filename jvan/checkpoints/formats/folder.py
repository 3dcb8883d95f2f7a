"""The weights of a Hugging Face folder: one file, or shards that an index names."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import CheckpointError
from ..file_bytes import shown
from ..not_weights import folder_fault
from ..strict_json import parse_json

HF_CONFIG = "config.json"
SINGLE = ("model.safetensors", "pytorch_model.bin")
MAX_INDEX = 8 << 20
MAX_SHARDS = 1000


def weight_files(path) -> tuple[list[Path], set[str] | None]:
    """The files to read, and the tensors that an index promises: the path itself, or what lies in the folder.

    CheckpointError if that is not clear.
    """
    path = Path(path)
    if not path.is_dir():
        return [path], None
    for name in SINGLE:  # safetensors first, as the transformers library chooses
        if (path / name).is_file():
            return [path / name], None
        index = path / f"{name}.index.json"
        if index.is_file():
            return _shards(index)
    raise CheckpointError(f"{path}: {folder_fault(path, SINGLE)}")


def _shards(index: Path) -> tuple[list[Path], set[str]]:
    try:
        document = parse_json(read_small(index, MAX_INDEX), MAX_INDEX)
    except ValueError as error:
        raise CheckpointError(f"{index}: is damaged: {error}") from None
    table = document.get("weight_map") if type(document) is dict else None
    if type(table) is not dict or not table or not all(type(name) is str for name in table.values()):
        raise CheckpointError(f"{index}: has no weight_map from tensors to files; fetch it again")
    names = sorted(set(table.values()))
    for name in names[:MAX_SHARDS]:
        if name != os.path.basename(name) or name in ("", ".", "..") or "\\" in name or "\0" in name:
            raise CheckpointError(f"{index}: names the file {shown(name)}, which lies outside its folder; it is unsafe")
        if not (index.parent / name).is_file():
            raise CheckpointError(f"{index}: names the shard {shown(name)}, which is missing; download it too")
    if len(names) > MAX_SHARDS:
        raise CheckpointError(f"{index}: names {len(names)} shards; at most {MAX_SHARDS} are read")
    return [index.parent / name for name in names], set(table)


def read_small(path: Path, limit: int) -> bytes:
    """A whole file of at most `limit` bytes; one more byte is read so that a longer one is noticed."""
    with open(path, "rb") as file:
        return file.read(limit + 1)
