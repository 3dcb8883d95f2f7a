"""Run by test_fake_run.py in a process of its own: Jittor with CUDA on the fake runtime; one JSON document of what was seen."""

from __future__ import annotations

import ctypes
import json
import os
import sys

import jvan
from jvan import device

DOUBLE = """
__global__ static void twice(@ARGS_DEF) {
    @PRECALC
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < in0_shape0) @out(i) = @in0(i) * 2;
}
twice<<<(in0_shape0 + 255) / 256, 256>>>(@ARGS);
"""


def main() -> None:
    import jittor as jt
    import numpy as np

    from .drive_kernels import driver_copies, kernels

    runtime = ctypes.CDLL("libcudart.so.13")
    runtime.fake_launches.restype = ctypes.c_long
    x = jt.array(np.ones((4, 5, 6), np.float32))
    flat = jt.array(np.ones(300, np.float32))
    cases = {
        "code": lambda: jt.code(flat.shape, flat.dtype, [flat], cuda_src=DOUBLE),
        "transposition": lambda: x.permute(2, 0, 1),
        "product": lambda: jt.matmul(jt.ones((8, 16)), jt.ones((16, 4))),
        "where": lambda: jt.where(x > 0)[0],
        "softmax": lambda: jt.nn.softmax(jt.ones((4, 512)), -1),
        "random": lambda: jt.random((4, 4)),
    }
    launches = {}
    jt.flags.use_cuda = 1
    for name in sys.argv[1:] or cases:
        jt.sync_all(True)
        before = runtime.fake_launches()
        cases[name]().sync()
        launches[name] = runtime.fake_launches() - before
    own, copied = kernels(runtime.fake_launches), driver_copies()
    jt.flags.use_cuda = 0
    try:
        jvan.use_cuda()
        refused = ""
    except jvan.JvanError as error:
        refused = str(error)
    seen = {
        "launches": launches,
        "kernels": own,
        "driver copies": copied,
        "refused": refused,
        "auto": device.use_device("auto"),
        "has_cuda": bool(jt.has_cuda),
    }
    names = ("nvcc_path", "conv_opt", "use_cutt", "cutt_lib_path", "use_cutlass", "use_nccl")
    print(
        "\n"
        + json.dumps(
            {**seen, "flags": jt.flags.nvcc_flags, "variables": {name: os.environ.get(name) for name in names}}
        )
    )
    sys.stdout.flush()
    os._exit(0)  # what a kernel should have written may crash Jittor's own clean-up


if __name__ == "__main__":
    main()
