"""Opening a checkpoint of any format; its content decides which, whatever its name ends in."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..errors import CheckpointError
from .folder import HF_CONFIG, read_small, weight_files
from .jittor_pkl import read_jittor_pkl
from .metadata import Metadata
from .npz_file import read_npz
from .safetensors_file import is_safetensors, read_safetensors
from .source import Source, shown
from .strict_json import parse_json
from .tensor import LazyTensor
from .torch_legacy import is_torch_legacy, read_torch_legacy
from .torch_zip import read_torch_zip
from .unpickle import ADVICE
from .wrappers import peel
from .zip_container import ZipContainer, budget

METADATA_KEY = "jvan"
MAX_METADATA = 8 << 20
# What is often found where a checkpoint was expected.
STRANGERS = (
    (b"\x1f\x8b", "is compressed with gzip; unpack it first"),
    (b"BZh", "is compressed with bzip2; unpack it first"),
    (b"\xfd7zXZ", "is compressed with xz; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd; unpack it first"),
    (b"7z\xbc\xaf", "is a 7z archive; unpack it first"),
    (b"\x89HDF", "is an HDF5 file, as Keras writes; give a PyTorch, safetensors, Jittor or npz file"),
    (b"\x93NUMPY", "is a single numpy array; save the tensors by name as .npz"),
    (b"version https://git-lfs", "is a git-lfs pointer, not the weights; run `git lfs pull`, or download the file"),
    (b"GGUF", "is a GGUF file; give a PyTorch, safetensors, Jittor or npz file"),
)


class Checkpoint:
    """An open checkpoint. `format` is torch-zip, torch-legacy, safetensors, jittor-pkl or npz; `globals` are
    the names that its pickles hold, `refused` those that may not be there; `tree` is what was saved, with
    LazyTensors and stand-ins as leaves; `metadata` is jvan's own, or None; `config` is a Hugging Face
    folder's config.json, or None; `files` are the paths that were opened.

    Close it, or use it as a context manager; tensors can be read until then.
    """

    def __init__(self, path, parts: list[_Part], metadata: Metadata | None, config: dict | None):
        self.path = Path(path)
        self.format = parts[0].format
        self.files = [Path(part.source.name) for part in parts]
        self.globals = sorted({name for part in parts for name in part.globals})
        self.refused = sorted({name for part in parts for name, allowed in part.globals.items() if not allowed})
        self.metadata, self.config = metadata, config
        self.header = parts[0].header
        self._sources = [part.source for part in parts]
        self.tree = parts[0].tree if len(parts) == 1 else _merged(parts, os.fspath(path))

    def tensors(self, ema: bool = False) -> dict[str, LazyTensor]:
        """The state dict, wrappers peeled, names as they are; `ema` chooses the averaged weights.

        CheckpointError if there is none, or if its tensors claim far more than the file can hold.
        """
        if self.refused:
            raise self._sources[0].error(f"refuses the pickle global {shown(self.refused[0])}; {ADVICE}")
        return self.listed(ema)

    def listed(self, ema: bool = False) -> dict[str, LazyTensor]:
        """As `tensors`, also where the file holds forbidden globals: for showing names and shapes."""
        source = self._sources[0]
        tensors = peel(self.tree, source, ema)
        cost, last = 0, None
        for tensor in tensors.values():
            cost += tensor.nbytes
            if tensor.data.whole and tensor.data is not last:
                cost += tensor.data.nbytes
            last = tensor.data
        size = sum(s.size for s in self._sources)
        if cost > budget(size):
            raise source.error(f"its tensors claim {cost} bytes in a file of {size}; it is damaged or unsafe")
        return tensors

    def close(self) -> None:
        for source in self._sources:
            source.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_) -> None:
        self.close()


class _Part:
    """One file of a checkpoint."""

    def __init__(self, source: Source, list_refused: bool):
        self.source, self.header, self.globals = source, {}, {}
        self.format = _format(source)
        if self.format == "zip":
            container = ZipContainer(source)
            self.format = _zip_format(source, container)
            if self.format == "npz":
                self.tree = read_npz(source, container)
            else:
                self.tree, self.globals = read_torch_zip(source, container, list_refused)
        elif self.format == "safetensors":
            self.tree, self.header = read_safetensors(source)
        else:
            read = read_torch_legacy if self.format == "torch-legacy" else read_jittor_pkl
            self.tree, self.globals = read(source, list_refused)


def open_checkpoint(path, *, list_refused: bool = False) -> Checkpoint:
    """Open a weights file, or a Hugging Face folder, without reading its tensors or running anything.

    CheckpointError, one line that names the file, for what is damaged, unsafe or of no known format;
    OSError if it cannot be opened. `list_refused` collects forbidden globals in `refused` instead of
    raising, for showing them; the tensors of such a file stay out of reach.
    """
    parts: list[_Part] = []
    sources: list[Source] = []
    try:
        files, promised = weight_files(path)
        for file in files:
            sources.append(Source.open_file(file))
            parts.append(_Part(sources[-1], list_refused))
        checkpoint = Checkpoint(path, parts, _metadata(path, parts), _config(path))
        if promised is not None and not checkpoint.refused:
            _check_promise(checkpoint, promised)
        return checkpoint
    except BaseException:
        for source in sources:
            source.close()
        raise


def read_checkpoint(path, ema: bool = False) -> dict[str, np.ndarray]:
    """Every tensor of a checkpoint's state dict by its name in the file, as numpy arrays; bfloat16 as float32."""
    with open_checkpoint(path) as checkpoint:
        return {name: tensor.numpy() for name, tensor in checkpoint.tensors(ema).items()}


