"""State to file: written beside the target, read back, compared bit for bit, and only then moved into place."""

from __future__ import annotations

import os
import stat
import zipfile
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import CheckpointError
from ..files import flush, temporary
from .formats.jittor_writer import write_jittor
from .formats.pickle_writer import raw_bytes
from .formats.torch_writer import write_torch
from .metadata import Metadata
from .names.dense_parts import BACKBONE
from .names.origins import Origin, origin_named
from .names.rename import listed, translate
from .reader import METADATA_KEY, open_checkpoint

SUFFIXES = (".safetensors", ".pkl", ".pth", ".npz")
FLOATS = ("float16", "float32", "float64")


@dataclass(frozen=True)
class Written:
    """What `save_state` wrote: the file, its size in bytes, how many tensors, and the metadata's file if there is one."""

    path: Path
    size: int
    tensors: int
    metadata_path: Path | None


def save_state(state, path, *, to_origin: str = "official", force: bool = False, follow: bool = True) -> Written:
    """Write `state` (its `.tensors` and `.metadata`) in the format that the suffix names, under `to_origin`'s names.

    `.pth` files also get what PyTorch's modules hold and Jittor's do not: BatchNorm's step counters as zeros and, for
    Hugging Face, the unused LayerNorm; so do `.safetensors` under another project's names. Beside every format but
    safetensors the metadata go to `FILE.json`. Raises CheckpointError for an existing file without `force`, for names
    that `to_origin` has no place for, and where the file, read back, differs; an existing file is then untouched.
    A link at `path` leads to the file that is written; without `follow` the new file takes the link's place.
    """
    path, beside = check_target(path, force, follow)
    origin, suffix = origin_named(to_origin), path.suffix.lower()
    tensors = foreign_tensors(state.tensors, origin, suffix)
    with temporary(path) as place, temporary(beside) if beside else nullcontext() as place_json:
        try:
            _write(place, suffix, tensors, state.metadata, origin)
            if place_json is not None:
                place_json.write_text(state.metadata.to_json() + "\n", encoding="utf-8")
                flush(place_json)
        except OSError as error:  # a full disk is reported without a name
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        compare(place, tensors, state.metadata, place_json)
        size = place.stat().st_size
        _move(place, path, place_json, beside)
    return Written(path, size, len(tensors), beside)


def check_target(path, force: bool, follow: bool = True) -> tuple[Path, Path | None]:
    """Where the file and its metadata go (None: into the file); CheckpointError where they cannot or must not."""
    path = Path((os.path.realpath if follow else os.path.abspath)(os.path.expanduser(path)))
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise CheckpointError(f"{path}: its suffix chooses the format; use one of {', '.join(SUFFIXES)}")
    beside = None if suffix == ".safetensors" else path.with_name(path.name + ".json")
    if not path.parent.is_dir():
        raise CheckpointError(f"{path}: the folder {path.parent} does not exist; make it first")
    for target in filter(None, (path, beside)):
        if os.path.lexists(target) and not (target.is_file() or (target.is_symlink() and not follow)):
            raise CheckpointError(f"{target} is no regular file; choose another name")
        if target.exists() and not force:
            raise CheckpointError(f"{target} exists and is kept; pass --force to replace it")
    return path, beside


def foreign_tensors(tensors: dict[str, np.ndarray], origin: Origin, suffix: str) -> dict[str, np.ndarray]:
    """The tensors under a project's names, with what its PyTorch modules hold beyond ours where the format is for them."""
    odd = [f"{name} ({array.dtype})" for name, array in tensors.items() if array.dtype.name not in FLOATS]
    if odd:
        raise CheckpointError(f"only {', '.join(FLOATS)} can be written: {listed(odd)}")
    with_head = "head.weight" in tensors
    names = _foreign_names(tensors, origin, with_head)
    result = {}
    whole = suffix == ".pth" or (suffix == ".safetensors" and origin.name != "official")
    for name, array in tensors.items():
        result[names[name]] = np.require(array, array.dtype.newbyteorder("="), "C")
        if whole and name.endswith(".running_var"):
            counter = names[name][: -len("running_var")] + "num_batches_tracked"
            result[counter] = np.zeros((), np.int64)
    if whole and origin.extras:
        prefix = "van." if with_head else ""
        width, dtype = tensors["norm4.weight"].shape, tensors["norm4.weight"].dtype
        for name, value in zip(origin.extras, (1, 0)):
            result[prefix + name] = np.full(width, value, dtype)
    return result


