"""What is known of weights beside their tensors: from the file's metadata, the catalogue, config.json, or the origin."""

from __future__ import annotations

from dataclasses import replace

from .._text import in_nfc
from ..errors import CheckpointError
from ..variants import VANConfig
from .digest import sha256_of
from .formats.huggingface_config import apply_config, class_names
from .metadata import Metadata
from .names.origins import Origin
from .names.wrappers import Peeled
from .published.catalogue import Entry
from .reader import Checkpoint
from .training_facts import class_names_in, prepared


def settled_metadata(source: Checkpoint, row: Origin, entry: Entry | None, config, norm_eps: float | None) -> Metadata:
    """The file's own metadata where it has some; otherwise the catalogue's facts, config.json's, the origin's."""
    if source.metadata is not None:
        metadata = source.metadata
    else:
        eps = entry.norm_eps if entry else row.norm_eps
        config = replace(config, norm_eps=eps)
        labels = row.labels if config.num_classes == 1000 else None
        if source.config is not None:
            config = apply_config(source.config, config)
            labels = class_names(source.config, config.num_classes) or labels
        if entry and entry.num_classes == config.num_classes:
            labels = entry.labels or labels
        preprocessing = entry.preprocessing if entry else row.preprocessing
        metadata = Metadata(config, preprocessing.for_channels(config.in_chans), row.name, labels)
        metadata = replace(metadata, source=_source_name(source), note=entry.note if entry else None)
    if metadata.source_sha256 is None:
        metadata = replace(metadata, source_sha256=sha256_of(source.files))
    if norm_eps is not None:
        metadata = replace(metadata, config=replace(metadata.config, norm_eps=float(norm_eps)))
    return metadata


def as_trained(metadata: Metadata, weights: Peeled) -> Metadata:
    """With what the training run left beside the weights; what was taken, and what not, goes to their notes."""
    picture, said = prepared(weights.levels, metadata.preprocessing)
    names, why = class_names_in(weights.levels, metadata.config.num_classes)
    weights.notes += said + why
    return replace(metadata, preprocessing=picture, labels=names or metadata.labels)


def stated(metadata: Metadata, preprocessing: dict) -> Metadata:
    chans = metadata.config.in_chans
    for key in ("mean", "std"):
        if len(preprocessing.get(key, metadata.preprocessing.mean)) != chans:
            raise CheckpointError(
                f"{key} (--{key}) has {len(preprocessing[key])} numbers; the network has {chans} channels"
            )
    try:
        return replace(metadata, preprocessing=replace(metadata.preprocessing, **preprocessing))
    except ValueError as error:
        raise CheckpointError(f"the stated preprocessing is impossible: {error}") from None


def composed(labels):
    """Labels in NFC, but where two would then be one."""
    composed = tuple(map(in_nfc, labels)) if isinstance(labels, tuple) else labels
    return composed if isinstance(labels, tuple) and len(set(composed)) == len(set(labels)) else labels


def guessed(source: Checkpoint, row: Origin, entry: Entry | None, inferred: VANConfig) -> tuple[str, ...]:
    """Other projects' code, as the catalogue's weights, knows one stem, gate, K and eps; names that jvan writes too do not."""
    if source.metadata is not None or entry or row.name != "official":
        return ()
    dilation = () if "dw" in inferred.lka_parts else ("dilation",)
    by_jittor = ("norm_eps",) if source.format in ("jittor-pkl", "npz") else ()  # the official PyTorch code has 1e-6
    return ("stem_stride", "gate", "kernel_size", *dilation, *by_jittor)


def _source_name(source: Checkpoint) -> str:
    files = source.files
    return files[0].name if source.config is None else f"{files[0].absolute().parent.name}/{files[0].name}"


def notes_on(source: Checkpoint, entry: Entry | None, metadata: Metadata, notes: list[str], rule: str | None) -> list:
    if source.metadata is not None:
        return []  # what the names and shapes leave open, the metadata have settled
    if entry is None and rule:
        notes.append(rule)
    if entry is None and source.config is not None and _has_preprocessor(source):
        notes.append(
            "preprocessor_config.json is not read: pictures are prepared as for the official weights, which the hub's own files contradict"
        )
    if entry and entry.arch != metadata.config.arch:
        notes.append(f"the catalogue calls it {entry.arch}; its tensors are {metadata.config.arch}")
    if metadata.config.in_chans != 3:
        notes.append(f"mean and std of its {metadata.config.in_chans} channels are not known; those of RGB stand in")
    return notes


def _has_preprocessor(source: Checkpoint) -> bool:
    return (source.files[0].parent / "preprocessor_config.json").is_file()
