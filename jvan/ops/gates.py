"""How large-kernel attention's mask meets its input u (the paper's Table 3): one row a gate. No Jittor."""

from __future__ import annotations

from typing import Callable, NamedTuple


class Gate(NamedTuple):
    """`apply(u, mask)` -> what goes on; `after`: the same as a number of kernels/product.h's enum After."""

    apply: Callable
    after: int


GATES = {
    "multiply": Gate(lambda u, mask: u * mask, 3),
    "add": Gate(lambda u, mask: u + mask, 4),
    "none": Gate(lambda u, mask: mask, 0),
    "sigmoid": Gate(lambda u, mask: u * mask.sigmoid(), 5),
}
