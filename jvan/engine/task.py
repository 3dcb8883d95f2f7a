"""What the engine and the commands ask of a task: its data, network, loss, evaluation, prediction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple


class Data(NamedTuple):
    """What a run learns from: two splits, and a sentence that says where validation comes from."""

    train: object
    val: object
    division: str


class Measured(ABC):
    """What `jvan validate` prints and writes."""

    is_rank_zero: bool  # of several processes, the one that speaks
    corrupt: tuple[tuple[str, str], ...]  # (name, reason) of pictures that could not be read

    @abstractmethod
    def document(self) -> dict:
        """The object of --json; plain JSON types."""

    @abstractmethod
    def table(self):
        """Yield the lines for a terminal."""

    @abstractmethod
    def rows(self):
        """Yield the rows of --csv, the head first."""

    @abstractmethod
    def matrix(self):
        """Yield the rows of --confusion, the head first."""


class Task(ABC):
    """Classification, segmentation, detection: one subclass each. A task imports no Jittor before a method needs it.

    `TASK` in its folder's task.py is the one instance.
    """

    name: str  # the folder's, and the word for it in a weights file
    config: type  # the options of a run, an engine.config.TrainConfig
    training_help: tuple[str, str]  # what `jvan train --help` says of its data and defaults, and of its recipes
    call_options: tuple[str, ...] = ()  # what a Predictor's call takes beside the pictures
    drawn: tuple[str, ...] = ()  # suffixes of the pictures that `draw` makes of an answer
    figures: tuple[str, ...]  # what an evaluation measures: the columns of validation.csv
    best: str  # the one of them by which a network is the better, the higher it is
    losses: tuple[str, ...] = ()  # the named parts of the loss: further columns of log.csv
    replacement: str = "another picture takes its place"  # of an unreadable picture, in training

    # ---- the network

    @abstractmethod
    def create_model(self, arch, weights, **arguments):
        """The network of an architecture or of weights; `tasks.create_model` has the arguments."""

    @abstractmethod
    def load_weights(self, model, path, strict: bool = True) -> tuple[list[str], list[str]]:
        """Fill `model`; (missing names, unexpected ones), as `tasks.load_weights` says."""

    def optimize(self, model, dtype: str = "float32"):
        """A copy for inference alone, as `tasks.optimize_for_inference` says."""
        from ..inference.optimize import optimize_for_inference

        return optimize_for_inference(model, dtype)

    # ---- `jvan predict`

    @abstractmethod
    def load_for_prediction(self, name: str, arch, weights):
        """The network of weights that `name` stands for in messages; CheckpointError where they cannot answer this task."""

    @abstractmethod
    def answerer(self, name: str, model, dtype: str, labels, source):
        """An inference.stream.Answerer around `model`; labels: those given by `source`, or None for the weights' own."""

    @abstractmethod
    def describe_network(self, metadata) -> tuple[str, str]:
        """(the network in a few words, how its pictures are prepared)."""

    @abstractmethod
    def entry(self, answer) -> dict:
        """An answer's part of a picture's object in JSON; of None, for a picture that could not be read, its empty form."""

    @abstractmethod
    def table(self, answer):
        """Yield an answer's lines for a terminal."""

    def draw(self, file: str, answer):
        """Yield a PIL image for each of `drawn`: what `answer` says of the picture in `file`."""
        return iter(())

    # ---- `jvan validate`

    @abstractmethod
    def measure(self, predictor, data, options, say, progress):
        """What `predictor` reaches on labelled pictures: a Measured; DataError for data that do not fit it.

        options: batch_size, workers, max_pixels, confusion. `say(split, how)` comes before the first batch; `progress(batches,
        total)` wraps them.
        """

    # ---- `jvan train`

    @abstractmethod
    def make_config(self, given: dict):
        """A run's configuration from the options that were given by name."""

    @abstractmethod
    def open_data(self, config) -> Data:
        """The pictures and targets of `config.data` and `config.val`; DataError where there is nothing to train on."""

    def describe_data(self, split) -> str:
        """What there is to learn from. Programs read this line."""
        return f"{len(split)} pictures of {len(split.classes)} classes"

    @abstractmethod
    def digest(self, split) -> str:
        """Of the pictures' names and targets, in order, wherever the data lie: a run goes on with the same ones alone."""

    @abstractmethod
    def starting_weights(self, config):
        """What `config.weights` names, a State that was checked against `config.arch`; None without weights."""

    @abstractmethod
    def settle(self, config, weights, pictures: int, processes: int):
        """The configuration with all that `weights` (a State or None) and data decide filled in; TrainingError for what cannot be."""

    @abstractmethod
    def check_step(self, config, weights, processes: int) -> None:
        """MemoryLimitError where a step takes more memory than this process may have."""

    @abstractmethod
    def make_network(self, config, weights, train):
        """(the network in training mode, with metadata; what is to be said of it)."""

    @abstractmethod
    def copy_network(self, model):
        """A new network of `model`'s shapes and metadata; the caller assigns its weights."""

    @abstractmethod
    def save_weights(self, tensors, metadata, path) -> None:
        """Write plain weights, whole or not at all, in the place of those that are there; a link at `path` is not followed.

        tensors: {name: array}, as the network names them.
        """

    @abstractmethod
    def training(self, config, split, metadata, processes):
        """A Loader of whole batches, augmented, in an order of their own in every epoch."""

    @abstractmethod
    def testing(self, config, split, metadata, processes):
        """A Loader of the pictures as the network is to see them, in order, each once."""

    @abstractmethod
    def loss(self, model, pictures, targets):
        """(the mean loss of a part of a batch, a scalar; {name: scalar} of its parts, as `losses` lists them).

        pictures: jt.Var (n, C, H, W); targets: the part's rows of `Batch.targets`.
        """

    @abstractmethod
    def evaluate(self, model, loader, split, processes, stop):
        """What `model` makes of the pictures: an object with `figures`, {name: number}, and `describe()`, a line.

        None where `stop()` became true. Only a process alone asks it: several would wait for each other.
        """

    @abstractmethod
    def describe_best(self, value: float) -> str:
        """The figure `best` in words, such as "top-1 92.11 %"."""
