"""Each family of operators against numpy in float64, outputs and every gradient: on a device, or on the host by `emulator`.

A check takes `run(name, types, arrays, shapes, numbers)`, which runs one operator, and returns the errors of all that came out,
relative to the largest element, of gradients to the norms: {what: error}. TOLERANCE says what they may be.
"""

from __future__ import annotations

import functools

import numpy as np

from . import oracles
from .arrays import exact, stored
from .operators import OPERATORS, RATES, TILE, patch_columns, slices_of, types_of

# A little more than the rounding of the results: sums are float32 everywhere.
TOLERANCE = {"float32": 4e-6, "float16": 7e-4, "bfloat16": 6e-3}
EPS = 1e-5


class Case:
    """Random inputs for operators of some types, and what came of them."""

    def __init__(self, run, types, seed=0):
        self._run, self.types, self.errors = run, types, {}
        self._rng = np.random.RandomState(seed)

    def draw(self, letter, *shape):
        """Normal numbers that the letter's type holds exactly, float64."""
        return exact(stored(self._rng.standard_normal(shape), types_of(letter, *self.types)[0]))

    def run(self, name, inputs, shapes, **numbers):
        """The operator's outputs, float64."""
        dtypes = types_of(OPERATORS[name].inputs, *self.types)
        arrays = [stored(values, dtype) for values, dtype in zip(inputs, dtypes)]
        return [exact(a) for a in self._run(name, self.types, arrays, [tuple(s) for s in shapes], numbers)]

    def compare(self, what, ours, theirs, letter="T", scale=1e-3):
        """Note the largest difference, relative to the largest element or `scale`, in units of what the letter's type allows."""
        same = ours.shape == theirs.shape and np.isfinite(ours).all()
        error = np.abs(ours - theirs).max() / max(np.abs(theirs).max(), scale) if same else np.inf
        self._note(what, error, letter)

    def compare_gradients(self, oracle, inputs, dy, gradients):
        """Compare gradients {(i, name, letter): array} of Σ oracle(*inputs)·dy with slopes of the oracle along random directions."""
        for (i, name, letter), gradient in gradients.items():
            assert gradient.shape == inputs[i].shape
            for _ in range(2):
                direction = self._rng.standard_normal(inputs[i].shape)
                ends = [[a + step * direction if j == i else a for j, a in enumerate(inputs)] for step in (1e-4, -1e-4)]
                slope = ((oracle(*ends[0]) - oracle(*ends[1])) * dy).sum() / 2e-4
                scale = max(np.linalg.norm(gradient) * np.linalg.norm(direction), 1)
                self._note(name, abs((gradient * direction).sum() - slope) / scale, letter)

    def _note(self, what, error, letter):
        allowed = TOLERANCE[types_of(letter, *self.types)[0]]
        error = float(error) if np.isfinite(error) else np.inf
        self.errors[what] = max(error / allowed, self.errors.get(what, 0.0))


def check_depthwise(run, types, shape=(2, 7, 9, 12), size=5, dilation=1, tile=None):
    """`tile`: your own cut (operators.TILE)."""
    case, chans = Case(run, types), shape[3]
    x, dy = case.draw("T", *shape), case.draw("T", *shape)
    weight, bias = case.draw("W", chans, 1, size, size), case.draw("W", chans)
    numbers = {**TILE, **(tile or {}), "size": size, "dilation": dilation}
    oracle = functools.partial(oracles.depthwise, dilation=dilation)
    y = oracle(x, weight, bias)
    (ours,) = case.run("depthwise", [x, weight, bias], [shape], reverse=0, **numbers)
    case.compare("output", ours, y)
    (dx,) = case.run("depthwise", [dy, weight, bias], [shape], reverse=1, **numbers)
    shapes = [weight.shape, bias.shape, (3, size * size + 1, chans)]
    dw, db, _ = case.run("depthwise_weights", [x, dy], shapes, **numbers)
    case.compare_gradients(
        oracle, [x, weight, bias], dy, {(0, "dx", "T"): dx, (1, "dweight", "W"): dw, (2, "dbias", "W"): db}
    )
    return case.errors


