"""Configurations from names and shapes: against recorded shapes, the paper's counts, and broken sets of tensors."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from jvan.checkpoints.names.architecture import infer_config, parameter_shapes, settle_config
from jvan.errors import CheckpointError
from jvan.variants import VARIANTS, variant_config

from .recorded_names import ARCHS, learned, official_shapes, recorded

COUNTS = {  # parameters; B0's is printed by the TensorFlow port, B1 to B4's by the paper's Table 5 in millions
    "van_b0": 4_105_800,
    "van_b1": 13_861_800,
    "van_b2": 26_578_472,
    "van_b3": 44_765_608,
    "van_b4": 60_283_176,
    "van_b5": 89_967_688,
    "van_b6": 199_829_416,
}
ABLATIONS = [  # the paper's Tables 3 and 6, on B0
    ({"lka_parts": ("dw_d", "pw")}, 4_064_200),
    ({"lka_parts": ("dw", "pw")}, 4_025_800),
    ({"lka_parts": ("dw", "dw_d")}, 3_829_768),
    ({"kernel_size": 7, "dilation": 2}, 4_027_400),
    ({"kernel_size": 14, "dilation": 3}, 4_067_400),
    ({"kernel_size": 28, "dilation": 4}, 4_144_200),
]
B0 = variant_config("van_b0")


def parameters(shapes) -> int:
    return sum(math.prod(shape) for name, shape in shapes.items() if "running" not in name)


@pytest.mark.parametrize("arch", ARCHS)
def test_shapes_and_order_are_the_official_codes(arch):
    shapes = official_shapes(arch)
    wanted = parameter_shapes(variant_config(arch))
    assert list(wanted.items()) == [(name, shapes[name]) for name in learned(shapes)]
    assert parameters(wanted) == COUNTS[arch] == parameters({n: tuple(s) for n, s in wanted.items()})


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("classes", [1000, 0, 21841])
def test_architecture_is_found(arch, classes):
    shapes = {name: shape for name, shape in official_shapes(arch).items() if name in learned([name])}
    width = shapes["head.weight"][1]
    shapes.update({"head.weight": (classes, width), "head.bias": (classes,)})
    if not classes:
        del shapes["head.weight"], shapes["head.bias"]
    config, notes = infer_config(shapes)
    assert config == variant_config(arch, num_classes=classes) and config.arch == arch and not notes


def test_recorded_shapes_are_read_from_hugging_face_too():
    found = recorded("van_b1")
    shapes = {
        found["huggingface_to_official"][n]: tuple(s) for n, s in found["huggingface"].items() if ".layernorm." not in n
    }
    assert infer_config({n: shapes[n] for n in learned(shapes)})[0] == variant_config("van_b1")


@pytest.mark.parametrize("changes, count", ABLATIONS)
def test_the_papers_ablations(changes, count):
    config = replace(B0, **changes)
    shapes = parameter_shapes(config)
    assert parameters(shapes) == count
    assert infer_config(shapes)[0] == config


@pytest.mark.parametrize(
    "changes", [{"in_chans": 1}, {"in_chans": 13}, {"mlp_ratios": (1, 2, 3, 4)}, {"depths": (1, 1, 1, 1)}]
)
def test_other_networks(changes):
    config = replace(B0, **changes)
    assert infer_config(parameter_shapes(config))[0] == config


def test_a_kernel_size_that_leaves_no_trace_is_said():
    config, notes = infer_config(parameter_shapes(replace(B0, kernel_size=32, dilation=3)))
    assert (config.kernel_size, config.dilation) == (33, 3) and "31 to 33 give the same network" in notes[0]
    _, notes = infer_config(parameter_shapes(replace(B0, lka_parts=("dw_d", "pw"))))
    assert "dilation leaves no trace: 3 is assumed" in notes[0]


def test_the_readmes_b6_is_no_b6():
    config, notes = infer_config(parameter_shapes(replace(variant_config("van_b6"), embed_dims=(96, 192, 480, 768))))
    assert config.arch == "custom" and "README" in notes[0]


def broken(change) -> dict:
    shapes = parameter_shapes(B0)
    change(shapes)
    return shapes


def set_shape(name, shape):
    return lambda shapes: shapes.update({name: shape})


def without(*starts):
    def change(shapes):
        for name in [name for name in shapes if name.startswith(starts)]:
            del shapes[name]

    return change


@pytest.mark.parametrize(
    "change, message",
    [
        (without("norm3."), r"2 missing: norm3\.weight, norm3\.bias"),
        (without("block3.1."), r"missing before block3\.4: block3\.1"),
        (without("block2."), "no tensor of block2"),
        (without("patch_embed1.proj.weight"), r"patch_embed1\.proj\.weight is missing"),
        (without("head.bias"), r"1 missing: head\.bias"),
        (without("head.weight"), r"1 unexpected: head\.bias"),
        (without("block1.0.attn.spatial_gating_unit."), "lka_parts"),
        (without("block4.1.attn.spatial_gating_unit.conv0"), "2 missing: block4.1"),
        (set_shape("block3.9999.layer_scale_1", (160,)), r"before block3\.9999: .*9994 in all"),
        (
            set_shape("block1.0.norm1.weight", (33,)),
            r"1 misshapen: block1\.0\.norm1\.weight \(33,\) instead of \(32,\)",
        ),
        (set_shape("patch_embed1.proj.weight", (32, 3, 4, 4)), r"\(32, 3, 4, 4\) instead of \(32, 3, 7, 7\)"),
        (set_shape("patch_embed1.proj.weight", (32, 147)), "needs 4 dimensions"),
        (set_shape("patch_embed1.proj.weight", (0, 3, 7, 7)), "no whole ratio"),
        (set_shape("patch_embed1.proj.weight", (32, 0, 7, 7)), "in_chans is 0"),
        (set_shape("block1.0.mlp.fc1.weight", (257, 32, 1, 1)), "no whole ratio"),
        (set_shape("block1.0.attn.spatial_gating_unit.conv0.weight", (32, 1, 4, 4)), "4x4"),
        (set_shape("block1.0.attn.spatial_gating_unit.conv_spatial.weight", (32, 1, 0, 0)), "misshapen|kernel_size"),
        (set_shape("block1.0.attn.spatial_gating_unit.conv_spatial.weight", (32, 1, 4, 4)), "cannot be padded evenly"),
        (set_shape("block1.0.attn.proj_1.weight", (32, 32)), r"\(32, 32\) instead of \(32, 32, 1, 1\)"),
        (set_shape("block1.0.mlp.fc1.weight", (2**60, 32, 1, 1)), "misshapen"),
    ],
)
def test_what_is_no_whole_van(change, message):
    with pytest.raises(CheckpointError, match=message):
        infer_config(broken(change))


def test_metadata_settle_what_shapes_leave_open():
    known = replace(B0, kernel_size=19, stem_stride=2, gate="sigmoid", norm_eps=1e-3)
    assert settle_config(B0, known, "van_b0") == known
    assert settle_config(B0, None, None) == B0


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"depths": (3, 3, 5, 3)}, r"depths \(3, 3, 5, 3\) against \(3, 3, 5, 2\)"),
        ({"num_classes": 10}, "num_classes 10 against 1000"),
        ({"kernel_size": 14}, r"LKA kernels \(5, 5\) against \(5, 7\)"),
        ({"in_chans": 1, "lka_parts": ("dw", "pw")}, "in_chans 1 against 3; lka_parts"),
    ],
)
def test_metadata_that_contradict_the_shapes(changes, message):
    with pytest.raises(CheckpointError, match=message):
        settle_config(B0, replace(B0, **changes), None)


def test_an_arch_that_contradicts_the_shapes():
    with pytest.raises(CheckpointError, match=r"arch \(--arch\) says van_b1, but the tensors are those of a van_b0"):
        settle_config(B0, None, "van_b1")
    assert set(VARIANTS) == set(COUNTS)
