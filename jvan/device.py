"""Where Jittor computes."""

from __future__ import annotations

import jittor as jt

from .errors import JvanError

DEVICES = ("auto", "cpu", "cuda")


def use_device(name: str = "auto") -> str:
    """Choose the device for everything that follows and return its name, "cpu" or "cuda".

    "auto" takes a GPU if Jittor sees one. Raises JvanError for "cuda" where there is none.
    """
    if name not in DEVICES:
        raise ValueError(f"device is {name!r}; choose one of {', '.join(DEVICES)}")
    if name == "cuda" and not jt.has_cuda:
        raise JvanError(
            "Jittor sees no CUDA device here; use --device cpu, or run `python -m jvan.doctor` for the reason"
        )
    jt.flags.use_cuda = int(name != "cpu" and bool(jt.has_cuda))
    return "cuda" if jt.flags.use_cuda else "cpu"
