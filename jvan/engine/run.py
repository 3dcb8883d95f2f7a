"""What changes while a network learns: weights, optimiser, averages, progress; to a file and back."""

from __future__ import annotations

import math
from dataclasses import replace

import jittor as jt
import numpy as np

from ..data.shares import places
from ..errors import JvanError, TrainingError
from ..models.loading import assign
from .config import TrainConfig
from .drop_path import DropPathMasks
from .ema import Ema
from .groups import parameters_of
from .loss_scale import FIRST, LossScale
from .optimizer import AdamW, clip_gradients
from .output import Output
from .parallel import Processes
from .resume import Progress, Saved
from .step import NO_FLAGS, Flags, Gradients, Outcome
from .sync_bn import synchronise


class Run:
    """A network on its way. `data` is the digest of the pictures, `progress` how far it has come."""

    def __init__(self, config: TrainConfig, model, processes: Processes, data: str):
        self.config, self.model, self.data = config, model, data
        self._scaled = config.dtype == "float16"
        self.progress, self._saved_step = Progress(loss_scale=FIRST if self._scaled else 1.0), 0
        if config.grad_checkpointing:
            model.set_grad_checkpointing(True)
        if config.sync_bn:
            synchronise(model, processes)
        parameters = parameters_of(model, config.layer_decay)
        self.optimizer = AdamW(parameters, config.weight_decay)
        self.ema = Ema(model, config.model_ema) if config.model_ema else None
        plan = DropPathMasks(
            model, config.seed, config.batch_size, places(config.batch_size, processes.rank, processes.count)
        )
        self._task = task = config.task
        self._gradients = Gradients(
            model, parameters, plan, processes, config.accum_steps, task.loss, task.losses, config.dtype
        )

    @property
    def step(self) -> int:
        """Steps made."""
        return self.progress.step

    def gradients(self, batch, flags: Flags = NO_FLAGS) -> Outcome:
        """Compute the gradients of this process's share of the next batch; the processes exchange `flags` with them."""
        self.model.train()
        return self._gradients(batch, self.step, self.progress.loss_scale, flags)

    def batches(self, loader):
        """The loader's; where it fails in this process, the others are told."""
        try:
            yield from loader
        except JvanError:
            if self._gradients.processes.count > 1:
                self._gradients.join_without_batch()
            raise

    def undo(self) -> None:
        """Forget the batch whose gradients were asked for last."""
        self._gradients.undo()

    def update(self, outcome: Outcome, lr: float) -> None:
        """Take one step down its gradients."""
        gradients = outcome.gradients
        if self.config.clip_grad:
            gradients = clip_gradients(gradients, outcome.squared_norm, self.config.clip_grad)
        self.optimizer.step(gradients, lr)
        if self.ema:
            self.ema.update()
        jt.sync_all()
        self._advance(finite=True)

    def can_skip(self, outcome: Outcome) -> bool:
        """Whether these gradients only overflowed float16: a smaller loss scale mends that. A loss that is not finite has another cause."""
        return (
            self._scaled and not outcome.finite and math.isfinite(outcome.loss) and self._scale_after(False).value >= 1
        )

    def skip(self) -> float:
        """Take the step without its gradients: nothing changes but the loss scale, which is returned."""
        self.undo()
        self._advance(finite=False)
        return self.progress.loss_scale

    def _advance(self, finite: bool) -> None:
        scale = self._scale_after(finite)
        self.progress = replace(
            self.progress, step=self.step + 1, skipped=self.progress.skipped + (not finite),
            loss_scale=scale.value, good_steps=scale.good,
        )  # fmt: skip

    def _scale_after(self, finite: bool) -> LossScale:
        scale = LossScale(self.progress.loss_scale, self.progress.good_steps)
        return scale.after(finite) if self._scaled else scale

    def validated(self, figure: float, epochs: int) -> bool:
        """Note a validation after `epochs` whole epochs; whether its figure, the higher the better, is the best so far."""
        best = figure > self.progress.best
        self.progress = replace(self.progress, validated=epochs, validated_step=self.step)
        if best:
            self.progress = replace(self.progress, best=figure, best_step=self.step)
        return best

    def averaged(self):
        """A copy of the network for evaluation, with the averaged weights where they are kept."""
        copy = self._task.copy_network(self.model)
        assign(copy, self._weights())
        return copy

    def save(self, output: Output, best: bool = False) -> None:
        """Weights for `predict`, and the state to go on from."""
        weights = self._weights()
        if best:
            output.save_weights("best", weights, self.model.metadata)
        output.save_weights("last", weights, self.model.metadata)
        output.save_state(self._state(), self.progress, self.data)
        self._saved_step = self.step

    def saved_at_failure(self, output: Output):
        """To be pushed on an ExitStack: saves what was learnt where the loop ends in a JvanError, such as a dead worker's."""

        def leave(kind, error, trace) -> None:
            if isinstance(error, JvanError) and self.step > self._saved_step:
                self.save(output)

        return leave

    def finished(self, total: int) -> bool:
        """Whether `total` updates are made and their result is validated."""
        return self.step >= total and self.progress.validated_step == self.step

    def go_on_from(self, saved: Saved | None) -> None:
        """Go on exactly where `saved` was written; from the beginning for None."""
        if saved is None:
            return
        groups = {kind: {} for kind in ("model", "mean", "square", "ema")}
        for name, array in saved.tensors.items():
            kind, _, rest = name.partition(".")
            groups.get(kind, {})[rest] = array
        try:
            assign(self.model, groups["model"])
            self.optimizer.load(groups, saved.progress.updates)
            if self.ema:
                self.ema.load(groups["ema"], saved.progress.updates)
        except (KeyError, ValueError) as error:
            raise TrainingError(f"{saved.path}: does not fit this network: {error}") from None
        jt.sync_all()
        self.progress, self._saved_step = saved.progress, saved.progress.step

    def _weights(self) -> dict[str, np.ndarray]:
        return self.ema.state() if self.ema else _arrays(self.model)

    def _state(self) -> dict[str, np.ndarray]:
        groups = {"model": _arrays(self.model), **self.optimizer.state()}
        if self.ema:
            groups["ema"] = self.ema.state()
        return {f"{kind}.{name}": array for kind, arrays in groups.items() for name, array in arrays.items()}


def _arrays(model) -> dict[str, np.ndarray]:
    parameters = model.state_dict()
    return dict(zip(parameters, jt.fetch_sync(list(parameters.values()))))
