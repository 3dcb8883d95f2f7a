"""The CUDA operators as data: which header, which call, and the types of what goes in and out."""

from __future__ import annotations

from typing import NamedTuple

# The cut of a depthwise convolution: what is 0, or -1 for `shift`, the kernel chooses for itself.
TILE = {"tile_height": 0, "tile_width": 0, "shift": -1, "threads": 0}

_DEPTHWISE = (
    "jvan::Depthwise{int(in0_shape0), int(in0_shape1), int(in0_shape2), int(in0_shape3), int(size), "
    "int(dilation), 0, int(tile_height), int(tile_width), int(shift), int(threads)}"
)

_PATCHES = (
    "{x}_shape0, jvan::Patches{{int({x}_shape1), int({x}_shape2), int({x}_shape3), int(out_height), int(out_width), "
    "int({matrix}_shape1), int(size), int(stride), int(padding)}}"
)
_PATCH_NUMBERS = ("out_height", "out_width", "size", "stride", "padding")


def _rows(slices: str) -> str:
    return f"jvan::Rows{{in0_shape0, int(in0_shape1), int({slices})}}"


class Operator(NamedTuple):
    """A call of what kernels' header declares, as jvan::name. `inputs`, `outputs`: one letter each, T, W or F:
    the type of maps, that of parameters, float32. `numbers`: its run-time numbers."""

    header: str
    source: str
    inputs: str
    outputs: str
    numbers: tuple[str, ...] = ()


RATES = ("decay", "beta1", "rest1", "beta2", "rest2", "root", "eps", "rate")  # of a step of AdamW: see ops.adamw