def check_depthwise_gelu(run, types, shape=(2, 7, 9, 12), size=3, tile=None):
    """The feed-forward's middle: gelu(depthwise(x + input's bias) + bias)."""
    case, chans = Case(run, types), shape[3]
    x, dy = case.draw("T", *shape), case.draw("T", *shape)
    weight, bias, added = case.draw("W", chans, 1, size, size), case.draw("W", chans), case.draw("W", chans)
    numbers = {**TILE, **(tile or {}), "size": size, "dilation": 1}
    y, before = case.run("depthwise_gelu", [x, weight, bias, added], [shape, shape], keep=1, **numbers)
    expected = oracles.depthwise(x + added, weight, bias, 1)
    case.compare("before GELU", before, expected)
    case.compare("output", y, oracles.gelu(expected))
    shapes = [weight.shape, bias.shape, (3, size * size + 1, chans)]
    dw, db, _ = case.run("depthwise_gelu_weights", [x, dy, added], shapes, **numbers)
    case.compare_gradients(
        lambda w, b: oracles.depthwise(x + added, w, b, 1),
        [weight, bias],
        dy,
        {(0, "dweight", "W"): dw, (1, "dbias", "W"): db},
    )
    return case.errors


def check_epilogue(run, types, shape=(37, 20)):
    case, (rows, chans) = Case(run, types), shape
    p, u, dy, bias = case.draw("T", *shape), case.draw("T", *shape), case.draw("T", *shape), case.draw("W", chans)
    slices = slices_of(rows, chans)
    room = (slices, 1, chans)
    (y,) = case.run("bias", [p, bias], [shape], with_gelu=0, slices=slices)
    case.compare("bias", y, p + bias)
    (y,) = case.run("bias", [p, bias], [shape], with_gelu=1, slices=slices)
    case.compare("GELU", y, oracles.gelu(p + bias))
    db, _ = case.run("bias_backward", [dy], [bias.shape, room])
    case.compare("sum", db, dy.sum(0), "W")
    dp, db, _ = case.run("bias_gelu_backward", [dy, p, bias], [shape, bias.shape, room])
    gradients = {(0, "GELU dp", "T"): dp, (1, "GELU dbias", "W"): db}
    case.compare_gradients(lambda p, b: oracles.gelu(p + b), [p, bias], dy, gradients)
    (dp,) = case.run("gelu_backward", [dy, p], [shape], slices=slices)
    case.compare_gradients(oracles.gelu, [p], dy, {(0, "GELU alone dp", "T"): dp})
    (y,) = case.run("bias_gate", [p, bias, u], [shape], slices=slices)
    case.compare("gate", y, (p + bias) * u)
    dp, du, db, _ = case.run("bias_gate_backward", [dy, p, bias, u], [shape, shape, bias.shape, room])
    gradients = {(0, "gate dp", "T"): dp, (1, "gate dbias", "W"): db, (2, "gate du", "T"): du}
    case.compare_gradients(lambda p, b, u: (p + b) * u, [p, bias, u], dy, gradients)
    return case.errors


def check_residual(run, types, shape=(3, 13, 20)):
    """shape: pictures, pixels, channels."""
    case, (pictures, pixels, chans) = Case(run, types), shape
    rows = (pictures * pixels, chans)
    p, inner, x, dy = (case.draw("T", *rows) for _ in range(4))
    bias, scale = case.draw("W", chans), case.draw("W", chans)
    keep = case.draw("F", pictures)
    slices = slices_of(*rows)
    for with_inner in (0, 1):
        used, what = inner * with_inner, ("", " with inner")[with_inner]
        (y,) = case.run("residual", [p, bias, inner, scale, keep, x], [rows], inner=with_inner, slices=slices)
        case.compare(f"output{what}", y, oracles.residual(p, bias, used, scale, x, keep))
        shapes = [rows, (chans,), (chans,), (slices, 2, chans)]
        dp, db, ds, _ = case.run("residual_backward", [dy, p, bias, inner, scale, keep], shapes, inner=with_inner)
        names = {(0, f"dp{what}", "T"): dp, (1, f"dbias{what}", "W"): db, (3, f"dscale{what}", "W"): ds}
        oracle = functools.partial(oracles.residual, keep=keep)
        case.compare_gradients(oracle, [p, bias, used, scale, x], dy, names)
    return case.errors


def check_shortcut(run, types, shape=(37, 20)):
    """Inference's end of a half block: s·x + p + b, and with s = 1."""
    case, (rows, chans) = Case(run, types), shape
    p, x, bias, scale = case.draw("T", *shape), case.draw("T", *shape), case.draw("W", chans), case.draw("W", chans)
    for scaled, factor in ((1, scale), (0, 1.0)):
        (y,) = case.run("shortcut", [p, bias, scale, x], [shape], scaled=scaled, slices=slices_of(rows, chans))
        case.compare(("plain", "scaled")[scaled], y, factor * x + p + bias)
    return case.errors


