"""The resumable state as one file: written beside its place, verified, moved there; the last K and the best are kept."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..checkpoints.file_bytes import Source
from ..checkpoints.formats.safetensors_file import read_safetensors
from ..errors import CheckpointError, TrainingError
from ..files import flush, replaced

NAME = "step-{:09d}.safetensors"


@dataclass(frozen=True)
class Progress:
    """How far a run has come: steps made, validated epochs, the last validation's step, the best one's figure (top-1, for a classifier) and step (-1: none).

    Of float16 also the loss scale, the steps that went well with it, and the steps that changed nothing since they overflowed.
    """

    step: int = 0
    validated: int = 0
    validated_step: int = -1
    best: float = -1.0
    best_step: int = -1
    loss_scale: float = 1.0
    good_steps: int = 0
    skipped: int = 0

    @property
    def updates(self) -> int:
        """Steps that moved the weights."""
        return self.step - self.skipped


@dataclass(frozen=True)
class Saved:
    """A state as it was read: arrays by name, its progress, the run's configuration, the data's digest."""

    path: Path
    tensors: dict[str, np.ndarray]
    progress: Progress
    config: str
    data: str


def save_state_file(
    folder: Path, tensors: dict[str, np.ndarray], progress: Progress, config: str, data: str, keep: int
) -> Path:
    """Write one state and remove those that are neither of the last `keep` nor the best's.

    Raises OSError where it cannot be written and TrainingError where it does not read back; the others then stay.
    """
    path = folder / NAME.format(progress.step)
    about = {"progress": json.dumps(asdict(progress)), "config": config, "data": data, "sha256": digest(tensors)}
    with replaced(path, follow=False) as place:
        _write(place, tensors, about)
        read_state_file(place)
    flush(folder)
    files = state_files(folder)
    later, last = files[: files.index(path)], files[files.index(path) :]
    for old in (*later, *last[keep:]):  # later ones are damaged: the run went on from before them
        if old.name != NAME.format(progress.best_step):
            old.unlink(missing_ok=True)
    return path


def read_state_file(path: Path) -> Saved:
    """One state; TrainingError unless it is whole, by its own digest."""
    try:
        with Source.open_file(path) as source:
            lazy, about = read_safetensors(source)
            tensors = {name: tensor.numpy() for name, tensor in lazy.items()}
        if digest(tensors) != about["sha256"]:
            raise ValueError("its bytes do not match its digest")
        progress = Progress(**json.loads(about["progress"]))
        return Saved(path, tensors, progress, about["config"], about["data"])
    except (CheckpointError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path}: a damaged state: {error}") from None


def newest_state(folder: Path, tell) -> Saved | None:
    """The latest whole state; damaged ones are named by `tell` and passed over. TrainingError if all are damaged."""
    files = state_files(folder)
    for path in files:
        try:
            return read_state_file(path)
        except TrainingError as error:
            tell(f"{error}; the one before it is taken")
    if files:
        raise TrainingError(f"{folder}: all {len(files)} states are damaged; start anew in another OUTPUT")
    return None


def state_files(folder: Path) -> list[Path]:
    """The states in `folder`, latest first."""
    return sorted(
        (path for path in folder.iterdir() if re.fullmatch(r"step-\d{9}\.safetensors", path.name)), reverse=True
    )


def digest(tensors: dict[str, np.ndarray]) -> str:
    total = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        total.update(f"{name} {array.dtype} {array.shape}".encode())
        total.update(array.reshape(-1).view(np.uint8))
    return total.hexdigest()


def _write(path: Path, tensors: dict[str, np.ndarray], about: dict[str, str]) -> None:
    """In the safetensors format, by hand: the library leaves its own files behind when it is killed."""
    names = sorted(tensors)
    header, at = {"__metadata__": about}, 0
    for name in names:
        array = tensors[name]
        header[name] = {
            "dtype": _DTYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [at, at + array.nbytes],
        }
        at += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            file.write(np.ascontiguousarray(tensors[name]).reshape(-1).view(np.uint8))


_DTYPES = {"float32": "F32", "float16": "F16", "int64": "I64"}
