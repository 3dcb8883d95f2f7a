"""A checkpoint of any origin as VAN's state: official names, whole, in one precision, with its metadata."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from .._say import warn
from .._text import in_nfc
from ..errors import CheckpointError
from ..variants import VANConfig
from .digest import sha256_of
from .formats.huggingface_config import apply_config, class_names
from .metadata import Metadata
from .names.architecture import infer_config, parameter_shapes, settle_config
from .names.origins import Origin, read_names
from .names.rename import listed
from .names.wrappers import Peeled
from .not_weights import shard_fault
from .published.catalogue import Entry
from .published.resolve import entry_for, resolve_weights
from .reader import Checkpoint, open_checkpoint
from .training_facts import class_names_in, prepared

FLOATS = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class State:
    """Arrays under official names in the official order; what was dropped (reason -> count); what a user should know.

    `guessed` are the entries of the configuration that neither the file's metadata nor its shapes say.
    """

    tensors: dict[str, np.ndarray]
    metadata: Metadata
    dropped: dict[str, int] = field(default_factory=dict)
    origin: str = "official"  # whose names the file has, which a converted file's metadata may not say
    notes: tuple[str, ...] = ()
    guessed: tuple[str, ...] = ()


def load_state(
    path,
    *,
    origin: str = "auto",
    arch: str | None = None,
    ema: bool = False,
    prefix: str | None = None,
    entry: str | None = None,
    norm_eps: float | None = None,
    dtype: str = "float32",
    num_classes: int | None = None,
    drop_head: bool = False,
    preprocessing: dict | None = None,
    progress=iter,
) -> State:
    """Read a checkpoint file, a Hugging Face folder or a catalogue name into a whole VAN's state.

    Every tensor becomes float32, exactly (`dtype="keep"`: stays as it is). `ema` takes the averaged weights, `entry`
    those under another key of the file, `prefix` only what is named so. `num_classes` insists on a head of that size, `drop_head` leaves the head out. `preprocessing` are entries of
    Preprocessing that are known better than the file says. `progress` wraps the names that are being read (tqdm fits). Raises CheckpointError, listing names, for anything unknown, missing, misshapen, contradictory
    or not representable. Labels are in NFC.
    """
    known = entry_for(path)
    if known and arch not in (None, known.arch):  # before it is downloaded
        raise CheckpointError(f"{path} is {known.arch}, not {arch}; leave one of the two out")
    file = resolve_weights(path)
    known = known or entry_for(file)
    with open_checkpoint(file) as source, _naming(file):
        weights = source.weights(ema, entry)
        stored = weights.tensors
        row, found, rule = read_names(stored, origin, prefix)
        wanted = {ours: stored[name] for name, ours in found.names.items()}
        inferred, notes = infer_config(_squeezed(wanted))
        config = settle_config(inferred, source.metadata.config if source.metadata else None, arch)
        _check_head(config, num_classes)
        metadata = _metadata(source, row, known, config, norm_eps)
        if source.metadata is None and known is None:
            metadata = _as_trained(metadata, weights)
        if preprocessing:
            metadata = _stated(metadata, preprocessing)
        dropped = dict(found.dropped)
        if drop_head and config.num_classes:
            metadata = replace(metadata, config=replace(metadata.config, num_classes=0), labels=None)
            dropped["head: as asked"] = 2
        tensors = _read(wanted, metadata.config, dtype, progress)
        guessed = _guessed(source, row, known, inferred)
    metadata = replace(metadata, labels=_composed(metadata.labels))
    notes = _notes(source, known, metadata, notes, rule) + weights.notes + _check_finite(tensors)
    return State(tensors, metadata, dropped, row.name, tuple(notes), guessed)


def warn_of_notes(state: State, path) -> None:
    """A warning for each note of a state that was read from `path`."""
    for note in state.notes:
        warn(f"{path}: {note}")


@contextmanager
def _naming(file):
    """Errors inside say which file they are about."""
    try:
        yield
    except CheckpointError as error:
        shard = shard_fault(file)
        if str(file) in error.plain and not shard:
            raise
        name = "" if str(file) in error.plain else f"{file}: "
        raise CheckpointError(f"{name}{error}" + (f"; {shard}" if shard else "")) from None


def identify(
    shapes: dict[str, tuple[int, ...]], prefix: str | None = None
) -> tuple[str | None, str | None, str | None]:
    """(origin, architecture, problem) for a file's names and shapes; raises nothing for a file that is no VAN."""
    origin = None
    try:
        row, found, _ = read_names(shapes, prefix=prefix)
        origin = row.name
        config, _ = infer_config({ours: _flat(ours, shapes[name]) for name, ours in found.names.items()})
    except CheckpointError as error:
        return origin, None, str(error)
    return origin, config.arch, None


