"""Classification as a task: its options, and what the engine asks of it. Nothing heavy is imported before it is needed."""

from __future__ import annotations

from dataclasses import dataclass

from ..engine.config import TrainConfig, option
from ..engine.task import Data, Task
from ..errors import CheckpointError, JvanError, NoHead
from .sizes import SMALL


class Classification(Task):
    """One label a picture; top-1 decides which network is the best."""

    name = "classification"
    call_options = ("topk",)
    figures = ("top1", "top5", "loss")
    best = "top1"
    replacement = "another of its class takes its place"

    @property
    def config(self):
        return ClassificationConfig

    @property
    def training_help(self) -> tuple[str, str]:
        from .recipes import HELP, recipes_help

        return HELP, recipes_help()

    def create_model(self, arch, weights, **arguments):
        from ..models.factory import create_model

        return create_model(arch, weights, **arguments)

    def load_weights(self, model, path, strict=True):
        from ..models.factory import load_weights

        return load_weights(model, path, strict)

    def load_for_prediction(self, name, arch, weights):
        try:
            return self.create_model(arch, weights)
        except NoHead:
            raise NoHead(
                f"{name}: the weights have no classification head, so they cannot name pictures; give a classifier's"
            ) from None
        except JvanError:
            raise
        except ValueError as error:
            raise CheckpointError(f"{name}: {error}") from None

    def answerer(self, name, model, dtype, labels, source):
        from .predictor import LikeliestClasses

        return LikeliestClasses(name, model, dtype, labels, source)

    def describe_network(self, metadata):
        from ..pictures.preprocess import describe

        config = metadata.config
        return f"{config.arch}, {config.num_classes} classes", describe(metadata.preprocessing)

    def entry(self, answer):
        return {"predictions": [prediction.entry for prediction in answer or ()]}

    def table(self, answer):
        from .predictor import table

        return table(answer)

    def measure(self, predictor, data, options, say, progress):
        from .measure import measure

        return measure(predictor, data, options, say, progress)

    def make_config(self, given):
        from .recipes import make_config

        return make_config(ClassificationConfig, given)

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
        return TASK


TASK = Classification()
