"""jvan's tables against names recorded from the original projects, B0 to B6."""

from __future__ import annotations

import pytest

from jvan.checkpoints.names.origins import HEADLESS_NOTE, ORIGINS, read_names
from jvan.checkpoints.names.rename import translate
from jvan.errors import CheckpointError

from .recorded_names import ARCHS, learned, official_shapes, recorded

EXPECTED = {  # arch -> entries of the official state dict, counted by hand from depths of the paper's Table 5
    "van_b0": 402,
    "van_b1": 318,
    "van_b2": 626,
    "van_b3": 1102,
    "van_b4": 1494,
    "van_b5": 962,
    "van_b6": 3062,
}


def their_names(arch: str, origin: str) -> dict[str, str]:
    """Foreign name -> official name, as recorded, for a whole classifier (mmseg: the backbone)."""
    found = recorded(arch)
    if origin == "huggingface":
        return found["huggingface_to_official"]
    if origin == "mmpretrain":
        return {theirs: ours for ours, theirs in found["mmpretrain"].items()}
    if origin == "mmseg":
        return {short(name): name for name in found["official"] if not name.startswith("head.")}
    return {name: name for name in found["official"]}


def short(name: str) -> str:
    """OpenMMLab's own class (mmseg projects/van) has a plain layer where the authors' has a module around one."""
    return name.replace(".mlp.dwconv.dwconv.", ".mlp.dwconv.")


@pytest.mark.parametrize("arch", ARCHS)
def test_the_recording_is_whole(arch):
    assert len(recorded(arch)["official"]) == EXPECTED[arch]
    assert sorted(EXPECTED) == ARCHS


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("chosen", ["auto", "named"])
def test_every_name_is_read(arch, origin, chosen):
    pairs = their_names(arch, origin)
    row, found, _ = read_names(pairs, "auto" if chosen == "auto" else origin)
    assert row.name == origin
    assert found.names == {theirs: pairs[theirs] for theirs in learned(pairs)}
    assert sum(found.dropped.values()) == len(pairs) - len(learned(pairs))


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("origin", ORIGINS)
def test_every_name_is_written(arch, origin):
    pairs = {ours: theirs for theirs, ours in their_names(arch, origin).items()}
    table = ORIGINS[origin].table(with_head=origin != "mmseg")
    assert translate(learned(pairs), table, origin) == {ours: pairs[ours] for ours in learned(pairs)}


@pytest.mark.parametrize("arch", ARCHS)
def test_hugging_face_models_without_a_head(arch):
    base = recorded(arch)["huggingface_base"]
    row, found, _ = read_names(base)
    assert row.name == "huggingface" and found.dropped["layernorm: Hugging Face's model never uses it"] == 2
    assert sorted(found.names.values()) == sorted(
        n for n in learned(official_shapes(arch)) if not n.startswith("head.")
    )
    written = translate(found.names.values(), row.table(with_head=False), row.name)
    assert written == {ours: theirs for theirs, ours in found.names.items()}


def test_hugging_face_classifiers_unused_layer_is_dropped():
    row, found, _ = read_names(recorded("van_b0")["huggingface"])
    assert row.name == "huggingface" and len(found.names) == len(learned(official_shapes("van_b0")))
    assert found.dropped["layernorm: Hugging Face's model never uses it"] == 2


OFFICIAL = learned(official_shapes("van_b0"))
TRUNK = [name for name in OFFICIAL if not name.startswith("head.")]
HEADS = ["decode_head.conv_seg.weight", "auxiliary_head.0.bn.running_mean", "neck.lateral_convs.0.conv.weight"]
HEADS += [
    "bbox_head.a.bias",
    "roi_head.bbox_head.fc_cls.weight",
    "rpn_head.rpn_cls.weight",
    "mask_head.x.weight",
    "segmentation_head.0.weight",
]


@pytest.mark.parametrize("spelled", [str, short])
@pytest.mark.parametrize("outer", ["", "module.", "model.", "student.module."])
def test_a_whole_segmentor_or_detector(outer, spelled):
    names = [f"{outer}backbone.{spelled(name)}" for name in TRUNK] + [outer + name for name in HEADS]
    row, found, note = read_names(names)
    assert row.name == "mmseg" and note is None
    assert [found.names[name] for name in names[: len(TRUNK)]] == TRUNK
    dropped = dict.fromkeys((f"{name.split('.')[0]}: not part of the backbone" for name in HEADS), 1)
    del dropped["segmentation_head: not part of the backbone"]
    assert found.dropped == {**dropped, "other heads: not part of the backbone": 1}


def test_a_backbone_has_one_spelling():
    assert read_names(map(short, TRUNK))[::2] == (ORIGINS["mmseg"], None)
    mixed = [short(name) if name.startswith("block4") else name for name in TRUNK]
    with pytest.raises(CheckpointError, match=r"4 of 370 names .*: block4\.0\.mlp\.dwconv\.weight"):
        read_names(mixed)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "net.", "a.b._orig_mod.c."])
