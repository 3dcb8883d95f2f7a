"""What a run tells: rows of CSV, tensorboardX where it is installed, a bar or lines for whoever watches."""

from __future__ import annotations

import contextlib
import csv
import time
from pathlib import Path
from types import MappingProxyType

from .._say import bar
from ..files import replaced
from ..ownership import open_unlinked
from .board import Board
from .config import TrainConfig
from .resume import Progress

STEPS = ("step", "epoch", "lr", "loss", "pictures_per_s", "seconds")


class Log:
    """log.csv has a row a logged step, validation.csv one a validation; a continued run drops the rows after its state.

    The task's parts of the loss follow log.csv's own columns as `loss_NAME`; its figures are validation.csv's columns.
    """

    def __init__(self, folder: Path, progress: Progress, total: int, config: TrainConfig, writes: bool, tell):
        self.total, self.batch_size, self.every, self._tell = total, config.batch_size, config.log_every, tell
        self._figures, self._replacement = config.task.figures, config.task.replacement
        self._parts = {name: f"loss_{name}" for name in config.task.losses}
        self._scaled = config.dtype == "float16"
        steps = (*STEPS, *self._parts.values(), *(("loss_scale",) if self._scaled else ()))
        epochs = ("step", "epoch", *self._figures, "best")
        self._steps = _Rows(folder / "log.csv", steps, progress.step) if writes else None
        self._epochs = _Rows(folder / "validation.csv", epochs, max(0, progress.validated_step)) if writes else None
        self._board = _board(folder, progress.step) if writes else None
        self._bar = bar(unit="step", total=total, done=progress.step) if writes else None
        self._begun = self._last = time.monotonic()
        self._since = 0
        self._named: set[str] = set()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_) -> None:
        for thing in (self._steps, self._epochs, self._board, self._bar):
            if thing is not None:
                thing.close()

    def step(
        self, step: int, epoch: int, lr: float, loss: float, loss_scale: float = 1.0, parts=MappingProxyType({})
    ) -> None:
        """After the step number `step`; a row where it is due. The scale is that of the step to come."""
        self._since += 1
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {loss:.4f}, {self._rate():.0f} pictures/s", refresh=False)
            self._bar.update()
        if step % self.every and step != self.total:
            return
        rate, now = self._rate(), time.monotonic()
        named = {column: parts[name] for name, column in self._parts.items()}
        scale = {"loss_scale": loss_scale} if self._scaled else {}
        if self._steps is not None:
            exact = map(repr, (*named.values(), *scale.values()))
            self._steps.write((step, epoch, repr(lr), repr(loss), f"{rate:.1f}", f"{now - self._begun:.1f}", *exact))
        if self._board is not None:
            values = {"loss": loss, "lr": lr, "pictures_per_s": rate, **named, **scale}
            self._board.add(step, {f"train/{name}": value for name, value in values.items()})
        if self._bar is not None and self._bar.disable:
            left = (self.total - step) * self.batch_size / rate
            self._tell(
                f"step {step}/{self.total}, epoch {epoch}: loss {loss:.4f}, lr {lr:.2e}, {rate:.0f} pictures/s, {_span(left)} left"
            )
        self._last, self._since = time.monotonic(), 0

    def skipped(self, step: int, loss_scale: float) -> None:
        """A step whose float16 gradients overflowed."""
        self._tell(
            f"step {step}: its gradients overflow float16 and are left out; the loss scale is {loss_scale:.0f} now"
        )

    def corrupt(self, found: list[tuple[str, str]], then: str | None = None) -> None:
        """Name and count the pictures that could not be read, each once, and what is done about them (None: training's way)."""
        for name, reason in found:
            if name not in self._named:
                self._named.add(name)
                self._tell(f"{name}: {reason}; {then or self._replacement} (unreadable so far: {len(self._named)})")

    def validation(self, step: int, epoch: int, result, best: bool) -> None:
        """After `epoch` epochs; `result` is what the task's evaluation gave."""
        figures = [result.figures[name] for name in self._figures]
        if self._epochs is not None:
            self._epochs.write((step, epoch, *(f"{figure:.6f}" for figure in figures), int(best)))
        if self._board is not None:
            names = (f"validation/{name}" for name in self._figures)
            self._board.add(step, dict(zip(names, figures)))
        self._tell(f"epoch {epoch}: {result.describe()}{', the best so far' if best else ''}")
        self._last, self._since = time.monotonic(), 0

    def _rate(self) -> float:
        return self._since * self.batch_size / max(time.monotonic() - self._last, 1e-9)


class _Rows:
    """A CSV file that is whole after every row; of an older one the rows stay whose step, the first column, is at most `last`."""

    def __init__(self, path: Path, names: tuple[str, ...], last: int):
        kept = []
        if last and path.exists():
            # a power failure may leave anything at the end
            with open_unlinked(path, "r", newline="", encoding="utf-8", errors="replace") as file:
                kept = [
                    row
                    for row in csv.reader(line.replace("\0", "") for line in file)
                    if len(row) == len(names) and row[0].isdigit() and int(row[0]) <= last
                ]
        with replaced(path, follow=False) as place, open(place, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([names, *kept])
        self._file = open_unlinked(path, "a", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file, lineterminator="\n")

    def write(self, row) -> None:
        try:
            self._writer.writerow(row)
            self._file.flush()
        except OSError as error:  # a full disk is reported without a name
            raise OSError(error.errno, error.strerror, self._file.name) from error

    def close(self) -> None:
        # every row was flushed: on a full disk closing would tell once more, without a name and instead of what is known
        with contextlib.suppress(OSError):
            self._file.close()


def _board(folder: Path, step: int) -> Board | None:
    try:
        return Board(folder / "tensorboard", step)
    except ImportError:
        return None


def _span(seconds: float) -> str:
    minutes = int(seconds / 60 + 0.5)
    if not minutes:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