def _squeezed(tensors: dict) -> dict[str, tuple[int, ...]]:
    return {name: _flat(name, tuple(tensor.shape)) for name, tensor in tensors.items()}


def _flat(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A layer scale's shape; some files keep the axes that it is broadcast along, as [C, 1, 1] or [1, C, 1, 1]."""
    scale = name.endswith(("layer_scale_1", "layer_scale_2"))
    if scale and (len(shape) == 3 or (len(shape) == 4 and shape[0] == 1)) and shape[-2:] == (1, 1):
        return (shape[-3],)
    return shape


def _check_head(config: VANConfig, num_classes: int | None) -> None:
    if num_classes is None or num_classes == config.num_classes:
        return
    held = f"a head of {config.num_classes} classes" if config.num_classes else "no head"
    fix = "leave that out, or drop the head (drop_head, --drop-head)" if config.num_classes else "leave that out"
    raise CheckpointError(f"num_classes {num_classes} was asked for, but the file has {held}; {fix}")


def _metadata(source: Checkpoint, row: Origin, entry: Entry | None, config, norm_eps: float | None) -> Metadata:
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


def _as_trained(metadata: Metadata, weights: Peeled) -> Metadata:
    """With what the training run left beside the weights; what was taken, and what not, goes to their notes."""
    picture, said = prepared(weights.levels, metadata.preprocessing)
    names, why = class_names_in(weights.levels, metadata.config.num_classes)
    weights.notes += said + why
    return replace(metadata, preprocessing=picture, labels=names or metadata.labels)


def _stated(metadata: Metadata, preprocessing: dict) -> Metadata:
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


def _composed(labels):
    """Labels in NFC, but where two would then be one."""
    composed = tuple(map(in_nfc, labels)) if isinstance(labels, tuple) else labels
    return composed if isinstance(labels, tuple) and len(set(composed)) == len(set(labels)) else labels


def _guessed(source: Checkpoint, row: Origin, entry: Entry | None, inferred: VANConfig) -> tuple[str, ...]:
    """Other projects' code, as the catalogue's weights, knows one stem, gate, K and eps; names that jvan writes too do not."""
    if source.metadata is not None or entry or row.name != "official":
        return ()
    dilation = () if "dw" in inferred.lka_parts else ("dilation",)
    by_jittor = ("norm_eps",) if source.format in ("jittor-pkl", "npz") else ()  # the official PyTorch code has 1e-6
    return ("stem_stride", "gate", "kernel_size", *dilation, *by_jittor)


def _source_name(source: Checkpoint) -> str:
    files = source.files
    return files[0].name if source.config is None else f"{files[0].absolute().parent.name}/{files[0].name}"


def _notes(source: Checkpoint, entry: Entry | None, metadata: Metadata, notes: list[str], rule: str | None) -> list:
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


def _read(wanted: dict, config: VANConfig, dtype: str, progress) -> dict[str, np.ndarray]:
    """The tensors one by one, so that no more than the model is ever in memory."""
    if dtype not in ("float32", "keep"):
        raise ValueError(f"dtype is {dtype!r}; choose 'float32' or 'keep'")
    shapes = parameter_shapes(config)
    odd = [f"{name} ({wanted[name].dtype})" for name in shapes if wanted[name].dtype not in FLOATS]
    if odd:
        raise CheckpointError(f"weights must be floating-point numbers: {listed(odd)}; quantised files are not read")
    if dtype == "keep" and any(wanted[name].dtype == "bfloat16" for name in shapes):
        raise CheckpointError("bfloat16 cannot be kept, since numpy does not have it; dtype float32 holds it exactly")
    tensors = {}
    for name in progress(shapes):
        array = wanted[name].numpy().reshape(shapes[name])
        tensors[name] = array if dtype == "keep" else _float32(name, array)
    return tensors


def _float32(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype == np.float32:
        return array
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    if array.dtype == np.float64 and (np.isinf(single) & np.isfinite(array)).any():
        raise CheckpointError(f"{name} holds numbers beyond float32's range; keep float64 with dtype 'keep'")
    return single


def _check_finite(tensors: dict[str, np.ndarray]) -> list[str]:
    bad = {name: int(array.size - np.isfinite(array).sum()) for name, array in tensors.items()}
    bad = {name: count for name, count in bad.items() if count}
    if not bad:
        return []
    found = f"{sum(bad.values())} numbers in {len(bad)} tensors are NaN or infinite: {listed(bad)}"
    return [f"{found}; the network's output will be too"]
