"""The folder that a run writes: its configuration, log, weights and states, for one run at a time."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .._text import printable
from ..checkpoints.metadata import Metadata
from ..data.layout import PARTS
from ..errors import TrainingError
from ..files import PART, lock, replaced
from ..ownership import open_unlinked
from .config import TrainConfig, differences
from .resume import Progress, Saved, newest_state, save_state_file, state_files

# Everything that a run writes into OUTPUT and OUTPUT/state. tensorboardX's files have names that nobody can foresee.
LOCK = ".lock"
FILES = (
    "config.json", "log.csv", "validation.csv", "last.safetensors", "best.safetensors", "curves.png", "not-finite.txt",
)  # fmt: skip
STATE = r"step-\d{9}\.safetensors"
# by files.replaced, and by safetensors' library, whose file is renamed to the first kind
LEFT = re.compile(rf"\.({'|'.join(map(re.escape, FILES))}|{STATE})\.[0-9a-f]{{12}}{re.escape(PART)}|\.tmp\w{{6}}")


class Output:
    """OUTPUT: config.json, log.csv, validation.csv, last.safetensors, best.safetensors, state/."""

    def __init__(self, config: TrainConfig, writes: bool = True):
        self.config, self.writes = config, writes
        self.folder = Path(config.output).expanduser()
        self.states = self.folder / "state"

    @contextmanager
    def claimed(self):
        """Hold the folder against a second run; TrainingError where that, or writing, is impossible, or a run is there already."""
        if not self.writes:
            yield
            return
        self._check_links()
        self._check_place()
        self.states.mkdir(parents=True, exist_ok=True)
        if not os.access(self.states, os.W_OK | os.X_OK) or not os.access(self.folder, os.W_OK | os.X_OK):
            raise TrainingError(f"{self.folder}: the folder is not writable; choose another --output")
        with open_unlinked(self.folder / LOCK, "ab") as file:
            if not lock(file, wait=False):
                raise TrainingError(f"{self.folder}: another run is writing there; choose another --output")
            if state_files(self.states) and not self.config.resume:
                raise TrainingError(
                    f"{self.folder}: holds a run already; add --resume to continue it, or choose another --output"
                )
            self._sweep()
            yield

    def _check_links(self) -> None:
        """TrainingError where a file that the run will write is a link, to somebody's file perhaps, or no file. Folders may be links."""
        states = (path for path in self.states.glob("*") if re.fullmatch(STATE, path.name))
        for path in (*(self.folder / name for name in (LOCK, *FILES)), *states):
            if path.is_symlink():
                raise TrainingError(
                    f"{path}: is a link, and a run follows none to what it writes; remove it, or choose another --output"
                )
            if path.exists() and not path.is_file():
                raise TrainingError(f"{path}: is no regular file; remove it, or choose another --output")

    def _check_place(self) -> None:
        """TrainingError where the next look at DATA would take OUTPUT for a class, or where it holds somebody's files."""
        data, folder = Path(self.config.data).resolve(), self.folder.resolve()
        inside = data.is_dir() and data in (folder, *folder.parents)
        if inside and (
            not (data / "train").is_dir()
            or folder.relative_to(data).parts[:1] in [(name,) for names in PARTS.values() for name in names]
        ):
            raise TrainingError(
                f"{self.folder}: lies among the pictures of {self.config.data}; choose an --output outside"
            )
        if self.states.is_dir() and state_files(self.states):
            return
        best = self.folder / "best.safetensors"
        if best.exists():
            raise TrainingError(f"{best}: is there already, without the state of its run; choose another --output")
        for name, written_here in (("config.json", self._is_config), ("log.csv", _is_log), ("validation.csv", _is_log)):
            path = self.folder / name
            if path.exists() and not written_here(path):
                raise TrainingError(f"{path}: is there already and not from a run of jvan; choose another --output")

    def found(self, data: str, tell) -> Saved | None:
        """The state to go on from; None without --resume or without any. TrainingError for another configuration or other data."""
        if not self.config.resume or not self.states.is_dir():
            return None
        saved = newest_state(self.states, tell)
        if saved is None:
            return None
        try:
            wrong = differences(type(self.config).from_json(saved.config), self.config)
        except (ValueError, TypeError) as error:
            raise TrainingError(
                f"{saved.path}: was written by another version of jvan ({error}); choose another --output"
            ) from None
        if wrong:
            raise TrainingError(
                f"{self.folder}: holds a run of another configuration ({'; '.join(wrong)}); repeat its options, or choose another --output"
            )
        if saved.data != data:
            raise TrainingError(
                f"{self.folder}: was trained on other pictures than {self.config.data} has now; choose another --output"
            )
        return saved

    def save_config(self) -> None:
        if self.writes:
            with replaced(self.folder / "config.json", follow=False) as place:
                place.write_text(self.config.to_json() + "\n", encoding="utf-8")

    def save_state(self, tensors: dict[str, np.ndarray], progress: Progress, data: str) -> None:
        if self.writes:
            save_state_file(self.states, tensors, progress, self.config.to_json(), data, self.config.keep)

    def save_weights(self, name: str, tensors: dict[str, np.ndarray], metadata: Metadata) -> None:
        """`last` or `best`, as plain weights that `predict` reads."""
        if self.writes:
            self.config.task.save_weights(tensors, metadata, self.folder / f"{name}.safetensors")

    def listed(self, names: list[str], most: int = 8) -> str:
        """The pictures of a failed step for a message; not-finite.txt has those that it leaves out."""
        more = len(names) - most
        if more <= 0 or not self.writes:
            return ", ".join(names)
        path = self.folder / "not-finite.txt"
        with replaced(path, follow=False) as place:
            place.write_text("\n".join(map(printable, names)) + "\n", encoding="utf-8")
        return f"{', '.join(names[:most])} and {more} more, all in {path}"

    def _is_config(self, path: Path) -> bool:
        try:
            type(self.config).from_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError, RecursionError):
            return False
        return True

    def _sweep(self) -> None:
        """Remove what a killed run left half-written."""
        for folder in (self.folder, self.states):
            for path in folder.iterdir():
                if LEFT.fullmatch(path.name) and path.is_file():
                    path.unlink(missing_ok=True)


def _is_log(path: Path) -> bool:
    """By the columns that both tables begin with; a run that was killed at once leaves an empty file."""
    try:
        return path.read_bytes()[:11] in (b"", b"step,epoch,")
    except OSError:
        return False
