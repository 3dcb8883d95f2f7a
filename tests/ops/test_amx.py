"""AMX's instructions as they are emulated against numpy, what compilers make of the real ones, and what is said of them."""

import re
import shutil
import subprocess

import jittor as jt
import numpy as np
import pytest

from jvan.ops import _jit

# in0: what LDTILECFG reads; tiles 0 to 2 are loaded from in1 to in3, rows 64 bytes apart where they have no stride of their own.
TILES = """
JVAN_TILE(loadconfig)(in0_p);
JVAN_TILE(loadd)(0, in1_p, 64);
JVAN_TILE(loadd)(1, in2_p, stride);
JVAN_TILE(loadd)(2, in3_p, 64);
JVAN_TILE(dpbf16ps)(0, 1, 2);
std::memset(out0_p, 0xff, 18 * 64);
std::memset(out1_p, 0xff, 18 * 64);
JVAN_TILE(stored)(0, out0_p, 64);
JVAN_TILE(stored)(1, out1_p, 64);
JVAN_TILE(zero)(0);
JVAN_TILE(stored)(0, out2_p, 64);
JVAN_TILE(release)();
"""
FAULT = """
jvan::emulated_tiles::release();
out0_p[0] = 0;
try {
    PROGRAM
} catch (const std::logic_error&) {
    out0_p[0] = 1;
}
"""
COMPILED = """
#include "network.h"
extern "C" void product(const void* p, long begin, long end, int first, int last, float* words) {
    jvan::multiply_floats(*static_cast<const jvan::Product*>(p), begin, end, first, last, words);
}
"""


def shapes(**tiles):
    """LDTILECFG's 64 bytes, as words; t0=(rows, words in a row)."""
    memory = np.zeros(64, np.uint8)
    memory[0] = 1
    for name, (rows, words) in tiles.items():
        memory[16 + 2 * int(name[1:])] = 4 * words
        memory[48 + int(name[1:])] = rows
    return memory.view(np.int32)


def pairs(values):
    """(rows, 2·words) floats -> words of bfloat16, the first of two in the lower half, by cutting off."""
    halves = values.astype(np.float32).view(np.uint32) >> 16
    return (halves[:, ::2] | halves[:, 1::2] << 16).astype(np.uint32).view(np.int32)


def cut(values):
    return (values.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32).astype(np.float64)


def in_rows(words):
    return np.pad(words, [(0, 16 - len(words)), (0, 16 - words.shape[1])], constant_values=0x40404040)


def run(source, inputs, count, numbers=None):
    results = _jit.run_kernel(
        "amx.h", source, [jt.array(i) for i in inputs], [(18, 16)] * count, numbers, dtype="int32"
    )
    return [r.numpy() for r in results]