def check_batch_norm(run, types, shape=(37, 20), offset=0.0):
    case, (rows, chans) = Case(run, types), shape
    x = exact(stored(case.draw("T", *shape) + offset, types[0]))
    dy, weight, bias = case.draw("T", *shape), case.draw("W", chans), case.draw("W", chans)
    slices = slices_of(rows, chans)
    mean, var, _ = case.run("batch_statistics", [x], [(chans,), (chans,), (slices, 3, chans)])
    case.compare("mean", mean, x.mean(0), "F", scale=1.0)
    case.compare("var", var, x.var(0), "F")
    if offset:  # what follows then errs by the mean's own rounding
        return case.errors
    rstd = 1 / np.sqrt(var + EPS)
    (y,) = case.run("batch_norm", [x, mean, rstd, weight, bias], [shape], slices=slices)
    case.compare("output", y, oracles.batch_norm(x, weight, bias, EPS))
    shapes = [shape, (2, chans), (slices, 2, chans)]
    dx, sums, _ = case.run("batch_norm_backward", [dy, x, mean, rstd, weight], shapes, constant=0)
    names = {(0, "dx", "T"): dx, (1, "dweight", "F"): sums[1], (2, "dbias", "F"): sums[0]}
    case.compare_gradients(functools.partial(oracles.batch_norm, eps=EPS), [x, weight, bias], dy, names)
    dx, *_ = case.run("batch_norm_backward", [dy, x, mean, rstd, weight], shapes, constant=1)
    case.compare("dx of constants", dx, dy * rstd * weight)
    return case.errors


def check_layer_norm(run, types, shape=(37, 20)):
    case, (rows, chans) = Case(run, types), shape
    x, dy, weight, bias = case.draw("T", *shape), case.draw("T", *shape), case.draw("W", chans), case.draw("W", chans)
    (y,) = case.run("layer_norm", [x, weight, bias], [shape], eps=EPS)
    oracle = functools.partial(oracles.layer_norm, eps=EPS)
    case.compare("output", y, oracle(x, weight, bias))
    shapes = [shape, (chans,), (chans,), (rows, 2), (slices_of(rows, chans), 2, chans)]
    dx, dw, db, *_ = case.run("layer_norm_backward", [dy, x, weight], shapes, eps=EPS)
    names = {(0, "dx", "T"): dx, (1, "dweight", "W"): dw, (2, "dbias", "W"): db}
    case.compare_gradients(oracle, [x, weight, bias], dy, names)
    return case.errors


def check_patches(run, types, shape=(2, 9, 11, 3), size=7, stride=4, padding=3):
    case = Case(run, types)
    x = case.draw("T", *shape)
    rows = oracles.patches(x, size, stride, padding)
    taken = size * size * shape[3]
    out = (rows.shape[0] * rows.shape[1] * rows.shape[2], patch_columns(size, shape[3]))
    numbers = {
        "out_height": rows.shape[1],
        "out_width": rows.shape[2],
        "size": size,
        "stride": stride,
        "padding": padding,
    }
    (matrix,) = case.run("gather_patches", [x], [out], **numbers)
    expected = np.zeros(out)
    expected[:, :taken] = rows.reshape(-1, taken)
    case.compare("output", matrix, expected)
    dy = case.draw("T", *out)
    (dx,) = case.run("add_patches", [dy], [shape], **numbers)
    case.compare_gradients(
        lambda x: oracles.patches(x, size, stride, padding).reshape(-1, taken),
        [x],
        dy[:, :taken],
        {(0, "dx", "T"): dx},
    )
    return case.errors


def check_adamw(run, types, shape=(3, 7, 129)):
    """One step, whatever the types: all is float32."""
    case = Case(run, types)
    value, gradient, mean = (case.draw("F", *shape) for _ in range(3))
    square = np.abs(case.draw("F", *shape))
    gradient.flat[0] = square.flat[0] = 0  # a parameter that nothing has moved yet
    rates = dict(zip(RATES, map(float, np.float32([0.9, 0.8, 0.3, 0.7, 0.4, 1.5, 0.05, 0.2]))))
    inputs = [value, gradient, mean, square]
    found = case.run("adamw", inputs, [shape] * 3, count=value.size, **rates)
    for what, ours, expected in zip(("value", "mean", "square"), found, oracles.adamw(*inputs, **rates)):
        case.compare(what, ours, expected, "F")
    return case.errors


CHECKS = {
    "adamw": check_adamw,
    "depthwise": check_depthwise,
    "depthwise_gelu": check_depthwise_gelu,
    "epilogue": check_epilogue,
    "residual": check_residual,
    "shortcut": check_shortcut,
    "batch_norm": check_batch_norm,
    "layer_norm": check_layer_norm,
    "patches": check_patches,
}
