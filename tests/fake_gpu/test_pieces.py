"""The pieces of a home by themselves: the transposition's arithmetic, the compiler script, the changed header, the driver's answers."""

from __future__ import annotations

import ctypes
import itertools
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import jvan.boot.toolkit
from jvan.boot.toolkit import assemble, locate
from jvan.errors import JvanError

CUDA = pathlib.Path(jvan.boot.toolkit.__file__).parent
FAKE = pathlib.Path(__file__).parent / "fake"
ROOT = pathlib.Path(__file__).resolve().parents[2]
# The kernels of cutt.cu, launched by the same function, emulated thread by thread in fewer and smaller blocks than on a GPU.
HOST = """
#include "emulator.h"
#include "move.h"
using namespace jvan;
struct Launch {
    template <class Element>
    void operator()(void (*kernel)(Permutation, const Element*, Element*), long long blocks, int threads, const Permutation& p,
                    const Element* input, Element* output) const {
        launch("transposition", kernel, blocks, threads, 0, p, input, output);
    }
};
extern "C" int permute(int rank, int* sizes, int* order, int bytes, void* input, void* output, int* rows, int* others, int backwards) {
    Permutation p;
    if (!p.set(rank, sizes, order, bytes)) return 1;
    *rows = p.rows;
    *others = p.count;
    emulator().backwards = backwards;
    move(p, input, output, 2 * TILE, 3, Launch());
    return 0;
}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("permute")
    (folder / "host.cc").write_text(HOST)
    command = [
        "g++",
        "-O1",
        "-Wall",
        "-Werror",
        "-shared",
        "-fPIC",
        f"-I{CUDA / 'transpose'}",
        f"-I{ROOT / 'tools' / 'cuda_emulator'}",
        "host.cc",
        "-o",
        "host.so",
    ]
    subprocess.run(command, check=True, cwd=folder)
    return ctypes.CDLL(str(folder / "host.so"))


def permuted(library, array, axes, backwards=False):
    """numpy's transpose by the library, whose sizes and axes are fastest first; whether whole rows moved; the axes besides the fastest.

    backwards: the last thread goes first, so that a barrier that is missing shows in one order or the other.
    """
    rank = array.ndim
    sizes = (ctypes.c_int * rank)(*array.shape[::-1])
    order = (ctypes.c_int * rank)(*(rank - 1 - axis for axis in axes[::-1]))
    result = np.full([array.shape[axis] for axis in axes], 77, array.dtype)
    rows, others = ctypes.c_int(), ctypes.c_int()
    pointers = (array.ctypes.data_as(ctypes.c_void_p), result.ctypes.data_as(ctypes.c_void_p))
    found = (ctypes.byref(rows), ctypes.byref(others))
    assert library.permute(rank, sizes, order, array.itemsize, *pointers, *found, backwards) == 0
    return result, bool(rows.value), others.value


@pytest.mark.parametrize(
    "shape", [(5,), (33, 70), (2, 3, 5), (1, 40, 1, 33), (3, 31, 32, 1), (2, 5, 2, 3, 34), (2, 1, 3, 2, 2, 5)]
)
def test_every_transposition_is_numpys(library, shape):
    generator = np.random.default_rng(len(shape))
    kinds = set()
    for i, axes in enumerate(itertools.permutations(range(len(shape)))):
        array = generator.integers(0, 2**32, shape, np.uint32)
        result, rows, _ = permuted(library, array, axes, backwards=i % 2)
        np.testing.assert_array_equal(result, array.transpose(axes))
        kinds.add(rows)
    assert kinds == ({True} if len(shape) == 1 else {True, False}), "both kernels have had their turn"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint64])
def test_other_elements_and_neighbours(library, dtype):
    array = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (6, 7, 8, 9), dtype, endpoint=True)
    for axes in ((0, 2, 3, 1), (0, 3, 1, 2), (2, 3, 0, 1)):  # neighbours that stay so
        result, _, others = permuted(library, array, axes)
        np.testing.assert_array_equal(result, array.transpose(axes))
        assert others == (0 if axes[0] else 1), "neighbours are one axis"


@pytest.mark.parametrize("order", [(0, 0), (0, 2), (-1, 0)])
def test_what_is_no_permutation_is_refused(library, order):
    """Nor elements of three bytes, nor more axes than there are."""
    pair = ctypes.c_int * 2
    assert library.permute(2, pair(3, 4), pair(1, 0), 3, None, None, None, None, 0) == 1
    assert library.permute(2, pair(3, 4), pair(*order), 4, None, None, None, None, 0) == 1
    assert (
        library.permute(17, (ctypes.c_int * 17)(), (ctypes.c_int * 17)(*range(17)), 4, None, None, None, None, 0) == 1
    )


@pytest.mark.parametrize(
    ("version", "archs", "given", "expected"),
    [
        (
            (13, 0),
            [90],
            ["-std=c++14", "-code=sm_90", "a b", "*", "-x'"],
            ["-std=c++17", "-code=sm_90", "a b", "*", "-x'"],
        ),
        ((12, 4), [90], ["-std=c++14"], ["-std=c++14"]),
        ((13, 0), [90, 120], ["-arch=compute_90", "-code=sm_90"], ["-arch=compute_90", "-code=sm_90,compute_90"]),
        ((11, 4), [90], ["-code=sm_86"], ["-code=sm_86,compute_86"]),
        ((13, 0), [120], [], []),
    ],
)
def test_compiler_script(tmp_path, version, archs, given, expected):
    real = tmp_path / "real nvcc"
    real.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\nexit 3\n")
    real.chmod(0o755)
    assemble._write_compiler(str(tmp_path), locate.Toolkit(str(real), str(tmp_path), version), archs)
    result = subprocess.run([tmp_path / "bin" / "nvcc", *given], capture_output=True, text=True)
    assert result.stdout == "".join(f"{word}\n" for word in expected or [""]) and result.returncode == 3


def test_header_is_changed_at_one_place():
    text = "struct other\n{\n    int a;\n};\n/** of cudaDeviceProp */\nstruct cudaDeviceProp\n{\n    int major;\n};\nint after;\n"
    changed = assemble.with_device_fields(text)
    added = [line for line in changed.splitlines() if line not in text.splitlines()]
    assert len(added) == 3 and "".join(f"{line}\n" for line in changed.splitlines() if line not in added) == text
    assert changed.index("major") < changed.index("clockRate") < changed.index("};\nint after")
    with pytest.raises(JvanError, match="no struct cudaDeviceProp"):
        assemble.with_device_fields("struct cudaDeviceProp;")


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    folder = tmp_path_factory.mktemp("driver")
    command = ["g++", "-shared", "-fPIC", str(FAKE / "driver.cc"), "-o", str(folder / "libcuda.so.1")]
    subprocess.run(command, check=True)
    return folder


@pytest.mark.parametrize(
    ("version", "archs", "expected"),
    [
        ("13000", "90", "(13, 0) [('fake GPU 0', 90)]"),
        ("12080", "86 120", "(12, 8) [('fake GPU 0', 86), ('fake GPU 1', 120)]"),
        ("13010", "", "(13, 1) []"),
    ],
)
def test_driver_is_asked(driver, version, archs, expected):
    code = "from jvan.boot.toolkit import driver\nprint(driver.version(), [tuple(gpu) for gpu in driver.gpus()])"
    surroundings = {"LD_LIBRARY_PATH": str(driver), "FAKE_CUDA": version, "FAKE_ARCHS": archs, "PYTHONPATH": str(ROOT)}
    surroundings["use_mkl"] = "0"  # without site-packages there is no oneDNN, of which jvan would warn
    command = [sys.executable, "-S", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, env={"PATH": os.environ["PATH"], **surroundings})
    assert (result.stdout, result.stderr) == (f"{expected}\n", "")
