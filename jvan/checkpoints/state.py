"""A checkpoint of any origin as VAN's state: official names, whole, in one precision, with its metadata."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from .._say import warn
from ..errors import CheckpointError
from ..variants import VANConfig
from .metadata import Metadata
from .names.architecture import infer_config, parameter_shapes, settle_config
from .names.dense_parts import BACKBONE, Part, check_parts, find_parts, full_shapes
from .names.origins import read_names
from .names.rename import Match, below, listed
from .not_weights import shard_fault
from .published.resolve import entry_for, resolve_weights
from .reader import open_checkpoint
from .settled import as_trained, composed, guessed, notes_on, settled_metadata, stated

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
    parts: tuple[
        str, ...
    ] = ()  # what the names begin with, of a network with a neck or heads; () for names of the backbone itself


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
    parts: tuple[Part, ...] = (),
    progress=iter,
) -> State:
    """Read a checkpoint file, a Hugging Face folder or a catalogue name into a whole VAN's state.

    Every tensor becomes float32, exactly (`dtype="keep"`: stays as it is). `ema` takes the averaged weights, `entry`
    those under another key of the file, `prefix` only what is named so. `num_classes` insists on a head of that size, `drop_head` leaves the head out. `preprocessing` are entries of
    Preprocessing that are known better than the file says. `parts` are a dense task's neck and heads: with them all names have
    their part's before them (`backbone.`, `neck.`, …), as in the file; without, the backbone alone is read. `progress` wraps the names that are being read (tqdm fits). Raises CheckpointError, listing names, for anything unknown, missing, misshapen, contradictory
    or not representable. Labels are in NFC.
    """
    if parts and (drop_head or num_classes is not None):
        raise ValueError("the shapes of parts have their number of classes; leave num_classes and drop_head out")
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
        metadata = settled_metadata(source, row, known, config, norm_eps)
        if metadata.head is not None and not parts:
            metadata = metadata.of_backbone()
        if source.metadata is None and known is None:
            metadata = as_trained(metadata, weights)
        if preprocessing:
            metadata = stated(metadata, preprocessing)
        dropped = dict(found.dropped)
        if drop_head and config.num_classes:
            metadata = replace(metadata, config=replace(metadata.config, num_classes=0), labels=None)
            dropped["head: as asked"] = 2
        wanted, shapes = _with_parts(
            wanted, parameter_shapes(metadata.config), _chosen(stored, prefix), found, parts, dropped
        )
        tensors = _read(wanted, shapes, dtype, progress)
        guesses = guessed(source, row, known, inferred)
    metadata = replace(metadata, labels=composed(metadata.labels))
    notes = notes_on(source, known, metadata, notes, rule) + weights.notes + _check_finite(tensors)
    names = (BACKBONE, *(part.name for part in parts)) if parts else ()
    return State(tensors, metadata, dropped, row.name, tuple(notes), guesses, names)


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


def _chosen(stored: dict, prefix: str | None) -> dict:
    """The tensors that `prefix` does not leave out, under the file's names."""
    return {name: stored[name] for name in below(stored, prefix)[0].values()} if prefix else stored


def _with_parts(wanted: dict, shapes: dict, stored, found: Match, parts, dropped: dict) -> tuple[dict, dict]:
    """({our name: tensor}, {our name: shape}) of the backbone and of `parts`, which are no longer counted as dropped."""
    if not parts:
        return wanted, shapes
    names, reasons = find_parts(stored, next(iter(found.names)), parts)
    check_parts({ours: stored[name].shape for ours, name in names.items()}, parts)
    for reason, count in reasons.items():
        dropped[reason] -= count
        if not dropped[reason]:
            del dropped[reason]
    backbone = {f"{BACKBONE}.{ours}": tensor for ours, tensor in wanted.items()}
    all_shapes = {f"{BACKBONE}.{ours}": shape for ours, shape in shapes.items()}
    return {**backbone, **{ours: stored[name] for ours, name in names.items()}}, {**all_shapes, **full_shapes(parts)}


def _read(wanted: dict, shapes: dict, dtype: str, progress) -> dict[str, np.ndarray]:
    """The tensors one by one, so that no more than the model is ever in memory."""
    if dtype not in ("float32", "keep"):
        raise ValueError(f"dtype is {dtype!r}; choose 'float32' or 'keep'")
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