def _format(source: Source) -> str:
    start = bytes(source.view(0, min(source.size, 512)))
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "zip"
    if is_safetensors(source):  # before the signs: a header's length may begin with any bytes, "<" among them
        return "safetensors"
    for sign, what in STRANGERS:
        if start.startswith(sign):
            raise source.error(what)
    if start.lstrip()[:1] == b"<":
        raise source.error("is a web page or XML, not weights; download the file itself")
    if start[257:262] == b"ustar":
        raise source.error("is a tar archive (PyTorch before 0.1.10 wrote such); unpack it, or save it again")
    if is_torch_legacy(source):
        return "torch-legacy"
    if start[:1] == b"\x80" or (start[:1] in b"(}]cd" and source.view(source.size - 1) == b"."):
        return "jittor-pkl"
    raise source.error(
        f"is in no format that is read here (it begins with {shown(start[:8].hex(' '))}); "
        "give a PyTorch, safetensors, Jittor or npz file"
    )


def _zip_format(source: Source, container: ZipContainer) -> str:
    names = list(container.entries)
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    if any(name.endswith(".pkl") for name in names):
        return "torch-zip"
    raise source.error(f"is a zip archive without weights ({len(names)} entries); unpack it, and give a file of it")


def _merged(parts: list[_Part], path: str) -> dict:
    """The tensors of all shards in one dict."""
    merged: dict = {}
    for part in parts:
        for name, value in peel(part.tree, part.source).items() if not _refused(part) else ():
            if name in merged:
                raise CheckpointError(f"{path}: the tensor {shown(name)} is in two shards; the folder is damaged")
            merged[name] = value
    return merged


def _check_promise(checkpoint: Checkpoint, promised: set[str]) -> None:
    differing = sorted(promised.symmetric_difference(checkpoint.tree), key=str)
    if differing:
        raise CheckpointError(
            f"{checkpoint.path}: the shards and the weight_map of their index differ in {len(differing)} tensors, "
            f"the first is {shown(differing[0])}; fetch them again"
        )


def _refused(part: _Part) -> bool:
    return not all(part.globals.values())


def _metadata(path, parts: list[_Part]) -> Metadata | None:
    text, name = parts[0].header.get(METADATA_KEY), os.fspath(path)
    beside = Path(f"{name}.json")
    if text is None and parts[0].format != "safetensors" and beside.is_file() and not Path(path).is_dir():
        text, name = read_small(beside, MAX_METADATA), os.fspath(beside)
    if text is None:
        return None
    try:
        parse_json(text.encode() if isinstance(text, str) else text, MAX_METADATA)
        return Metadata.from_json(text)
    except UnicodeError:
        raise CheckpointError(f"{name}: the jvan metadata is not Unicode text") from None
    except CheckpointError as error:
        raise CheckpointError(f"{name}: {error}") from None
    except ValueError as error:
        raise CheckpointError(f"{name}: the jvan metadata is malformed: {error}") from None


def _config(path) -> dict | None:
    file = Path(path) / HF_CONFIG
    if not file.is_file():
        return None
    try:
        config = parse_json(read_small(file, MAX_METADATA), MAX_METADATA)
    except ValueError as error:
        raise CheckpointError(f"{file}: is damaged: {error}") from None
    if type(config) is not dict:
        raise CheckpointError(f"{file}: holds no JSON object")
    return config
