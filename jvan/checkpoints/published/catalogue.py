"""The published weights of VAN: where they lie, what they are, how a picture is prepared for them.

A name is ARCH.TAG. The tag is `in1k` for the authors' own files (trained on ImageNet-1K), `hf_in1k` for the same in
Hugging Face's layout, `mm_in1k` and `mm_in21k` for mmpretrain's, `mmseg_…` for mmsegmentation's backbones and, with
`_fpn` or `_upernet`, for its whole segmentors. catalogue.json holds the rows and names their sources.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import CheckpointError
from ...preprocessing import Preprocessing
from ...variants import VARIANTS

LARGEST = 4 << 30  # bytes; B6 with its optimiser state is about 2.4 GB


@dataclass(frozen=True)
class Entry:
    """One published file. `sha256_prefix` is the hash that the file's name carries; None is "not known".

    `size` is in bytes and exact, `size_approx_mb` in units of 10^6 bytes and rounded. `num_classes` None: the file
    decides; 0: it has no classifier. `top1` is the publisher's claim for ImageNet-1K in percent.
    """

    name: str
    arch: str
    file: str
    urls: tuple[str, ...]
    origin: str
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    size: int | None = None
    size_approx_mb: float | None = None
    sha256: str | None = None
    sha256_prefix: str | None = None
    num_classes: int | None = None
    labels: str | None = None
    top1: float | None = None
    norm_eps: float = 1e-6
    note: str | None = None

    @property
    def largest(self) -> int:
        """No more bytes than this are ever written for the file."""
        if self.size_approx_mb is not None:
            return int(self.size_approx_mb * 1.1e6)
        return self.size or LARGEST


@functools.cache
def catalogue() -> dict[str, Entry]:
    """Every published file by name; treat the dict as read-only."""
    document = _document()
    recipes = {
        name: Preprocessing(**{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()})
        for name, row in document["preprocessing"].items()
    }
    entries = {}
    for name, row in document["entries"].items():
        changed = {"urls": tuple(row["urls"]), "preprocessing": recipes[row["preprocessing"]]}
        entries[name] = Entry(name=name, **{**row, **changed})
    return entries


def list_weights() -> list[str]:
    """The names of the published weights that `create_model` and `jvan convert` download."""
    return list(catalogue())


def default_entry(arch: str) -> Entry:
    """What an architecture's name alone means: its ImageNet-1K classifier.

    CheckpointError where none is published (B5, B6); the message lists what is.
    """
    name = _document()["defaults"].get(arch)
    if name is not None:
        return catalogue()[name]
    if arch not in VARIANTS:
        raise CheckpointError(f"unknown architecture {arch!r}; choose one of {', '.join(VARIANTS)}")
    raise CheckpointError(
        f"no ImageNet-1K weights are published for {arch}; there is {', '.join(names_of(arch))}, "
        "or give the path of your own file"
    )


def entry_with(sha256: str | None) -> Entry | None:
    """The entry whose file has this hash, as converted weights keep it of their source; None for any other."""
    for entry in catalogue().values() if sha256 else ():
        if sha256 == entry.sha256 or (entry.sha256_prefix and sha256.startswith(entry.sha256_prefix)):
            return entry
    return None


def names_of(arch: str) -> list[str]:
    """The names of an architecture's published weights."""
    return [name for name, entry in catalogue().items() if entry.arch == arch]


@functools.cache
def _document() -> dict:
    return json.loads(Path(__file__).with_name("catalogue.json").read_text(encoding="utf-8"))
