"""Neck and heads beside a backbone: read by name and shape, written in each format, and read back."""

from dataclasses import replace

import numpy as np
import pytest

from jvan.checkpoints.names.dense_parts import Part
from jvan.checkpoints.names.rename import Row, Table
from jvan.checkpoints.reader import open_checkpoint
from jvan.checkpoints.state import State, load_state
from jvan.checkpoints.writers import save_state
from jvan.errors import CheckpointError

from .tiny_states import CONFIG, METADATA, assert_same, random_tensors

BARE = replace(CONFIG, num_classes=0)
NORM = ("weight", "bias", "running_mean", "running_var")


def conv_module(name, out, chans, size):
    return {f"{name}.conv.weight": (out, chans, size, size), **{f"{name}.bn.{tensor}": (out,) for tensor in NORM}}


# As mmsegmentation 1.2.2 names Semantic FPN's neck and head (necks/fpn.py, decode_heads/fpn_head.py), smaller.
NECK = Part("neck", {
    f"{convs}.{i}.conv.{tensor}": ((6, chans if convs == "lateral_convs" else 6, size, size) if tensor == "weight" else (6,))
    for convs, size in (("lateral_convs", 1), ("fpn_convs", 3)) for i, chans in enumerate(BARE.embed_dims) for tensor in ("weight", "bias")
})  # fmt: skip
HEAD = Part("decode_head", {
    "conv_seg.weight": (2, 5, 1, 1), "conv_seg.bias": (2,),
    **conv_module("scale_heads.0.0", 5, 6, 3), **conv_module("scale_heads.1.0", 5, 6, 3),
})  # fmt: skip
PARTS = (NECK, HEAD)
FACTS = replace(
    METADATA,
    config=BARE,
    task="segmentation",
    head={"num_classes": 2},
    labels=("road", "sky"),
    palette=((0, 0, 0), (9, 9, 9)),
)


@pytest.fixture
def state():
    rng = np.random.RandomState(1)
    tensors = {f"backbone.{name}": array for name, array in random_tensors(config=BARE).items()}
    for part in PARTS:
        tensors.update({f"{part.name}.{n}": rng.standard_normal(s).astype(np.float32) for n, s in part.shapes.items()})
    return State(tensors, FACTS, parts=("backbone", "neck", "decode_head"))


@pytest.mark.parametrize("origin", ["official", "mmseg", "mmpretrain"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pkl", ".npz"])
def test_what_is_written_reads_back(state, tmp_path, suffix, origin):
    path = tmp_path / f"weights{suffix}"
    save_state(state, path, to_origin=origin)
    found = load_state(path, parts=PARTS)
    assert found.parts == state.parts and found.metadata == FACTS and list(found.tensors) == list(state.tensors)
    assert_same(found.tensors, state.tensors)
    counters = "num_batches_tracked: BatchNorm's step counters"
    assert set(found.dropped) <= {counters}
    whole = suffix == ".pth" or (suffix == ".safetensors" and origin != "official")
    assert found.dropped.get(counters, 0) == (
        sum(name.endswith("running_var") for name in state.tensors) if whole else 0
    )


def test_the_projects_names_stand_in_the_file(state, tmp_path):
    save_state(state, tmp_path / "weights.pth", to_origin="mmseg")
    with open_checkpoint(tmp_path / "weights.pth") as source:
        names = set(source.weights().tensors)
    assert {
        "backbone.block1.0.mlp.dwconv.weight", "neck.fpn_convs.3.conv.bias", "decode_head.scale_heads.1.0.bn.num_batches_tracked",
    } <= names  # fmt: skip


def test_without_parts_it_is_the_backbone(state, tmp_path):
    save_state(state, tmp_path / "weights.safetensors")
    found = load_state(tmp_path / "weights.safetensors")
    assert_same(found.tensors, random_tensors(config=BARE))
    assert found.metadata == replace(
        FACTS, task="classification", head=None, labels=None, palette=None
    )  # or a converted backbone would say it were a segmentor
    assert found.parts == () and found.dropped == {
        "neck: not part of the backbone": len(NECK.shapes), "decode_head: not part of the backbone": len(HEAD.shapes),
    }  # fmt: skip
    neck = load_state(tmp_path / "weights.safetensors", parts=(NECK,))
    assert neck.parts == ("backbone", "neck") and list(neck.dropped) == ["decode_head: not part of the backbone"]


def test_what_wraps_all_of_it(state, tmp_path):
    wrapped = State({f"module.{name}": array for name, array in state.tensors.items()}, FACTS)
    np.savez(tmp_path / "weights.npz", **wrapped.tensors)
    assert_same(load_state(tmp_path / "weights.npz", parts=PARTS).tensors, state.tensors)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("decode_head.conv_seg.bias"), r"neck and decode_head: 1 missing: decode_head\.conv_seg\.bias"),
        (lambda t: t.pop("neck.lateral_convs.0.conv.weight"), r"1 missing: neck\.lateral_convs\.0\.conv\.weight"),
        (lambda t: t.update({"neck.extra.weight": np.zeros(3, np.float32)}), r"1 unexpected: neck\.extra\.weight"),
        (
            lambda t: t.update({"decode_head.conv_seg.weight": np.zeros((3, 5, 1, 1), np.float32)}),
            r"1 misshapen: decode_head\.conv_seg\.weight \(3, 5, 1, 1\) instead of \(2, 5, 1, 1\)",
        ),
        (lambda t: t.pop("backbone.norm1.bias"), r"1 missing: norm1\.bias"),
    ],
)
def test_a_part_that_is_not_whole_is_refused(state, tmp_path, change, words):
    tensors = dict(state.tensors)
    change(tensors)
    np.savez(tmp_path / "weights.npz", **tensors)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_state(tmp_path / "weights.npz", parts=PARTS)
    assert "\n" not in str(caught.value)


