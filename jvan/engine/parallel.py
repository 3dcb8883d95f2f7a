"""Several processes on Jittor's MPI engine: who this one is, and means and sums over all.

Every process must make the same Jittor calls in the same order: nothing of Jittor may stand under `if is_rank_zero`.
"""

from __future__ import annotations

import json
from contextlib import contextmanager

import jittor as jt
import numpy as np

from ..errors import JvanError, TrainingError
from ..ops.cuda.launch import on_gpu

OTHER_FAILED = "process {} ends because another one failed, whose own line says why"


class Processes:
    """This process among those that `mpirun` started; alone without it."""

    def __init__(self):
        self.rank, self.count = (jt.rank, jt.world_size) if jt.in_mpi else (0, 1)
        self.is_rank_zero = self.rank == 0

    @contextmanager
    def fail_together(self):
        """What fails inside in one process fails in all: else the others would wait for it forever."""
        try:
            yield
        except (JvanError, OSError):
            self.sum(np.array([1]))
            raise
        if self.sum(np.array([0]))[0]:
            raise TrainingError(OTHER_FAILED.format(self.rank))

    def check_same_step(self, step: int) -> None:
        """TrainingError where the processes would go on from different steps."""
        if self.sum(np.array([step]))[0] != self.count * step:
            raise TrainingError(
                f"process {self.rank} found the state after step {step} and others another one: OUTPUT must be the same folder for all"
            )

    def mean(self, variables: list) -> list:
        """Each variable's mean over the processes; one message for all of them, which on GPUs goes through the host's memory."""
        if self.count == 1:
            return variables
        flat = jt.concat([variable.float32().reshape((-1,)) for variable in variables])
        flat = jt.array(self.sum(flat.numpy()) / self.count) if on_gpu() else self.differentiable_mean(flat)
        parts, at = [], 0
        for variable in variables:
            parts.append(flat[at : at + variable.numel()].reshape(variable.shape))
            at += variable.numel()
        return parts

    def differentiable_mean(self, variable):
        """Its mean over the processes, which all get; the gradient of the processes' summed losses passes through it."""
        return variable if self.count == 1 else variable.mpi_all_reduce("add") / self.count

    def gathered(self, rows: list) -> list:
        """The rows (of what JSON holds) of all processes, in their order; each gets them all."""
        if self.count == 1:
            return rows
        text = np.frombuffer(json.dumps(rows).encode(), np.uint8)
        sizes = np.zeros(self.count, np.int32)
        sizes[self.rank] = len(text)
        sizes = self.sum(sizes)
        ends = np.cumsum(sizes)
        whole = np.zeros(ends[-1], np.int32)
        whole[ends[self.rank] - len(text) : ends[self.rank]] = text
        whole = self.sum(whole).astype(np.uint8).tobytes()
        return [row for size, end in zip(sizes, ends) for row in json.loads(whole[end - size : end])]

    def sum(self, counts: np.ndarray) -> np.ndarray:
        """Whole numbers (below 2**31) or float32 added up over the processes."""
        if self.count == 1:
            return counts
        whole = np.issubdtype(counts.dtype, np.integer)
        with jt.flag_scope(use_cuda=0):  # on a GPU Jittor would want NCCL
            mine = jt.array(counts.astype(np.int32 if whole else np.float32))
            return mine.mpi_all_reduce("add").numpy().astype(counts.dtype)
