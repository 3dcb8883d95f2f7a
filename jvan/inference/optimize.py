"""`optimize_for_inference`: a network's weights folded and packed, its forward pass one C++ operator."""

from __future__ import annotations

import copy
import os
import warnings
from collections import OrderedDict
from dataclasses import replace

import jittor as jt
import numpy as np
from jittor import nn

from ..models.van import VAN, VANFeatures
from ..ops import _jit
from .packing import pack_weights
from .plan import make_plan
from .structure import Unknown, sizes_of

DTYPES = ("float32", "bfloat16")
PLANS = 16  # input shapes whose plans are kept
SOURCE = """
jvan::Outputs outputs = {out0_p, {out1_p, out2_p, out3_p, out4_p}};
jvan::run_network(in0_p, in0_shape0, in0_shape1, in0_shape2, in0_shape3,
                  *reinterpret_cast<const jvan::Plan*>(in1_p), in2_p + offset, out5_p, outputs);
"""


def optimize_for_inference(model: VAN, dtype: str = "float32"):
    """A copy of `model`, a VAN or VANFeatures, for inference alone: same call, same outputs, no gradients.

    BatchNorms (on their running statistics), layer scales and the attention's inner shortcut are folded
    into the neighbouring products. Outputs differ by rounding: about 1e-5 of the largest; with `dtype`
    "bfloat16", whose products take rounded values and sum them in float32, about 1e-2. `arithmetic` of
    the result says which instructions do that. Later changes of `model` do not reach the copy. Where the
    operator cannot stand in for the model, a copy of the plain network is returned with a warning that
    says why. TypeError for another kind of model.
    """
    if not isinstance(model, VAN):
        raise TypeError(f"optimize_for_inference takes a VAN, not a {type(model).__name__}")
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}; choose one of {', '.join(DTYPES)}")
    reason = "Jittor computes on the GPU" if jt.flags.use_cuda else _jit.why_not()
    if reason is None:
        try:
            return InferenceVAN(model, dtype)
        except Unknown as unknown:
            reason = str(unknown)
    warnings.warn(f"the network stays as it is, since {reason}: slower, with the same outputs", stacklevel=2)
    plain = copy.deepcopy(model)
    plain.eval()
    return plain


class InferenceVAN(nn.Module):
    """A VAN's forward pass; made by `optimize_for_inference`.

    x: (N, in_chans, H, W) float32 -> what the network it was made from gives: logits (N, num_classes),
    pooled features, or of a VANFeatures the list of its stages' maps. It runs on the CPU. `arithmetic`
    says in what numbers.
    """

    def __init__(self, model: VAN, dtype: str = "float32"):
        self._sizes = replace(sizes_of(model), pairs=dtype == "bfloat16")
        self.arithmetic = _jit.arithmetic(dtype)
        self.in_chans, self.num_features, self.num_classes = model.in_chans, model.num_features, model.num_classes
        self.feature_info, self.metadata = model.feature_info, model.metadata
        self.pretrained_cfg = model.pretrained_cfg
        self.out_indices = model.out_indices if isinstance(model, VANFeatures) else None
        self.head = copy.deepcopy(model.head)
        self.head.eval()
        tensors = {name: value.numpy() for name, value in model.state_dict().items()}
        self._weights, self._offset = _on_a_cache_line(pack_weights(self._sizes, tensors))
        self._plans = OrderedDict()
        self.is_train = False

    def execute(self, x):
        if self.out_indices is None:
            return self._run(x, logits=True)[0]
        maps = self._run(x, wanted=self.out_indices)[1]
        return [maps[i] for i in self.out_indices]

    def forward_features(self, x):
        """x (N, in_chans, H, W) -> (N, C4, H/32, W/32), the last stage's map after its LayerNorm."""
        return self._run(x, wanted=(3,))[1][3]

    def forward_head(self, features):
        """features (N, C4, h, w) -> logits (N, num_classes): the mean over the map, then the head."""
        return self.head(features.mean([2, 3]))

    def get_classifier(self):
        """The head: a linear layer, or an identity where the network has no classes."""
        return self.head

    def train(self):
        """Not possible: raises RuntimeError."""
        raise RuntimeError("this network is for inference alone; train the one that it was made from")

    def _run(self, x, wanted=(), logits=False):
        """The logits and the four stages' maps; what is not asked for has no values."""
        VAN._check_input(self, x)
        if x.dtype != "float32":
            x = x.float32()
        plan, array = self._plan(tuple(x.shape), wanted, logits)
        pictures, sizes = x.shape[0], self._sizes
        shapes = [(pictures, sizes.classes or self.num_features, 1, 1) if logits else (1, 1, 1, 1)]
        for i, (stage, size) in enumerate(zip(sizes.stages, plan.maps)):
            shapes.append((pictures, stage.chans, *size) if i in wanted else (1, 1, 1, 1))
        numbers = {"offset": self._offset}
        results = _jit.run_kernel("network.h", SOURCE, [x, array, self._weights], [*shapes, (plan.scratch,)], numbers)
        return results[0].reshape(results[0].shape[:2]), results[1:5]

    def _plan(self, shape, wanted, logits):
        key = (shape, wanted, logits)
        if key not in self._plans:
            if len(self._plans) == PLANS:
                self._plans.popitem(last=False)
            plan = make_plan(self._sizes, shape[0], *shape[2:], _threads(), wanted, logits)
            self._plans[key] = plan, jt.array(plan.array).stop_grad()
        return self._plans[key]


def _on_a_cache_line(values: np.ndarray):
    """(variable, offset): the values from `offset` on, where a cache line begins; Jittor aligns to half of one."""
    line = 16
    variable = jt.zeros((values.size + line,)).stop_grad()
    variable.sync()
    memory = variable.data
    offset = -(memory.ctypes.data // 4) % line
    memory[offset : offset + values.size] = values
    return variable, offset


def _threads() -> int:
    """As many as OpenMP would start: OMP_NUM_THREADS, or the processors that this process may use."""
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if given.isdigit() and int(given) > 0:
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