@pytest.mark.parametrize("origin", ["official", "mmpretrain", "huggingface"])
def test_what_every_name_begins_with_is_taken_off(prefix, origin):
    pairs = {prefix + theirs: ours for theirs, ours in their_names("van_b0", origin).items()}
    row, found, _ = read_names([*pairs, "n_averaged"])
    assert row.name == origin and found.names == {name: pairs[name] for name in learned(pairs)}
    assert found.dropped["n_averaged: how many steps were averaged"] == 1


def test_parts_that_were_compiled_by_themselves():
    names = [name.replace("block1.0.", "block1.0._orig_mod.") for name in OFFICIAL]
    assert list(read_names(names)[1].names.values()) == OFFICIAL


def test_a_foreign_name_is_the_one_that_is_named():
    names = ["model." + name for name in OFFICIAL]
    with pytest.raises(
        CheckpointError, match=r"1 of 373 names .*: criterion\.weight; --prefix model\. leaves them out"
    ):
        read_names([*names, "criterion.weight"])
    _, found, _ = read_names([*names, "criterion.weight"], prefix="model")
    assert list(found.names) == names and found.dropped == {"not below model: as asked": 1}
    with pytest.raises(CheckpointError, match=r"no name begins with mode1 \(--prefix\); they begin with model, crit"):
        read_names([*names, "criterion.weight"], prefix="mode1")


def test_two_networks_in_one_file():
    names = [prefix + name for name in OFFICIAL for prefix in ("student.", "teacher.")]
    with pytest.raises(
        CheckpointError, match=r"below several prefixes: student\., teacher\.; choose one with --prefix"
    ):
        read_names(names)
    assert list(read_names(names, prefix="teacher.")[1].names.values()) == OFFICIAL


def test_names_that_meet_once_a_prefix_is_gone():
    names = ["a." + name for name in OFFICIAL] + ["a._orig_mod.head.bias"]
    with pytest.raises(CheckpointError, match=r"two tensors are called head\.bias"):
        read_names(names, prefix="a")
    with pytest.raises(
        CheckpointError, match=r"collide .*head\.bias \(from a\.head\.bias and a\._orig_mod\.head\.bias"
    ):
        read_names(names)


def test_the_rule_for_names_that_are_alike():
    assert read_names(OFFICIAL)[0].name == "official"
    assert read_names(["backbone." + name for name in OFFICIAL])[0].name == "official"
    row, _, note = read_names(TRUNK)
    assert row.name == "mmseg" and note == HEADLESS_NOTE
    row, found, note = read_names(TRUNK, "official")
    assert row.name == "official" and note is None and len(found.names) == len(TRUNK)


@pytest.mark.parametrize(
    "names, message",
    [
        ([], "holds no tensors"),
        (["layer1.0.conv1.weight", "fc.weight"], r"no VAN's names: layer1\.0\.conv1\.weight, fc\.weight"),
        ([*OFFICIAL, "head_dist.weight"], r"1 of 373 names are not official \(the nearest origin\)'s: head_dist"),
        ([*OFFICIAL, "decode_head.x.weight"], r"1 of 373 names .*: decode_head\.x\.weight"),
        ([*TRUNK, "blocks1.0.layer_scale_1"], "blocks1.0.layer_scale_1"),
        (["norm1.weight"], "fit official and mmpretrain and mmseg"),
        (["block1.99999999.layer_scale_1"], "no VAN's names"),
        (["x" * 600], "more than 500 characters"),
        ([f"block1.{i}.norm1.{p}" for i in range(9000) for p in ("weight", "bias", "x")], "holds 27000 tensors"),
    ],
)
def test_what_is_no_vans(names, message):
    with pytest.raises(CheckpointError, match=message):
        read_names(names)


def test_a_named_origin_that_does_not_fit():
    with pytest.raises(CheckpointError, match=r"2 of 372 names are not mmseg's: head\.weight, head\.bias"):
        read_names(OFFICIAL, "mmseg")


def test_a_head_has_no_place_in_a_segmentation_backbone():
    with pytest.raises(CheckpointError, match=r"mmseg has no name for head\.weight, head\.bias; .*--drop-head"):
        translate(OFFICIAL, ORIGINS["mmseg"].table(with_head=True), "mmseg")


@pytest.mark.parametrize(
    "origin, eps, mean",
    [("official", 1e-6, 0.5), ("mmpretrain", 1e-6, 0.5), ("huggingface", 1e-6, 0.5), ("mmseg", 1e-5, 0.485)],
)
def test_what_an_origin_takes_for_granted(origin, eps, mean):
    assert ORIGINS[origin].norm_eps == eps and ORIGINS[origin].preprocessing.mean[0] == mean
