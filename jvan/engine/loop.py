"""The training loop."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from signal import SIGTERM

from .._say import show
from ..device import use_device
from ..errors import TrainingError
from .config import TrainConfig
from .devices import check_device
from .log import Log
from .output import Output
from .parallel import OTHER_FAILED, Processes
from .resume import Progress
from .run import Run
from .schedule import learning_rate
from .signals import StopRequest
from .step import Flags


@dataclass(frozen=True)
class Result:
    """How a run ended: how far it came, the signal that stopped it or 0, and where everything is."""

    progress: Progress
    signal: int
    output: Output


def train(config: TrainConfig, tell=show) -> Result:
    """Train a network as `config` says; OUTPUT holds all that remains of it.

    Raises JvanError in one line, before any training, for whatever cannot work; TrainingError for a loss that is not finite.
    """
    use_device(config.device)
    processes = Processes()
    check_device(config.dtype, config.sync_bn, processes.count)
    tell = tell if processes.is_rank_zero else _silent
    task = config.task
    data = task.open_data(config)
    weights = task.starting_weights(config)
    config = task.settle(config, weights, len(data.train), processes.count)
    with processes.fail_together():
        task.check_step(config, weights, processes.count)
    model, origin = task.make_network(config, weights, data.train)
    run = Run(config, model, processes, task.digest(data.train))
    output = Output(config, writes=processes.is_rank_zero)
    steps_per_epoch = len(data.train) // config.batch_size
    total = min(config.epochs * steps_per_epoch, config.max_steps or float("inf"))
    with ExitStack() as stack:
        with processes.fail_together():
            stack.enter_context(output.claimed())
            run.go_on_from(output.found(run.data, tell))
        processes.check_same_step(run.step)
        output.save_config()
        tell(f"data: {task.describe_data(data.train)}; {data.division}")
        tell(
            f"network: {origin}; {total} steps into {output.folder}, {run.step} of them made; the first one may compile for minutes"
        )
        for note in weights.notes if weights else ():
            tell(f"{config.weights}: {note}")
        pictures = stack.enter_context(task.training(config, data.train, model.metadata, processes))
        held_out = stack.enter_context(task.testing(config, data.val, model.metadata, processes))
        log = stack.enter_context(Log(output.folder, run.progress, total, config, processes.is_rank_zero, tell))
        request = stack.enter_context(StopRequest(tell))
        stack.push(run.saved_at_failure(output))
        for epoch in range(run.progress.validated, config.epochs):
            if run.finished(total):
                break
            batches = pictures.epoch(epoch, run.step - epoch * steps_per_epoch) if run.step < total else ()
            for batch in run.batches(batches):
                lr = learning_rate(run.step, steps_per_epoch, config)
                outcome = run.gradients(batch, Flags(stop=bool(request.signal), unreadable=bool(pictures.unreadable)))
                if outcome.flags.failed:
                    run.undo()
                    raise TrainingError(OTHER_FAILED.format(processes.rank))
                if not (outcome.finite or run.can_skip(outcome)):
                    run.undo()
                    names = processes.gathered([data.train.name(int(index)) for index in batch.indices])
                    run.save(output)
                    raise TrainingError(
                        f"step {run.step + 1}: the loss is {outcome.loss} or its gradient not finite, on "
                        f"{output.listed(names)}; {output.states} has the state before it; begin another --output, with a lower "
                        f"--lr or --clip-grad 1, perhaps from --weights {output.folder / 'last.safetensors'}"
                    ).in_all()
                if outcome.finite:
                    run.update(outcome, lr)
                else:
                    log.skipped(run.step + 1, run.skip())
                log.step(run.step, epoch + 1, lr, outcome.loss, run.progress.loss_scale, outcome.parts)
                if outcome.flags.unreadable:
                    pictures.report_unreadable(processes.gathered(pictures.unreadable))
                log.corrupt(pictures.corrupt)
                if outcome.flags.stop:
                    run.save(output)
                    return Result(run.progress, request.signal or SIGTERM, output)  # perhaps another process got it
                if run.step % config.checkpoint_every == 0 and run.step % steps_per_epoch:
                    run.save(output)
                if run.step == total:
                    break
            run.save(output)
            result = task.evaluate(run.averaged(), held_out, data.val, processes, lambda: request.signal)
            if result is None:
                return Result(run.progress, request.signal, output)
            log.corrupt(held_out.corrupt, "it is not counted")
            best = run.validated(result.figures[task.best], run.step // steps_per_epoch)
            log.validation(run.step, epoch + 1, result, best)
            run.save(output, best)
    return Result(run.progress, 0, output)


def _silent(message: str) -> None:
    """What the processes other than the first say."""
