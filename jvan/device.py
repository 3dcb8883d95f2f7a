"""Where Jittor computes."""

from __future__ import annotations

import functools

from ._say import tell
from .errors import JvanError

DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("float32", "float16", "bfloat16")  # of what is multiplied; on the CPU there is no float16
REASON = "run `python -m jvan.doctor` for the reason"


def use_device(name: str = "auto") -> str:
    """Choose the device for everything that follows and return its name, "cpu" or "cuda".

    "auto" takes a GPU if Jittor sees one and it computes right numbers, and says on standard error if it does not.
    Raises JvanError for "cuda" in that case, and where there is none.
    """
    if name not in DEVICES:
        raise ValueError(f"device is {name!r}; choose one of {', '.join(DEVICES)}")
    import jittor as jt

    fault = "" if name == "cpu" else cuda_fault()
    if name == "cuda" and fault:
        raise JvanError(f"{fault}; use --device cpu, or {REASON}")
    if name == "auto" and fault and jt.has_cuda:
        tell(f"jvan: {fault}; computing on the CPU ({REASON})")
    jt.flags.use_cuda = int(name != "cpu" and not fault)
    return "cuda" if jt.flags.use_cuda else "cpu"


def use_cuda() -> None:
    """Compute on the GPU from here on; JvanError where there is none, or where it computes wrong numbers."""
    use_device("cuda")


@functools.cache
def cuda_fault() -> str:
    """Why not to compute on the GPU, or an empty string; three small operators are tried there once a process.

    The numbers are whole and small, so that they are exact in every precision that cuBLAS may choose.
    """
    import jittor as jt

    if not jt.has_cuda:
        return "Jittor sees no CUDA device here"
    before = jt.flags.use_cuda
    try:
        jt.flags.use_cuda = 1
        wrong = _wrong_operators()
    except RuntimeError as error:
        return f"the GPU fails at a small operator ({' '.join(str(error).split())[-300:]})"
    finally:
        jt.flags.use_cuda = before
    return f"the GPU computes wrong numbers ({', '.join(wrong)})" if wrong else ""


def _wrong_operators() -> list[str]:
    import jittor as jt
    import numpy as np

    values = (np.arange(2 * 33 * 5) % 7 + 1).astype(np.float32).reshape(2, 33, 5)
    x = jt.array(values)
    found = {
        "a sum": ((x * x).sum(1), (values * values).sum(1)),
        "a matrix product": (jt.matmul(x[0], x[1].transpose(1, 0)), values[0] @ values[1].T),
        "a transposition": (x.permute(2, 0, 1), values.transpose(2, 0, 1)),
    }
    return [name for name, (result, expected) in found.items() if not np.array_equal(result.numpy(), expected)]
