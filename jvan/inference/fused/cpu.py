"""The fused network on the CPU: weights folded and packed once, the forward pass one C++ operator."""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import replace

import jittor as jt
import numpy as np

from ...memory_limit import check_memory
from ...models.van import VAN, check_input
from ...ops import _jit
from ..room import FLOAT
from .fusable import sizes_of, tensors_of
from .network import InferenceNetwork
from .packing import pack_weights
from .plan import make_plan

PLANS = 16  # input shapes whose plans are kept
SOURCE = """
jvan::run_network(*reinterpret_cast<const jvan::Plan*>({plan}_p), {pictures}_shape0, {pictures}_shape1, {pictures}_shape2,
                  {pictures}_shape3, {{.pictures = {pictures}_p, .weights = {weights}_p + offset, .scratch = {scratch}_p,
                  .logits = {logits}_p, .maps = {{{map1}_p, {map2}_p, {map3}_p, {map4}_p}}}});
"""


class InferenceVAN(InferenceNetwork):
    """See InferenceNetwork: on the CPU, one operator for the whole network."""

    def __init__(self, model: VAN, dtype: str = "float32"):
        super().__init__(model, _jit.arithmetic(dtype))
        self._sizes = replace(sizes_of(model), bfloat16_pairs=dtype == "bfloat16")
        self._weights, self._offset = _on_a_cache_line(pack_weights(self._sizes, tensors_of(model)))
        self._plans = OrderedDict()

    def _run(self, x, wanted=(), logits=False):
        check_input(x, self.in_chans)
        if x.dtype != "float32":
            x = x.float32()
        plan, array = self._plan(tuple(x.shape), wanted, logits)
        pictures, sizes = x.shape[0], self._sizes
        inputs = {"pictures": x, "plan": array, "weights": self._weights}
        outputs = {"logits": (pictures, sizes.classes or sizes.stages[-1].chans, 1, 1) if logits else (1, 1, 1, 1)}
        for i, (stage, size) in enumerate(zip(sizes.stages, plan.maps)):
            outputs[f"map{i + 1}"] = (pictures, stage.chans, *size) if i in wanted else (1, 1, 1, 1)
        outputs["scratch"] = (plan.scratch,)
        results = _jit.run_named("network.h", SOURCE, inputs, outputs, {"offset": self._offset})
        return results[0].reshape(results[0].shape[:2]), results[1:5]

    def forward_bytes(self, shape) -> int:
        """Bytes of scratch memory for the logits of pictures of this shape (N, C, H, W); ValueError where these are too large."""
        return FLOAT * make_plan(self._sizes, shape[0], *shape[2:], _threads()).scratch

    def _plan(self, shape, wanted, logits):
        key = (shape, wanted, logits)
        if key not in self._plans:
            if len(self._plans) == PLANS:
                self._plans.popitem(last=False)
            plan = make_plan(self._sizes, shape[0], *shape[2:], _threads(), wanted, logits)
            what = f"a forward pass over {shape[0]} × {shape[1]}×{shape[2]}×{shape[3]} pixels"
            check_memory(FLOAT * plan.scratch, what, "give fewer or smaller pictures at a time")
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