OPERATORS = {
    "adamw": Operator(
        "adamw.cuh",
        "jvan::adamw(in0_p, in1_p, in2_p, in3_p, out0_p, out1_p, out2_p, int64_t(count), "
        f"jvan::Rates{{{', '.join(f'float({name})' for name in RATES)}}});",
        "FFFF",
        "FFF",
        ("count", *RATES),
    ),
    "copy": Operator("copy.cuh", "jvan::copy(in0_p, out0_p, in0_shape0);", "T", "T"),
    "driver_copy": Operator("copy.cuh", "jvan::driver_copy(in0_p, out0_p, in0_shape0);", "T", "T"),
    "depthwise": Operator(
        "depthwise.cuh",
        "jvan::depthwise(in0_p, decltype(in1_p)(nullptr), in1_p, reverse ? nullptr : in2_p, out0_p, decltype(out0_p)(nullptr), "
        f"{_DEPTHWISE}, reverse, false);",
        "TWW",
        "T",
        ("size", "dilation", "reverse", *TILE),
    ),
    # With a bias of the input as well: the feed-forward between its products.
    "depthwise_gelu": Operator(
        "depthwise.cuh",
        f"jvan::depthwise(in0_p, in3_p, in1_p, in2_p, out0_p, keep ? out1_p : nullptr, {_DEPTHWISE}, false, true);",
        "TWWW",
        "TT",
        ("size", "dilation", "keep", *TILE),
    ),
    "depthwise_weights": Operator(
        "depthwise_weights.cuh",
        f"jvan::depthwise_weights(in0_p, decltype(out0_p)(nullptr), in1_p, out0_p, out1_p, out2_p, int(out2_shape0), {_DEPTHWISE});",
        "TT",
        "WWF",
        ("size", "dilation", *TILE),
    ),
    "depthwise_gelu_weights": Operator(
        "depthwise_weights.cuh",
        f"jvan::depthwise_weights(in0_p, in2_p, in1_p, out0_p, out1_p, out2_p, int(out2_shape0), {_DEPTHWISE});",
        "TTW",
        "WWF",
        ("size", "dilation", *TILE),
    ),
    "bias": Operator(
        "epilogue.cuh",
        f"jvan::bias(in0_p, in1_p, out0_p, with_gelu, {_rows('slices')});",
        "TW",
        "T",
        ("with_gelu", "slices"),
    ),
    # Of a bias alone: the channels' sums.
    "bias_backward": Operator(
        "epilogue.cuh",
        "jvan::bias_backward(in0_p, decltype(in0_p)(nullptr), decltype(out0_p)(nullptr), decltype(in0_p)(nullptr), out0_p, "
        f"out1_p, {_rows('out1_shape0')});",
        "T",
        "WF",
    ),
    "bias_gelu_backward": Operator(
        "epilogue.cuh",
        f"jvan::bias_backward(in0_p, in1_p, in2_p, out0_p, out1_p, out2_p, {_rows('out2_shape0')});",
        "TTW",
        "TWF",
    ),
    "gelu_backward": Operator(
        "epilogue.cuh",
        "jvan::bias_backward(in0_p, in1_p, (float*)nullptr, out0_p, (float*)nullptr, (float*)nullptr, "
        f"{_rows('slices')});",
        "TT",
        "T",
        ("slices",),
    ),
    "bias_gate": Operator(
        "epilogue.cuh",
        f"jvan::bias_gate(in0_p, in1_p, in2_p, out0_p, {_rows('slices')});",
        "TWT",
        "T",
        ("slices",),
    ),
    "bias_gate_backward": Operator(
        "epilogue.cuh",
        f"jvan::bias_gate_backward(in0_p, in1_p, in2_p, in3_p, out0_p, out1_p, out2_p, out3_p, {_rows('out3_shape0')});",
        "TTWT",
        "TTWF",
    ),
    "residual": Operator(
        "residual.cuh",
        "jvan::residual(in0_p, in1_p, inner ? in2_p : nullptr, in3_p, in4_p, in5_p, out0_p, in0_shape0 / in4_shape0, "
        f"{_rows('slices')});",
        "TWTWFT",
        "T",
        ("inner", "slices"),
    ),
    "residual_backward": Operator(
        "residual.cuh",
        "jvan::residual_backward(in0_p, in1_p, in2_p, inner ? in3_p : nullptr, in4_p, in5_p, out0_p, out1_p, out2_p, out3_p, "
        f"in0_shape0 / in5_shape0, {_rows('out3_shape0')});",
        "TTWTWF",
        "TWWF",
        ("inner",),
    ),
    "shortcut": Operator(
        "residual.cuh",
        f"jvan::shortcut(in0_p, in1_p, scaled ? in2_p : nullptr, in3_p, out0_p, {_rows('slices')});",
        "TWWT",
        "T",
        ("scaled", "slices"),
    ),
    "batch_statistics": Operator(
        "batch_norm.cuh",
        f"jvan::batch_statistics(in0_p, out0_p, out1_p, out2_p, {_rows('out2_shape0')});",
        "T",
        "FFF",
    ),
    "batch_norm": Operator(
        "batch_norm.cuh",
        f"jvan::batch_norm(in0_p, in1_p, in2_p, in3_p, in4_p, out0_p, {_rows('slices')});",
        "TFFWW",
        "T",
        ("slices",),
    ),
    "batch_norm_backward": Operator(
        "batch_norm.cuh",
        "jvan::batch_norm_backward(in0_p, in1_p, in2_p, in3_p, in4_p, out0_p, out1_p, out2_p, constant, "
        f"{_rows('out2_shape0')});",
        "TTFFW",
        "TFF",
        ("constant",),
    ),
    "layer_norm": Operator(
        "layer_norm.cuh",
        f"jvan::layer_norm(in0_p, in1_p, in2_p, out0_p, float(eps), {_rows('1')});",
        "TWW",
        "T",
        ("eps",),
    ),
    "layer_norm_backward": Operator(
        "layer_norm.cuh",
        "jvan::layer_norm_backward(in0_p, in1_p, in2_p, out0_p, out1_p, out2_p, out3_p, out4_p, float(eps), "
        f"{_rows('out4_shape0')});",
        "TTW",
        "TWWFF",
        ("eps",),
    ),
    "gather_patches": Operator(
        "patches.cuh",
        f"jvan::gather_patches(in0_p, out0_p, {_PATCHES.format(x='in0', matrix='out0')});",
        "T",
        "T",
        _PATCH_NUMBERS,
    ),
    "add_patches": Operator(
        "patches.cuh",
        f"jvan::add_patches(in0_p, out0_p, {_PATCHES.format(x='out0', matrix='in0')});",
        "T",
        "T",
        _PATCH_NUMBERS,
    ),
}


def types_of(letters: str, storage: str, parameter: str) -> list[str]:
    """The dtypes that an operator's letters stand for."""
    names = {"T": storage, "W": parameter, "F": "float32"}
    return [names[letter] for letter in letters]


def patch_columns(size: int, chans: int) -> int:
    """Columns of a matrix of patches: of 16 bits, cuBLAS reads eight at once."""
    return -(-size * size * chans // 8) * 8


def slices_of(rows: int, chans: int) -> int:
    """Among how many blocks rows are shared out: enough to fill a device of 132 multiprocessors, 8192 elements each or more."""
    return max(1, min(-(-rows * chans // 8192), 1024 // -(-chans // 256)))


def groups_of(shape) -> int:
    """Among how many blocks the tiles of a depthwise weight's gradient are shared out, for maps (N, H, W, C)."""
    batch, height, _, chans = shape
    return max(1, min(batch * -(-height // 8), 4096 // chans))
