"""The pointers that operators hand to their kernels have names, and a name that is missing or wrong does not compile."""

import subprocess

import jittor as jt
import pytest

from jvan.ops import _jit

SOURCE = """
#include "arguments.h"
struct Layer { jvan::Input x, weight; jvan::Output y; float* kept = nullptr; };
float* run(float* a, float* b, float* c) { const Layer args = PLACED; return args.y; }
"""


def compiles(placed):
    command = [jt.flags.cc_path, "-std=c++14", "-fsyntax-only", "-x", "c++", f"-I{_jit.KERNELS}", "-"]
    return (
        subprocess.run(command, input=SOURCE.replace("PLACED", placed), text=True, capture_output=True).returncode == 0
    )


def test_the_initialiser_of_a_struct():
    text = _jit.members("x", "weight", "y")
    assert _jit._placed(text, ("weight", "x"), ("y",)) == "{.x = in1_p, .weight = in0_p, .y = out0_p}"


@pytest.mark.parametrize(
    "placed, good",
    [
        ("{.x = a, .weight = b, .y = c}", True),
        ("{.x = a, .weight = b, .y = c, .kept = c}", True),
        ("{.x = a, .y = c}", False),
        ("{.x = a, .weight = b, .y = c, .z = c}", False),
    ],
    ids=["all", "and what may be null", "one is missing", "one is not there"],
)
def test_what_compiles(placed, good):
    assert compiles(placed) == good


def test_a_name_that_stands_for_two_variables_is_refused():
    with pytest.raises(TypeError):
        _jit._placed("{x}_p", ("x",), ("x",))
