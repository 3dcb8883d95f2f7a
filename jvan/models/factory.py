"""From a name or a weights file to a network: `create_model` and `load_weights`."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial

from ..checkpoints.given import check_given
from ..checkpoints.metadata import Metadata
from ..checkpoints.state import load_state, warn_of_notes
from ..errors import CheckpointError, NoHead
from ..ops.forked import check_not_forked
from ..preprocessing import Preprocessing
from ..variants import VANConfig, variant_config
from .blocks import UNITS
from .loading import assign, fill
from .van import VAN, VANFeatures


def create_model(
    arch: str | None = None, weights=None, num_classes: int | None = None, in_chans: int | None = None,
    drop_rate: float = 0.0, drop_path_rate: float = 0.0, drop_head: bool = False,
    features_only: bool = False, out_indices=(0, 1, 2, 3), **changes,
) -> VAN:  # fmt: skip
    """Build a VAN, in training mode as Jittor's modules are; call `.eval()` for inference.

    `weights` is a path or a catalogue name and then says everything that the other arguments leave open:
    `arch`, `num_classes`, `in_chans` and `changes`, which are further fields of VANConfig (`kernel_size`,
    `dilation`, `lka_parts`, `gate`, `stem_stride`, `norm_eps`). What contradicts the weights raises
    ValueError, except that `drop_head` gives a new head for `num_classes`, that weights for other
    `in_chans` are adapted, that `norm_eps` may be overridden, and that a file without jvan's metadata
    leaves open what its shapes do not show. What a user should know of the file comes as warnings.
    `features_only` returns the maps of the stages `out_indices` instead of logits.
    """
    changes = _checked(arch, changes, num_classes, drop_head, features_only, weights)
    if weights is None:
        wanted = {"num_classes": 0 if features_only else num_classes, "in_chans": in_chans, **changes}
        config = variant_config(arch, **{k: v for k, v in wanted.items() if v is not None})
        metadata = Metadata(config=config, preprocessing=Preprocessing().for_channels(config.in_chans))
        return build(config, drop_rate, drop_path_rate, out_indices if features_only else None, metadata)

    check_given(weights)
    state = load_state(weights, arch=arch, norm_eps=changes.get("norm_eps"))
    warn_of_notes(state, weights)
    stored = state.metadata.config
    config = _reconcile(stored, num_classes, in_chans, drop_head, features_only, changes, state.guessed)
    keep_head = config.num_classes == stored.num_classes and not drop_head
    metadata = replace(
        state.metadata,
        config=config,
        labels=state.metadata.labels if keep_head else None,
        preprocessing=state.metadata.preprocessing.for_channels(config.in_chans),
    )
    model = build(config, drop_rate, drop_path_rate, out_indices if features_only else None, metadata)
    fill(model, state.tensors, keep_head)
    return model


def build(
    config: VANConfig, drop_rate: float = 0.0, drop_path_rate: float = 0.0, out_indices=None, metadata=None
) -> VAN:
    """The network of a configuration, freshly initialised; `out_indices` makes it a backbone."""
    arguments = {
        "embed_dims": config.embed_dims, "depths": config.depths, "mlp_ratios": config.mlp_ratios,
        "in_chans": config.in_chans, "stem_stride": config.stem_stride, "norm_eps": config.norm_eps,
        "lka": partial(UNITS[config.attention], config=config), "drop_rate": drop_rate, "drop_path_rate": drop_path_rate,
    }  # fmt: skip
    if out_indices is None:
        model = VAN(num_classes=config.num_classes, **arguments)
    else:
        model = VANFeatures(out_indices=out_indices, **arguments)
    model.metadata = metadata
    model.train()
    return model


def load_weights(model: VAN, path, strict: bool = True) -> tuple[list[str], list[str]]:
    """Load a checkpoint of any known origin into `model`; returns the names (missing, unexpected).

    Raises CheckpointError that lists what is missing, unexpected and misshapen, or says in what the
    networks differ that shapes do not show (LayerNorm's eps, dilation, gate, stem stride). With
    `strict=False` a head that only one of the two has is returned instead; the rest still raises.
    `model.metadata` becomes the file's.
    """
    check_not_forked()
    check_given(path)
    state = load_state(path)
    warn_of_notes(state, path)
    config = model.metadata.config if model.metadata else None
    if config is not None:
        _check_same_graph(config, state.metadata.config, state.guessed)
    missing, unexpected = assign(model, state.tensors, strict=strict)
    config = config or replace(state.metadata.config, num_classes=model.num_classes)
    labels = state.metadata.labels if config.num_classes == state.metadata.config.num_classes else None
    model.metadata = replace(state.metadata, config=config, labels=labels)
    return missing, unexpected


def _checked(arch, changes, num_classes, drop_head, features_only, weights) -> dict:
    """`changes` without those left open; raises for arguments that are unknown or would do nothing."""
    known = [f.name for f in fields(VANConfig) if f.name not in ("num_classes", "in_chans")]
    unknown = sorted(set(changes) - set(known))
    if unknown:
        raise TypeError(f"create_model has no argument {unknown[0]!r}; the network's are {', '.join(known)}")
    if arch is None and weights is None:
        raise ValueError("create_model needs an architecture, such as van_b0, or weights")
    if arch is not None:
        variant_config(arch)
    if features_only and num_classes:
        raise ValueError(f"features_only gives maps, not logits for num_classes={num_classes}; leave one of them out")
    if drop_head and weights is None:
        raise ValueError("drop_head is about the weights' head, and there are no weights; leave it out")
    return {name: value for name, value in changes.items() if value is not None}


def _check_same_graph(ours: VANConfig, theirs: VANConfig, guessed: tuple[str, ...]) -> None:
    names = ("norm_eps", "attention", "kernel_size", "dilation", "stem_stride", "gate")
    differ = [name for name in names if name not in guessed and getattr(ours, name) != getattr(theirs, name)]
    if differ:
        has = ", ".join(f"{name} {getattr(theirs, name)}" for name in differ)
        wants = ", ".join(f"{name} {getattr(ours, name)}" for name in differ)
        raise CheckpointError(
            f"the weights were made with {has}, but the model has {wants}; build it with create_model(weights=…)"
        )


def _reconcile(
    stored: VANConfig, num_classes, in_chans, drop_head, features_only, changes, guessed: tuple[str, ...]
) -> VANConfig:
    """The configuration to build for weights that were made with `stored`."""
    asked = replace(stored, **changes)  # lists as tuples, numpy's integers as Python's
    open_ones = ("norm_eps", *guessed)
    wrong = {k: v for k, v in changes.items() if k not in open_ones and getattr(stored, k) != getattr(asked, k)}
    if wrong:
        found = {k: getattr(stored, k) for k in wrong}
        raise ValueError(f"the weights were made with {found}, not {wrong}; leave these arguments out")
    num_classes = 0 if features_only else _classes(stored.num_classes, num_classes, drop_head)
    return replace(asked, num_classes=num_classes, in_chans=stored.in_chans if in_chans is None else in_chans)


def _classes(stored: int, asked: int | None, drop_head: bool) -> int:
    if stored == 0 and not asked and (asked is None or drop_head):
        raise NoHead(
            "the weights have no head; pass features_only=True, num_classes=0, "
            "or drop_head=True with num_classes for a new one"
        )
    if asked is None or asked == stored:
        return stored
    if drop_head:
        return asked
    has = f"a head for {stored} classes" if stored else "no head"
    raise ValueError(f"the weights have {has}, not for {asked}; leave num_classes out, or pass drop_head=True")
