"""Strict assignment of arrays to a network's parameters."""

from __future__ import annotations

import jittor as jt
import numpy as np

from ..errors import CheckpointError

SHOWN = 8  # names listed in an error before "and N more"
STEM, HEAD = "patch_embed1.proj.weight", "head."


def assign(model, tensors: dict[str, np.ndarray], strict: bool = True, allow_missing: tuple[str, ...] = ()):
    """Give `model` the arrays by name; returns (missing, unexpected).

    Nothing is assigned unless all fits. Raises CheckpointError for misshapen tensors, and with `strict`
    for missing and unexpected ones too; names that begin with one of `allow_missing` keep their values.
    """
    parameters = model.state_dict()
    missing = [n for n in parameters if n not in tensors and not n.startswith(tuple(allow_missing))]
    unexpected = [n for n in tensors if n not in parameters]
    shapes = {n: (tuple(tensors[n].shape), tuple(p.shape)) for n, p in parameters.items() if n in tensors}
    misshapen = {n: pair for n, pair in shapes.items() if pair[0] != pair[1]}
    faults = [("misshapen", [f"{n} is {a} in the file but {b} in the model" for n, (a, b) in misshapen.items()])]
    if strict:
        faults += [("missing", missing), ("unexpected", unexpected)]
    found = [f"{len(names)} {kind}: {_some(names)}" for kind, names in faults if names]
    if found:
        raise CheckpointError(f"the weights do not fit the network: {'; '.join(found)}; {_fix(misshapen)}")
    for name, parameter in parameters.items():
        if name in tensors:
            parameter.assign(jt.array(np.ascontiguousarray(tensors[name], dtype="float32")))
    return missing, unexpected


def fill(model, tensors: dict[str, np.ndarray], keep_head: bool) -> None:
    """Give `model` a whole state, fitted to its input channels; without `keep_head` its own head stays."""
    wanted = tensors if keep_head else {name: array for name, array in tensors.items() if not name.startswith(HEAD)}
    assign(model, adapt_input(wanted, model.in_chans), allow_missing=() if keep_head else (HEAD,))


def adapt_input(tensors: dict[str, np.ndarray], in_chans: int) -> dict[str, np.ndarray]:
    """Fit the first convolution to `in_chans` channels of input.

    One channel: the sum over the old ones, so that a grey picture gives what its three equal channels
    gave. More or fewer: the old ones in turn, scaled by old / new, which keeps the size of the response.
    """
    weight = tensors[STEM]
    old = weight.shape[1]
    if old == in_chans:
        return tensors
    if in_chans == 1:
        new = weight.sum(axis=1, keepdims=True)
    else:
        new = weight[:, [i % old for i in range(in_chans)]] * np.float32(old / in_chans)
    return {**tensors, STEM: new}


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _fix(misshapen) -> str:
    """What to do where the tensors of these names have other shapes."""
    if misshapen and all(name.startswith(HEAD) for name in misshapen):
        return "build the network with the file's number of classes, or use create_model(weights=…, drop_head=True)"
    return "build the network with jvan.create_model(weights=…), which reads its configuration from the file"
