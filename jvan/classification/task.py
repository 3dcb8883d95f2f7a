"""Classification as a task: its options, and what the engine asks of it. Nothing heavy is imported before it is needed."""

from __future__ import annotations

from dataclasses import dataclass

from ..engine.config import TrainConfig, option
from ..engine.task import Data, Task
from .sizes import SMALL


class Classification(Task):
    """One label a picture; top-1 decides which network is the best."""

    figures = ("top1", "top5", "loss")
    best = "top1"
    replacement = "another of its class takes its place"

    def open_data(self, config) -> Data:
        from ..data.source import open_train_and_val

        return Data(*open_train_and_val(config.data, config.val, config.seed))

    def digest(self, split) -> str:
        from .pictures import data_digest

        return data_digest(split)

    def starting_weights(self, config):
        from .build import starting_weights

        return starting_weights(config)

    def settle(self, config, weights, pictures, processes):
        from .build import settle

        return settle(config, weights, pictures, processes)

    def check_step(self, config, weights, processes) -> None:
        from .build import check_step, network_of

        check_step(config, weights.metadata.config if weights else network_of(config.arch, 1), processes)

    def make_network(self, config, weights, train):
        from .build import make_network

        return make_network(config, weights, train.classes)

    def copy_network(self, model):
        from ..models.factory import build

        return build(model.metadata.config, metadata=model.metadata)

    def save_weights(self, tensors, metadata, path) -> None:
        from ..checkpoints.state import State
        from ..checkpoints.writers import save_state

        save_state(State(tensors, metadata), path, force=True, follow=False)

    def training(self, config, split, metadata, processes):
        from .pictures import training

        return training(config, split, metadata, processes)

    def testing(self, config, split, metadata, processes):
        from .pictures import testing

        return testing(config, split, metadata, processes)

    def loss(self, model, pictures, targets):
        import jittor as jt

        from .loss import soft_cross_entropy

        return soft_cross_entropy(model(pictures), jt.array(targets)), {}

    def evaluate(self, model, loader, split, processes, stop):
        from .evaluate import evaluate

        return evaluate(model, loader, split.labels, processes, stop)

    def describe_best(self, value: float) -> str:
        return f"top-1 {100 * value:.2f} %"


@dataclass(frozen=True)
class ClassificationConfig(TrainConfig):
    """A run that trains a classifier. The defaults are those of ImageNet-1K (official train.py)."""

    img_size: int | None = option(
        None,
        f"side of the pictures (default: the weights'; up to {SMALL}: padded and shifted)",
        metavar="N",
        at_least=32,
    )
    mixup: float = option(0.8, "alpha of mixup, 0 for none", metavar="X", at_least=0)
    cutmix: float = option(1.0, "alpha of cutmix, 0 for none", metavar="X", at_least=0)
    aa: str | None = option(
        "rand-m9-mstd0.5-inc1", "RandAugment policy, or none", "--auto-augment", metavar="P", nothing="none"
    )
    smoothing: float = option(0.1, "label smoothing", "--label-smoothing", metavar="X", at_least=0, below=1)
    reprob: float = option(0.25, "probability of random erasing", metavar="X", at_least=0, at_most=1)

    color_jitter: float = 0.4
    flip: float = 0.5
    crop_scale: tuple[float, float] = (0.08, 1.0)

    @property
    def task(self) -> Classification:
        return Classification()
