"""How the step `bandwidth` calls each kernel: its inputs, the shapes of its outputs, and the bytes that it must move."""

from __future__ import annotations

from typing import NamedTuple

import jittor as jt

from jvan.ops.cuda.operators import OPERATORS, RATES, TILE, Operator, groups_of, patch_columns, slices_of

ALIASES = {"depthwise_dx": "depthwise"}
# AdamW's arrays are as large as maps here, and take turns like them.
OPERATOR = {**OPERATORS, "adamw": OPERATORS["adamw"]._replace(inputs="TTTT", outputs="TTT")}

# Kernels and how often each reads or writes a map, of its two passes each where sums over all rows must come before the second.
PASSES = {
    "bias": 2, "bias_gate": 3, "residual": 4, "shortcut": 3, "batch_statistics": 1, "batch_norm": 2, "layer_norm": 2,
    "bias_backward": 1, "bias_gelu_backward": 3, "gelu_backward": 3, "bias_gate_backward": 5, "residual_backward": 4,
    "batch_norm_backward": 5, "layer_norm_backward": 3,
}  # fmt: skip


class Call(NamedTuple):
    """`moved`: bytes, at least; `name`, `inputs`, `outputs` (shapes) and `numbers` are those of ops.cuda.launch.run."""

    name: str
    operator: Operator
    moved: int
    inputs: list
    outputs: list
    numbers: dict


def call(kernel, shape, dtype, size=0, step=0, turns=1, tile=None) -> Call:
    """A kernel on maps (N, H, W, C), `turns` of them one after another in each array. `step`: the dilation, or the patches' stride."""
    if kernel.startswith("depthwise"):
        row = _depthwise(kernel, shape, size, {**TILE, **(tile or {}), "size": size, "dilation": step}, turns)
    elif kernel.endswith("patches"):
        row = _patches(kernel, shape, size, step, turns)
    else:
        row = _row(kernel, shape, turns)
    elements, maps, parameters, outputs, numbers = row
    name, parameters = ALIASES.get(kernel, kernel), iter(parameters)
    inputs = [
        jt.randn(maps).cast(dtype) if letter == "T" else jt.ones(next(parameters)) for letter in OPERATOR[name].inputs
    ]
    return Call(name, OPERATOR[name], elements * (4 if dtype == "float32" else 2), inputs, outputs, numbers)


def _depthwise(kernel, shape, size, numbers, turns):
    chans, count = shape[3], shape[0] * shape[1] * shape[2] * shape[3]
    maps, each, taps = (turns * shape[0], *shape[1:]), (chans,), (chans, 1, size, size)
    room = (groups_of(shape), size * size + 1, chans)
    added = [each] * ("gelu" in kernel)  # the input's bias
    if kernel.endswith("weights"):
        return 2 * count, maps, added, [taps, each, room], numbers
    if added:
        return 2 * count, maps, [taps, each, *added], [maps, (turns, 1, 1, 1)], {"keep": 0, **numbers}
    return 2 * count, maps, [taps, each], [maps], {"reverse": int(kernel.endswith("dx")), **numbers}


def _patches(kernel, shape, size, stride, turns):
    pictures, height, width, chans = shape
    down, across = (-(-extent // stride) for extent in (height, width))
    columns, maps = patch_columns(size, chans), (turns * pictures, height, width, chans)
    matrix = (turns * pictures * down * across, columns)
    numbers = {"out_height": down, "out_width": across, "size": size, "stride": stride, "padding": size // 2}
    elements = pictures * (height * width * chans + down * across * columns)
    taken, made = (maps, matrix) if kernel == "gather_patches" else (matrix, maps)
    return elements, taken, [], [made], numbers


def _row(kernel, shape, turns):
    pictures, chans = shape[0], shape[3]
    rows = pictures * shape[1] * shape[2]
    maps, each, line = (turns * rows, chans), (chans,), (turns * rows * chans,)
    if kernel.endswith("copy"):
        return 2 * rows * chans, line, [], [line], {}
    if kernel == "adamw":
        return 7 * rows * chans, line, [], [line] * 3, {"count": rows * chans, **dict.fromkeys(RATES, 0.5)}
    slices = {"slices": slices_of(rows, chans)}
    one, two, three = ((slices["slices"], count, chans) for count in (1, 2, 3))  # room for a block's sums
    parameters, outputs, numbers = {
        "bias": ([each], [maps], {"with_gelu": 1, **slices}),
        "bias_backward": ([], [each, one], {}),
        "bias_gelu_backward": ([each], [maps, each, one], {}),
        "gelu_backward": ([], [maps], slices),
        "bias_gate": ([each], [maps], slices),
        "bias_gate_backward": ([each], [maps, maps, each, one], {}),
        "residual": ([each, each, (pictures,)], [maps], {"inner": 1, **slices}),
        "residual_backward": ([each, each, (pictures,)], [maps, each, each, two], {"inner": 1}),
        "shortcut": ([each, each], [maps], {"scaled": 1, **slices}),
        "batch_statistics": ([], [each, each, three], {}),
        "batch_norm": ([each] * 4, [maps], slices),
        "batch_norm_backward": ([each] * 3, [maps, (2, chans), two], {"constant": 0}),
        "layer_norm": ([each, each], [maps], {"eps": 1e-5}),
        "layer_norm_backward": ([each], [maps, each, each, (rows, 2), two], {"eps": 1e-5}),
    }[kernel]
    return PASSES[kernel] * rows * chans, maps, parameters, outputs, numbers
