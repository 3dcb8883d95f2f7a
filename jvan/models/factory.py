"""From a name or a weights file to a network: `create_model` and `load_weights`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ..checkpoints.metadata import Metadata, Preprocessing
from ..checkpoints.state import load_state
from ..variants import VANConfig, variant_config
from .loading import adapt_input, assign
from .van import LKA, VAN, VANFeatures


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
    `in_chans` are adapted, and that `norm_eps` may be overridden. `features_only` returns the maps of
    the stages `out_indices` in place of logits.
    """
    state = None if weights is None else load_state(weights, arch=arch, norm_eps=changes.get("norm_eps"))
    if state is None:
        if arch is None:
            raise ValueError("create_model needs an architecture, such as van_b0, or weights")
        stored = None
        wanted = {"num_classes": num_classes, "in_chans": in_chans, **changes}
        config = variant_config(arch, **{k: v for k, v in wanted.items() if v is not None})
    else:
        stored = state.metadata.config
        config = _reconcile(stored, num_classes, in_chans, drop_head, features_only, changes)
    features = {"out_indices": out_indices} if features_only else {}
    model = build(config, drop_rate, drop_path_rate, **features)
    model.metadata = Metadata(config=config) if state is None else _adapted(state.metadata, config, stored)
    if state is not None:
        keep_head = config.num_classes == stored.num_classes and not drop_head and not features_only
        tensors = {k: v for k, v in state.tensors.items() if keep_head or not k.startswith("head.")}
        assign(model, adapt_input(tensors, config.in_chans), allow_missing=() if keep_head else ("head.",))
    return model


def build(config: VANConfig, drop_rate: float = 0.0, drop_path_rate: float = 0.0, out_indices=None) -> VAN:
    """The network of a configuration, freshly initialised; `out_indices` makes it a backbone."""
    lka = partial(
        LKA, kernel_size=config.kernel_size, dilation=config.dilation, parts=config.lka_parts, gate=config.gate
    )
    arguments = {
        "embed_dims": config.embed_dims, "depths": config.depths, "mlp_ratios": config.mlp_ratios,
        "in_chans": config.in_chans, "stem_stride": config.stem_stride, "norm_eps": config.norm_eps,
        "lka": lka, "drop_rate": drop_rate, "drop_path_rate": drop_path_rate,
    }  # fmt: skip
    if out_indices is None:
        model = VAN(num_classes=config.num_classes, **arguments)
    else:
        model = VANFeatures(out_indices=out_indices, **arguments)
    model.train()
    return model


def load_weights(model: VAN, path, strict: bool = True) -> tuple[list[str], list[str]]:
    """Load a checkpoint of any known origin into `model`; returns the names (missing, unexpected).

    Raises CheckpointError that lists what is missing, unexpected and misshapen. With `strict=False`
    missing and unexpected names are returned instead; misshapen ones still raise.
    """
    return assign(model, load_state(path).tensors, strict=strict)


def _reconcile(stored: VANConfig, num_classes, in_chans, drop_head, features_only, changes) -> VANConfig:
    """The configuration to build for weights that were made with `stored`."""
    wrong = {k: v for k, v in changes.items() if k != "norm_eps" and getattr(stored, k) != v}
    if wrong:
        found = {k: getattr(stored, k) for k in wrong}
        raise ValueError(f"the weights were made with {found}, not {wrong}; leave these arguments out")
    num_classes = 0 if features_only else _classes(stored.num_classes, num_classes, drop_head)
    return replace(stored, num_classes=num_classes, in_chans=in_chans or stored.in_chans, **changes)


def _classes(stored: int, asked: int | None, drop_head: bool) -> int:
    if stored == 0 and not asked and (asked is None or drop_head):
        raise ValueError(
            "the weights have no head; pass features_only=True, num_classes=0, "
            "or drop_head=True with num_classes for a new one"
        )
    if asked is None or asked == stored:
        return stored
    if drop_head:
        return asked
    has = f"a head for {stored} classes" if stored else "no head"
    raise ValueError(f"the weights have {has}, not for {asked}; leave num_classes out, or pass drop_head=True")


def _adapted(metadata: Metadata, config: VANConfig, stored: VANConfig) -> Metadata:
    """The weights' metadata for a network whose head or input was changed."""
    labels = metadata.labels if config.num_classes == stored.num_classes else None
    preprocessing = _for_channels(metadata.preprocessing, config.in_chans)
    return replace(metadata, config=config, labels=labels, preprocessing=preprocessing)


def _for_channels(preprocessing: Preprocessing, chans: int) -> Preprocessing:
    mean, std = preprocessing.mean, preprocessing.std
    if len(mean) == chans:
        return preprocessing
    if chans == 1:
        return replace(preprocessing, mean=(sum(mean) / len(mean),), std=(sum(std) / len(std),))
    return replace(
        preprocessing,
        mean=tuple(mean[i % len(mean)] for i in range(chans)),
        std=tuple(std[i % len(std)] for i in range(chans)),
    )
