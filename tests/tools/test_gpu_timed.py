"""The source that times an operator between CUDA events, on the host: it takes turns among maps and leaves none out."""

import numpy as np
import pytest

from jvan.ops.cuda.operators import OPERATORS
from tools.cuda_emulator import emulator
from tools.gpu_check import timed as gpu_timed
from tools.gpu_check.bandwidth import COPIES, KERNELS, OF_STEM
from tools.gpu_check.calls import OPERATOR, call

# Between two events pass as many milliseconds as another event or synchronisation came since the first was recorded.
EVENTS = """
#include <cstdint>
#include <cstring>
typedef int64_t cudaEvent_t;
enum {{ cudaMemcpyHostToDevice }};
static int64_t clock_now = 0;
inline int cudaEventCreate(cudaEvent_t* event) {{ return *event = 0; }}
inline int cudaEventRecord(cudaEvent_t& event, int) {{ event = ++clock_now; return 0; }}
inline int cudaEventSynchronize(cudaEvent_t) {{ return 0; }}
inline int cudaEventElapsedTime(float* ms, cudaEvent_t a, cudaEvent_t b) {{ *ms = float(b - a) * 7000; return 0; }}
inline int cudaEventDestroy(cudaEvent_t) {{ return 0; }}
inline int cudaMemcpy(void* to, const void* from, size_t size, int) {{ std::memcpy(to, from, size); return 0; }}
#include "{header}"
"""


@pytest.fixture
def timed(tmp_path, monkeypatch):
    """An emulator of bias_gate, timed."""
    plain = OPERATORS["bias_gate"]
    header = tmp_path / "events.h"
    header.write_text(EVENTS.format(header=emulator.KERNELS / plain.header))
    numbers = (*plain.numbers, "in0_size", "in2_size", "out0_size", "turns", "calls")
    operator = plain._replace(
        header=str(header), source=gpu_timed.source_of(plain), outputs=plain.outputs + "F", numbers=numbers
    )
    monkeypatch.setattr(emulator, "OPERATORS", {"bias_gate": operator})
    return emulator.Emulator(emulator.build(tmp_path))


@pytest.mark.parametrize("turns", [1, 3])
def test_every_map_has_its_turn(timed, turns):
    rows, chans, rng = 5, 8, np.random.RandomState(0)
    p, u = (rng.standard_normal((turns * rows, chans)).astype(np.float32) for _ in range(2))
    bias = rng.standard_normal(chans).astype(np.float32)
    sizes = dict.fromkeys(("in0_size", "in2_size", "out0_size"), rows * chans)
    y, times = timed.run(
        "bias_gate", ("float32", "float32"), [p, bias, u], [p.shape, (4,)],
        {"slices": 1, "turns": turns, "calls": 7, **sizes},
    )  # fmt: skip
    np.testing.assert_allclose(y, (p + bias) * u, rtol=1e-6)
    np.testing.assert_allclose(times, [1.0] * 4)  # one tick of 7 s, over seven calls


def test_maps_are_more_than_the_cache_holds():
    assert gpu_timed.turns_of(12_845_056) == 20 and gpu_timed.turns_of(822_083_584) == 2
    assert all(gpu_timed.turns_of(moved) * moved >= gpu_timed.CACHE for moved in (3_211_264, 128_000_000, 255_000_000))


def test_each_measured_kernel_can_be_timed():
    """Every map that goes in or out takes turns; what is a parameter or a sum does not."""
    for kernel, *sizes in (*OF_STEM, *KERNELS):
        operator = call(kernel, (1, 4, 4, 8), "float32", *sizes).operator
        source = gpu_timed.source_of(operator)
        for side, letters in (("in", operator.inputs), ("out", operator.outputs)):
            for i, letter in enumerate(letters):
                assert (f"auto* {side}{i}_p = " in source) == (letter == "T"), kernel
        assert operator.source in source and f"out{len(operator.outputs)}_p + round" in source


def test_every_kernel_is_measured():
    measured = {*COPIES, *(call(kernel, (1, 4, 4, 8), "float32", *sizes).name for kernel, *sizes in KERNELS)}
    assert measured == set(OPERATORS)


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_what_a_call_moves(kernel):
    """Of each map at least once: those that go in and those that come out, of one turn of two."""
    shape, turns = (2, 4, 6, 8), 2
    called = call(kernel[0], shape, "bfloat16" if kernel[0] != "adamw" else "float32", *kernel[1:], turns=turns)
    operator = OPERATOR[called.name]
    elements = sum(x.numel() for x, letter in zip(called.inputs, operator.inputs) if letter == "T")
    elements += sum(int(np.prod(s)) for s, letter in zip(called.outputs, operator.outputs) if letter == "T")
    if called.name == "depthwise_gelu":  # its second output is a place-holder
        elements -= turns
    again = 2 * np.prod(shape) * turns if called.name == "batch_norm_backward" else 0  # both maps, after the sums
    assert called.moved * turns == (elements + again) * (4 if called.name == "adamw" else 2)
    assert len(called.inputs) == len(operator.inputs) and len(called.outputs) == len(operator.outputs)