@pytest.mark.parametrize(("m", "k", "n"), [(16, 16, 16), (1, 1, 1), (5, 16, 16), (16, 3, 7), (7, 11, 16), (13, 16, 2)])
@pytest.mark.parametrize("stride", [64, 0, 4])
def test_a_product_of_tiles(tiles, m, k, n, stride):
    random = np.random.RandomState(m + k + n)
    sums, left, right = (random.standard_normal(s).astype(np.float32) for s in [(m, n), (m, 2 * k), (2 * k, n)])
    a = in_rows(pairs(left)).ravel()
    start = np.arange(16)[:, None] * (stride // 4) + np.arange(16)
    loaded = np.pad(a, (0, 16))[start]
    b = in_rows(pairs(np.ascontiguousarray(right.reshape(k, 2, n).swapaxes(1, 2)).reshape(k, 2 * n)))
    c = in_rows(sums.view(np.int32))
    config = shapes(t0=(m, n), t1=(m, k), t2=(k, n))
    found, kept, cleared = run(TILES, [config, c, np.pad(a, (0, 16)), b], 3, {"stride": stride})
    words = loaded[:m, :k].astype(np.int32).view(np.uint32)
    halves = np.stack([words << 16, words & 0xFFFF0000], -1).view(np.float32).reshape(m, 2 * k).astype(np.float64)
    want = sums + halves @ cut(right)
    np.testing.assert_allclose(found[:m, :n].view(np.float32), want, rtol=0, atol=1e-5 * max(1, np.abs(want).max()))
    np.testing.assert_array_equal(kept[:m, :k], loaded[:m, :k])
    assert (cleared[:m, :n] == 0).all()
    for stored, width in ((found, n), (kept, k)):
        assert (stored[m:] == -1).all() and (stored[:, width:] == -1).all(), "a store past the tile's shape"


def test_subnormal_numbers_are_zero(tiles):
    left = np.array([[0x0001, 0x3F80], [0x3F80, 0x0080]], np.uint32)  # (2^-133, 1), (1, 2^-126)
    right = np.array([[0x7F00, 0x4000, 0x0040, 0x3E80]], np.uint32)  # (2^127, 2), (2^-127, 1/4)
    a, b = (in_rows((halves[:, ::2] | halves[:, 1::2] << 16).view(np.int32)) for halves in (left, right))
    config = shapes(t0=(2, 2), t1=(2, 1), t2=(1, 2))
    found, *_ = run(TILES, [config, in_rows(np.zeros((2, 2), np.int32)), a, b], 3, {"stride": 64})
    # Without 2^-133 · 2^127; without 2^-133 · 2^-127; 2^127 + 2^-125; without 2^-127, and 2^-128 is no result.
    np.testing.assert_array_equal(found[:2, :2].view(np.int32), np.float32([[2, 0.25], [2.0**127, 0]]).view(np.int32))


LOAD = "JVAN_TILE(loadconfig)(in0_p); "


@pytest.mark.parametrize(
    ("program", "config"),
    [
        ("JVAN_TILE(zero)(0);", {}),
        (LOAD + "JVAN_TILE(zero)(1);", {"t0": (16, 16)}),
        (LOAD + "JVAN_TILE(release)(); JVAN_TILE(zero)(0);", {"t0": (16, 16)}),
        (LOAD, {"t0": (17, 16)}),
        (LOAD, {"t0": (16, 17)}),
        (LOAD, {"t0": (16, 0)}),
        (LOAD, {"t9": (1, 1)}),
        (LOAD + "JVAN_TILE(dpbf16ps)(0, 1, 2);", {"t0": (4, 4), "t1": (5, 4), "t2": (4, 4)}),
        (LOAD + "JVAN_TILE(dpbf16ps)(0, 1, 2);", {"t0": (4, 4), "t1": (4, 4), "t2": (5, 4)}),
        (LOAD + "JVAN_TILE(dpbf16ps)(0, 1, 1);", {"t0": (4, 4), "t1": (4, 4), "t2": (4, 4)}),
    ],
    ids=["not configured", "no such tile", "released", "17 rows", "68 bytes", "rows alone", "a ninth tile", "rows that differ",
         "depths that differ", "a tile twice"],
)  # fmt: skip
def test_faults(monkeypatch, program, config):
    monkeypatch.setattr(_jit, "amx", 2)
    assert run(FAULT.replace("PROGRAM", program), [shapes(**config)], 1)[0][0, 0] == 1


def test_no_fault_where_all_is_right(monkeypatch):
    monkeypatch.setattr(_jit, "amx", 2)
    program = LOAD + "JVAN_TILE(zero)(7); JVAN_TILE(loadconfig)(in0_p); JVAN_TILE(release)();"
    assert run(FAULT.replace("PROGRAM", program), [shapes(t7=(1, 1))], 1)[0][0, 0] == 0


def compiled(options, folder, source=COMPILED):
    """The path of `source` compiled with `options`; the test is skipped where g++ knows none of these."""
    compiler = shutil.which("g++")
    if not compiler:
        pytest.skip("no g++")
    try:
        _jit._macros(compiler, *[o for o in options if o.startswith("-m")])
    except subprocess.CalledProcessError:
        pytest.skip(f"g++ does not take {options}")
    text, out = folder / "product.cc", folder / "product"
    text.write_text(source)
    command = [compiler, "-std=c++14", "-Wall", "-Wno-unused", *options, f"-I{_jit.KERNELS}", "-o", str(out), str(text)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0 and "warning" not in result.stderr, result.stderr
    return out


@pytest.mark.parametrize("level", ["-O2", "-Ofast"])
def test_compiled_for_a_processor_with_tiles(tmp_path, level):
    path = compiled(["-march=sapphirerapids", level, "-fopenmp", "-S"], tmp_path)
    lines = path.read_text().split("\n")
    count = {
        name: sum(name in line for line in lines) for name in ("tdpbf16ps", "ldtilecfg", "tilerelease", "tilezero")
    }
    assert all(count.values()) and count["tdpbf16ps"] >= 6, count
    # In the order of the loop's text, by which no tile waits for what it does not need, and none goes through the stack.
    loop = [re.sub(r"\s+", " ", line).strip() for line in lines if re.search(r"tdpbf16ps|tileloadd", line)]
    tall = ["%tmm6, %tmm4, %tmm0", "%tmm7, %tmm4, %tmm1", "%tmm6, %tmm5, %tmm2", "%tmm7, %tmm5, %tmm3"]
    assert [line[10:] for line in loop if line.startswith("tdpbf16ps")][:4] in (tall, [*tall[:2], *tall[:2]])
    assert not [line for line in lines if re.search(r"tile(loadd|stored).*%rsp", line)]


def test_other_processors_get_none(tmp_path):
    text = compiled(["-march=x86-64-v3", "-O2", "-fopenmp", "-S"], tmp_path).read_text()
    assert not re.search(r"tdpbf16ps|ldtilecfg|tilerelease|vdpbf16ps", text)


REFUSED = """
#include "gemm.h"
#include <cmath>
#include <cstdio>
#include <vector>
int main() {
    const int rows = 50, depth = 64;
    std::vector<float> from(rows * depth), weights(depth * 16), to(rows * 32), words(rows * depth / 2);
    std::vector<float> plain(depth * 32);
    for (int i = 0; i < rows * depth; i++) from[i] = float(i * 37 % 101 - 50) / 64;  // exact in bfloat16
    for (int i = 0; i < depth * 32; i++) plain[i] = float(i * 53 % 97 - 48) / 64;
    for (int k = 0; k < depth; k += 2)
        for (int n = 0; n < 32; n++) {
            const float two[] = {plain[k * 32 + n], plain[(k + 1) * 32 + n]};
            jvan::round_to_pairs(two, 2, &weights[(k / 2) * 32 + n]);
        }
    jvan::Product p = jvan::product(from.data(), rows * 32, 2, weights.data(), nullptr, to.data(), rows * 32, true);
    jvan::multiply_floats(p, 0, rows, 0, 1, words.data());
    double worst = 0;
    for (int m = 0; m < rows; m++)
        for (int n = 0; n < 32; n++) {
            double sum = 0;
            for (int k = 0; k < depth; k++) sum += double(from[(k / 32) * rows * 32 + m * 32 + k % 32]) * plain[k * 32 + n];
            worst = std::fmax(worst, std::fabs(sum - to[m * 32 + n]));
        }
    const bool granted = JVAN_AMX && jvan::multiply_in_tiles(jvan::rounded(p, 0, rows, words.data()), 0, rows, 0, 1);
    std::printf("%d %d %g", JVAN_AMX, granted, worst);
}
"""


def test_the_operating_system_decides(tmp_path):
    """Compiled for this processor with tiles, which few have: dot products run where Linux refuses them, and say the same."""
    if "__AVX512BF16__" not in _jit._macros(jt.flags.cc_path, "-march=native"):
        pytest.skip("no AVX512-BF16, without which nothing has AMX")
    options = ["-march=native", "-mamx-tile", "-mamx-bf16", "-O2"]
    program = compiled(options, tmp_path, REFUSED)
    built, granted, worst = subprocess.run([program], capture_output=True, text=True, check=True).stdout.split()
    assert built == "1" and float(worst) < 1e-4
    assert bool(int(granted)) == _jit._tiles_granted()


ALL = {"__AMX_BF16__": "1", "__AMX_TILE__": "1", "__AVX512F__": "1", "__AVX512BF16__": "1", "__linux__": "1"}


@pytest.mark.parametrize(
    ("macros", "granted", "said"),
    [
        (ALL, True, "bfloat16 products by AMX, float32 sums"),
        (ALL, False, "bfloat16 products by AVX512-BF16, float32 sums: the operating system grants no AMX"),
        (
            {"__AVX512F__": "1", "__AVX512BF16__": "1", "__linux__": "1"},
            True,
            "bfloat16 products by AVX512-BF16, float32 sums",
        ),
        ({"__linux__": "1"}, True, "values rounded to bfloat16, float32 products and sums: no AVX512-BF16 here"),
    ],
    ids=["AMX", "refused", "AVX512-BF16", "neither"],
)
def test_what_is_said(monkeypatch, macros, granted, said):
    monkeypatch.setattr(_jit, "_macros", lambda *_: macros)
    monkeypatch.setattr(_jit, "_tiles_granted", lambda: granted)
    assert _jit.arithmetic("bfloat16") == (said, "__AVX512BF16__" in macros)
    assert _jit.arithmetic("float32") == ("float32", True)


def test_what_is_said_is_what_runs():
    source = "out0_p[0] = JVAN_AMX;\n#if JVAN_AMX\nout0_p[0] = jvan::tiles_granted();\n#endif"
    ((runs,),) = [r.numpy() for r in _jit.run_kernel("amx.h", source, [], [(1,)], dtype="int32")]
    assert ("by AMX" in _jit.arithmetic("bfloat16").text) == bool(runs)
