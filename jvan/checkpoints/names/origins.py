"""Whose names a file has, and what its project takes for granted: one row an origin, one table of names for all."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...errors import CheckpointError
from ...preprocessing import Preprocessing
from ...structure import UNIT, UNITS
from ...variants import variant_config
from .rename import Match, Row, Table, below, check_match, listed, match

# VAN-B6 has 3,062 entries, none longer than 80 characters; bounds keep a forged file from costing minutes.
MAX_NAMES, MAX_LENGTH = 20_000, 500

# Official code models/van.py; mmpretrain's models/backbones/van.py; transformers' modeling_van.py (whose spelling
# "normomalization" is its own).
_BODY = (
    # official (and mmseg's), mmpretrain below `backbone.`, Hugging Face below `van.`
    ("patch_embed{stage}.proj.{tensor}", "patch_embed{stage}.projection.{tensor}", "embeddings.convolution.{tensor}"),
    ("patch_embed{stage}.norm.{norm}", "patch_embed{stage}.norm.{norm}", "embeddings.normalization.{norm}"),
    ("block{stage}.{block}.layer_scale_1", "layer_scale_1", "attention_scaling.weight"),
    ("block{stage}.{block}.layer_scale_2", "layer_scale_2", "mlp_scaling.weight"),
    ("block{stage}.{block}.norm1.{norm}", "norm1.{norm}", "pre_normomalization.{norm}"),
    ("block{stage}.{block}.norm2.{norm}", "norm2.{norm}", "post_normalization.{norm}"),
    ("block{stage}.{block}.attn.proj_1.{tensor}", "attn.proj_1.{tensor}", "attention.pre_projection.conv.{tensor}"),
    (
        "block{stage}.{block}.attn.spatial_gating_unit.conv0.{tensor}",
        "attn.spatial_gating_unit.DW_conv.{tensor}",
        "attention.attention_layer.attention.depth_wise.{tensor}",
    ),
    (
        "block{stage}.{block}.attn.spatial_gating_unit.conv_spatial.{tensor}",
        "attn.spatial_gating_unit.DW_D_conv.{tensor}",
        "attention.attention_layer.attention.depth_wise_dilated.{tensor}",
    ),
    (
        "block{stage}.{block}.attn.spatial_gating_unit.conv1.{tensor}",
        "attn.spatial_gating_unit.conv1.{tensor}",
        "attention.attention_layer.attention.point_wise.{tensor}",
    ),
    ("block{stage}.{block}.attn.proj_2.{tensor}", "attn.proj_2.{tensor}", "attention.post_projection.{tensor}"),
    ("block{stage}.{block}.mlp.fc1.{tensor}", "mlp.fc1.{tensor}", "mlp.in_dense.{tensor}"),
    ("block{stage}.{block}.mlp.dwconv.dwconv.{tensor}", "mlp.dwconv.{tensor}", "mlp.depth_wise.{tensor}"),
    ("block{stage}.{block}.mlp.fc2.{tensor}", "mlp.fc2.{tensor}", "mlp.out_dense.{tensor}"),
    ("norm{stage}.{tensor}", "norm{stage}.{tensor}", "normalization.{tensor}"),
)
_ANCHOR = "patch_embed1.proj.weight"
_COUNTERS = (
    Row("{any}.num_batches_tracked", None, "num_batches_tracked: BatchNorm's step counters"),
    Row("n_averaged", None, "n_averaged: how many steps were averaged"),
)
_HEADS = {"official": "head.{tensor}", "mmpretrain": "head.fc.{tensor}", "huggingface": "classifier.{tensor}"}
_PARTS = ("decode_head", "auxiliary_head", "neck", "bbox_head", "roi_head", "rpn_head", "rpn", "mask_head")
_DENSE = (
    *(Row(f"{part}.{{any}}", None, f"{part}: not part of the backbone") for part in _PARTS),
    Row("{word}_head.{any}", None, "other heads: not part of the backbone"),
)


@dataclass(frozen=True)
class Origin:
    """A project's names and what its files take for granted.

    `tables` are its dialects, the one that is written of a whole classifier first; `bare` is the one for weights without a head.
    `wrapper` holds a `.pth` file's top-level keys, the state dict under the last one; () is the dict itself.
    """

    name: str
    tables: tuple[Table, ...]
    bare: Table
    norm_eps: float
    preprocessing: Preprocessing
    wrapper: tuple[str, ...]
    labels: str | None = None  # the class names that a head of 1000 classes means
    extras: tuple[str, ...] = ()  # parameters that the project's module has and never uses (LayerNorm's pair)

    def table(self, with_head: bool) -> Table:
        """The dialect to write."""
        return self.tables[0] if with_head else self.bare


def _table(rows) -> Table:
    return Table([*_COUNTERS, *rows], _ANCHOR)


def _other_units() -> list[str]:
    """Our names of the layers of attention units that other projects do not have."""
    units = (rows(1, variant_config("van_b0")) for rows in UNITS.values())
    names = (f"block{{stage}}.{{block}}.{UNIT}.{row.name}.{{tensor}}" for unit in units for row in unit)
    return [name for name in dict.fromkeys(names) if name not in {ours for ours, _, _ in _BODY}]


def _official() -> Table:
    names = [*(ours for ours, _, _ in _BODY), *_other_units()]
    return _table([*(Row(name, name) for name in names), Row(_HEADS["official"], "head.{tensor}")])


def _bare(short: bool = False) -> Table:
    """A backbone's names; OpenMMLab's own class (mmseg projects/van) has one module less around the depthwise layer."""
    names = [*(ours for ours, _, _ in _BODY), *_other_units()]
    foreign = (name.replace(".dwconv.dwconv.", ".dwconv.") if short else name for name in names)
    return _table([*_DENSE, *map(Row, foreign, names)])


def _mmpretrain(prefix: str) -> Table:
    rows = []
    for ours, name, _ in _BODY:
        block = "blocks{stage}.{block}." if ours.startswith("block") else ""
        rows.append(Row(prefix + block + name, ours))
    return _table([*_DENSE, *rows, Row(_HEADS["mmpretrain"], "head.{tensor}")])


def _huggingface(prefix: str) -> Table:
    rows = [Row(f"{prefix}layernorm.{{tensor}}", None, "layernorm: Hugging Face's model never uses it")]
    for ours, _, name in _BODY:
        layer = "layers.{block}." if ours.startswith("block") else ""
        rows.append(Row(f"{prefix}encoder.stages.{{stage0}}.{layer}{name}", ours))
    return _table([*rows, Row(_HEADS["huggingface"], "head.{tensor}")])


# timm 0.4.12's vision_transformer._cfg gives the official files mean = std = 0.5; OpenMMLab's configs agree, and Hugging
# Face's files are the official weights although its picture processor says otherwise.
_CLASSIFIER = Preprocessing()
# The segmentation code normalises with ImageNet's statistics and crops 512 pixels out of pictures scaled bilinearly.
_SEGMENTOR = Preprocessing(512, 1.0, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def make_origins() -> dict[str, Origin]:
    bare, short, mm, hf = _bare(), _bare(short=True), _mmpretrain("backbone."), _huggingface("van.")
    unused = ("layernorm.weight", "layernorm.bias")
    rows = (
        Origin("official", (_official(),), bare, 1e-6, _CLASSIFIER, ("state_dict",), "imagenet-1k"),
        Origin("mmpretrain", (mm, _mmpretrain("")), mm, 1e-6, _CLASSIFIER, ("meta", "state_dict"), "imagenet-1k"),
        Origin("huggingface", (hf, _huggingface("")), _huggingface(""), 1e-6, _CLASSIFIER, (), "imagenet-1k", unused),
        Origin("mmseg", (short, bare), short, 1e-5, _SEGMENTOR, ("meta", "state_dict")),
    )
    return {origin.name: origin for origin in rows}


ORIGINS = make_origins()
HEADLESS_NOTE = (
    "the names fit official and mmseg alike; without a classifier's head they are taken for a segmentation backbone "
    "(mmseg: LayerNorm eps 1e-5, ImageNet's mean and std); `jvan convert --origin official` overrules that"
)


def not_of_the_backbone(name: str) -> str | None:
    """The reason, as `dropped` has it, why a name is left out where the backbone alone is read."""
    return Table(_DENSE).dropped(name)


def origin_named(name: str) -> Origin:
    """A row of ORIGINS; ValueError for an unknown name."""
    if name not in ORIGINS:
        raise ValueError(f"unknown origin {name!r}; choose one of {', '.join(ORIGINS)}")
    return ORIGINS[name]


def read_names(names, origin: str = "auto", prefix: str | None = None) -> tuple[Origin, Match, str | None]:
    """The origin (found from the names if `auto`), its reading of them, and a note where a rule decided.

    `prefix` leaves out every name that does not begin with it. Official and mmseg names may be alike: with `head.*`
    they are official's, otherwise mmseg's.
    Raises CheckpointError for names that are unknown, collide or fit no origin or several.
    """
    names = list(names)
    if len(names) > MAX_NAMES:
        raise CheckpointError(f"the file holds {len(names)} tensors; no VAN has more than {MAX_NAMES}")
    if any(len(name) > MAX_LENGTH for name in names):
        raise CheckpointError(f"the file holds a tensor name of more than {MAX_LENGTH} characters; no VAN has one")
    if not names:
        raise CheckpointError("the file holds no tensors; a VAN has at least some hundred")
    if not prefix:
        return _read(names, origin)
    kept, others = below(names, prefix)
    row, found, note = _read(list(kept), origin)
    dropped = {**found.dropped, **({f"not below {prefix}: as asked": others} if others else {})}
    return row, replace(found, names={kept[name]: ours for name, ours in found.names.items()}, dropped=dropped), note


def _read(names: list[str], origin: str) -> tuple[Origin, Match, str | None]:
    if origin == "auto":
        return _detect({name: _best(names, row) for name, row in ORIGINS.items()}, names)
    chosen = origin_named(origin)
    result = _best(names, chosen)
    check_match(result, chosen.name)
    return chosen, result, None


def _best(names: list[str], origin: Origin) -> Match:
    return min((match(names, table) for table in origin.tables), key=_distance)


def _distance(found: Match) -> tuple[int, int, int]:
    return len(found.unknown), -len(found.names), -len(found.networks)


def _detect(matches: dict[str, Match], names: list[str]) -> tuple[Origin, Match, str | None]:
    fitting = [name for name, found in matches.items() if found.names and not found.unknown]
    if not fitting:
        name = min(matches, key=lambda name: _distance(matches[name]))
        if not matches[name].names and len(matches[name].networks) < 2:
            raise CheckpointError(f"these are no VAN's names: {listed(names)}; known origins are {', '.join(ORIGINS)}")
        check_match(matches[name], f"{name} (the nearest origin)")
    note = None
    if fitting == ["official", "mmseg"]:
        found = matches["mmseg"]
        fitting, note = ["mmseg"], None if "backbone." in found.prefix else HEADLESS_NOTE
    if len(fitting) > 1:
        raise CheckpointError(
            f"the names fit {' and '.join(fitting)}: {listed(names)}; choose one by origin (--origin)"
        )
    check_match(matches[fitting[0]], fitting[0])
    return ORIGINS[fitting[0]], matches[fitting[0]], note