def test_a_part_with_names_of_another_project(state, tmp_path):
    table = Table([Row("classifier.{tensor}", "conv_seg.{tensor}"), Row("heads.{any}", "scale_heads.{any}")])
    theirs = {
        name.replace("conv_seg", "classifier").replace("scale_heads", "heads"): array
        for name, array in state.tensors.items()
    }
    np.savez(tmp_path / "weights.npz", **theirs)
    found = load_state(tmp_path / "weights.npz", parts=(NECK, replace(HEAD, table=table)))
    assert_same(found.tensors, state.tensors)
    np.savez(tmp_path / "weights.npz", **theirs, **{"decode_head.odd": np.zeros(1)})
    with pytest.raises(CheckpointError, match=r"1 of 13 names are not known: decode_head\.odd"):
        load_state(tmp_path / "weights.npz", parts=(NECK, replace(HEAD, table=table)))


def test_a_file_of_a_backbone_alone(tmp_path):
    np.savez(tmp_path / "weights.npz", **random_tensors(config=BARE))
    with pytest.raises(CheckpointError, match="the file holds a backbone alone, and no neck"):
        load_state(tmp_path / "weights.npz", parts=PARTS)


def test_a_project_without_a_place_for_them(state, tmp_path):
    with pytest.raises(CheckpointError, match="huggingface has no place for a neck or heads"):
        save_state(state, tmp_path / "weights.safetensors", to_origin="huggingface")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("twin", ["_orig_mod.neck.lateral_convs.0.conv.bias", "module.neck.lateral_convs.0.conv.bias"])
def test_a_parameter_that_is_there_twice(state, tmp_path, twin):
    np.savez(tmp_path / "weights.npz", **state.tensors, **{twin: np.zeros(6, np.float32)})
    with pytest.raises(CheckpointError, match=r"neck\.lateral_convs\.0\.conv\.bias: not below neck\."):
        load_state(tmp_path / "weights.npz", parts=PARTS)


def test_parts_that_a_prefix_leaves_out(state, tmp_path):
    tensors = {f"net.{name}": array for name, array in state.tensors.items()}
    np.savez(tmp_path / "weights.npz", **tensors, **{"loss.neck.weight": np.zeros(1)})
    assert_same(load_state(tmp_path / "weights.npz", parts=PARTS, prefix="net").tensors, state.tensors)
    with pytest.raises(CheckpointError, match="16 missing: neck"):
        load_state(tmp_path / "weights.npz", parts=PARTS, prefix="net.backbone")


def test_a_counter_right_below_a_part_is_a_counter(state, tmp_path):
    np.savez(tmp_path / "weights.npz", **state.tensors, **{"neck.num_batches_tracked": np.zeros((), np.int64)})
    assert load_state(tmp_path / "weights.npz", parts=PARTS).dropped == {
        "num_batches_tracked: BatchNorm's step counters": 1
    }


@pytest.mark.parametrize("options", [{"num_classes": 2}, {"drop_head": True}])
def test_options_of_a_classifier(tmp_path, options):
    with pytest.raises(ValueError, match="leave num_classes and drop_head out"):
        load_state(tmp_path / "weights.npz", parts=PARTS, **options)
