"""What the fused network costs beside time: scratch memory that its largest layer bounds, and few operators to compile."""

import re

import jittor as jt
import numpy as np
import pytest

from jvan.inference.fused.cpu import InferenceVAN
from jvan.inference.fused.plan import BLOCK, HEAD, STAGE, Sizes, blocks, make_plan
from jvan.models import build
from jvan.ops import _jit
from jvan.structure import stages
from jvan.variants import variant_config


def members(struct):
    """The integers of one of plan.h's structs, in their order; what it holds beside them is no int."""
    body = re.search(
        rf"^struct {struct} {{\n(.*?)^$", (_jit.KERNELS / "plan.h").read_text(encoding="utf-8"), re.M | re.S
    )[1]
    return tuple(name for names in re.findall(r"^    int ([\w, ]+);", body, re.M) for name in names.split(", "))


def test_the_numbers_lie_in_the_order_of_the_structs_that_read_them():
    assert members("Plan") == HEAD and members("Stage") == STAGE


def sizes_of(arch, pairs):
    config = variant_config(arch)
    return Sizes(3, config.num_classes, 5, 7, 3, True, "multiply", config.norm_eps, tuple(stages(config)), pairs)


def floats_of_outputs(sizes, pictures):
    """Pooled features and logits, which each picture has."""
    return pictures * (blocks(sizes.stages[-1].chans) + blocks(sizes.classes)) * BLOCK


@pytest.mark.parametrize("pairs", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("arch", ["van_b0", "van_b2", "van_b6"])
def test_scratch_is_bounded_by_the_largest_layer(arch, pairs):
    sizes = sizes_of(arch, pairs)
    for side in (224, 448, 1024):
        for threads in (1, 2, 8):
            for pictures in (1, threads, 64):
                plan = make_plan(sizes, pictures, side, side, threads)
                layer = max(height * width * stage.hidden for (height, width), stage in zip(plan.maps, sizes.stages))
                assert plan.scratch - floats_of_outputs(sizes, pictures) <= threads * layer


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_scratch_does_not_grow_with_the_batch(threads):
    sizes = sizes_of("van_b0", False)
    of_one, of_many = (make_plan(sizes, n * threads, 224, 224, threads).scratch for n in (1, 16))
    assert of_many - of_one == floats_of_outputs(sizes, 15 * threads)


def operators(model, x):
    """The files of the compiled operators that a call runs."""
    with jt.profile_scope(warmup=0, rerun=0) as report, jt.no_grad():
        jt.sync([value for value in [model(x)] for value in (value if isinstance(value, list) else [value])])
    header, *rows = report
    return {row[header.index("FileName")] for row in rows}


def test_one_operator_serves_all_shapes():
    config = variant_config("van_b0")
    models = [InferenceVAN(build(config, **options).eval()) for options in ({}, {"out_indices": (1, 3)})]
    found = set()
    for shape in [(1, 3, 64, 64), (3, 3, 97, 33), (2, 3, 224, 160)]:
        x = jt.array(np.ones(shape, np.float32))
        x.sync()
        for model in models:
            found |= operators(model, x)
    assert len(found) == 1, found