def _foreign_names(tensors, origin: Origin, with_head: bool) -> dict[str, str]:
    """{our name: the project's}; of a network with a neck or heads only the backbone's differ from project to project."""
    place = f"{BACKBONE}."
    backbone = [name[len(place) :] for name in tensors if name.startswith(place)]
    if not backbone:
        return translate(tensors, origin.table(with_head), origin.name)
    if origin.extras:
        raise CheckpointError(f"{origin.name} has no place for a neck or heads; choose mmseg, mmpretrain or official")
    names = translate(backbone, origin.bare, origin.name)
    renamed = {
        place + ours: foreign if foreign.startswith(place) else place + foreign for ours, foreign in names.items()
    }
    return {name: renamed.get(name, name) for name in tensors}


def compare(path: Path, tensors: dict[str, np.ndarray], metadata: Metadata, beside: Path | None) -> None:
    """Read a written file back; CheckpointError unless names, shapes, types, bits and metadata are all the same."""
    try:
        with open_checkpoint(path) as checkpoint:
            found = checkpoint.tensors()
            wrong = sorted(set(found) ^ set(tensors)) or [n for n in tensors if not _same(found[n].numpy(), tensors[n])]
            read_back = Metadata.from_json(beside.read_bytes()) if beside else checkpoint.metadata
        what = listed(wrong) if wrong else "" if read_back == metadata else "its metadata differ"
    except CheckpointError as error:
        what = str(error)
    if what:
        raise CheckpointError(f"the file does not read back as it was written, so nothing is kept: {what}")


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and bytes_equal(one, other)


def bytes_equal(one: np.ndarray, other: np.ndarray) -> bool:
    """Bit for bit, so that NaN equals NaN and 0 does not equal -0."""
    return np.array_equal(np.frombuffer(raw_bytes(one), np.uint8), np.frombuffer(raw_bytes(other), np.uint8))


def _write(path: Path, suffix: str, tensors: dict, metadata: Metadata, origin: Origin) -> None:
    if suffix == ".safetensors":
        _write_safetensors(path, tensors, metadata, origin)
    else:
        with open(path, "wb") as file:
            if suffix == ".pth":
                write_torch(file, tensors, origin.wrapper)
            elif suffix == ".pkl":
                write_jittor(file, tensors)
            else:
                _write_npz(file, tensors)
    flush(path)


def _write_npz(file, tensors: dict) -> None:
    """As numpy.savez does, which leaves its archive half open where the disk is full."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in tensors.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def _write_safetensors(path: Path, tensors: dict, metadata: Metadata, origin: Origin) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    # transformers refuses a file that does not say which framework wrote it.
    framework = {"format": "pt"} if origin.name == "huggingface" else {}
    mode = stat.S_IMODE(path.stat().st_mode)
    try:
        save_file(tensors, os.fspath(path), metadata={METADATA_KEY: metadata.to_json(), **framework})
    except SafetensorError as error:
        raise CheckpointError(f"{path.parent}: the file could not be written: {error}") from None
    path.chmod(mode)  # some versions of safetensors put a private file instead of the one that is there


def _move(place: Path, path: Path, place_json: Path | None, beside: Path | None) -> None:
    """Metadata first, since a file without them would be read with the wrong defaults; put back if the file fails."""
    before = beside.read_bytes() if beside and beside.exists() else None
    if beside:
        os.replace(place_json, beside)
    try:
        os.replace(place, path)
    except BaseException:
        if beside and before is not None:
            beside.write_bytes(before)
        elif beside:
            beside.unlink()
        raise
