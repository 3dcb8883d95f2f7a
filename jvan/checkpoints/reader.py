"""Opening a checkpoint of any format; its content decides which, whatever its name ends in."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..errors import CheckpointError
from .file_bytes import Source, shown
from .formats.folder import HF_CONFIG, read_small, weight_files
from .formats.jittor_pkl import read_jittor_pkl
from .formats.kinds import format_in_zip, format_of
from .formats.npz_file import read_npz
from .formats.safetensors_file import read_safetensors
from .formats.torch_legacy import read_torch_legacy
from .formats.torch_zip import read_torch_zip
from .formats.zip_container import ZipContainer, budget
from .metadata import Metadata
from .names.wrappers import Peeled, peel
from .pickles.unpickle import ADVICE
from .strict_json import parse_json
from .tensor import LazyTensor

METADATA_KEY = "jvan"
MAX_METADATA = 8 << 20


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
        self.set_aside = sum(part.set_aside for part in parts)
        self.metadata, self.config = metadata, config
        self.header = parts[0].header
        self._sources = [part.source for part in parts]
        self.tree = parts[0].tree if len(parts) == 1 else _merged(parts, os.fspath(path))

    def tensors(self, ema: bool = False, entry: str | None = None) -> dict[str, LazyTensor]:
        """The state dict, wrappers peeled, names as they are; `ema` chooses the averaged weights, `entry` one of
        the top level's entries.

        CheckpointError if there is none, or if its tensors claim far more than the file can hold.
        """
        return self.weights(ema, entry).tensors

    def weights(self, ema: bool = False, entry: str | None = None) -> Peeled:
        """As `tensors`, with what lies around them."""
        if self.refused:
            raise self._sources[0].error(f"refuses the pickle global {shown(self.refused[0])}; {ADVICE}")
        return self.listed(ema, entry)

    def listed(self, ema: bool = False, entry: str | None = None) -> Peeled:
        """As `weights`, also where the file holds forbidden globals: for showing names and shapes."""
        source = self._sources[0]
        found = peel(self.tree, source, ema, entry)
        cost, last = 0, None
        for tensor in found.tensors.values():
            cost += tensor.nbytes
            if tensor.data.whole and tensor.data is not last:
                cost += tensor.data.nbytes
            last = tensor.data
        size = sum(s.size for s in self._sources)
        if cost > budget(size):
            raise source.error(f"its tensors claim {cost} bytes in a file of {size}; it is damaged or unsafe")
        if self.set_aside:
            entries = "entry whose key is" if self.set_aside == 1 else "entries whose keys are"
            found.notes.append(f"{self.set_aside} dictionary {entries} of a class that is not read: left out")
        return found

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
        self.source, self.header, self.globals, self.set_aside = source, {}, {}, 0
        self.format = format_of(source)
        if self.format == "zip":
            container = ZipContainer(source)
            self.format = format_in_zip(source, container)
            if self.format == "npz":
                self.tree = read_npz(source, container)
            else:
                self.tree, self.globals, self.set_aside = read_torch_zip(source, container, list_refused)
        elif self.format == "safetensors":
            self.tree, self.header = read_safetensors(source)
        else:
            read = read_torch_legacy if self.format == "torch-legacy" else read_jittor_pkl
            self.tree, self.globals, self.set_aside = read(source, list_refused)


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


def _merged(parts: list[_Part], path: str) -> dict:
    """The tensors of all shards in one dict."""
    merged: dict = {}
    for part in parts:
        for name, value in peel(part.tree, part.source).tensors.items() if not _refused(part) else ():
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
