"""The engine trains a task that it has never heard of: pictures with masks, a loss in two parts, a figure of its own."""

import csv
import json
from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import jittor as jt
import numpy as np
import pytest
from jittor import nn
from safetensors.numpy import save_file

from jvan.checkpoints.file_bytes import Source
from jvan.checkpoints.formats.safetensors_file import read_safetensors
from jvan.checkpoints.metadata import Metadata
from jvan.data.loader import Loader
from jvan.data.slots import Field
from jvan.data.source import Split
from jvan.data.stores import ArrayStore
from jvan.engine.config import TrainConfig
from jvan.engine.curves import draw
from jvan.engine.loop import train
from jvan.engine.task import Data, Task
from jvan.models.factory import build
from jvan.variants import VANConfig

SIDE, COUNT = 32, 12
CONFIG = VANConfig(embed_dims=(8, 8, 8, 8), depths=(1, 1, 1, 1), mlp_ratios=(2, 2, 2, 2), stem_stride=1, num_classes=0)


class Masked(Split):
    """The mask of a picture: where red is above the middle."""

    def sample(self, index, reading=None):
        picture = self.picture(index)
        return picture, np.asarray(picture)[..., 0] > 127


@dataclass(frozen=True)
class Plain:
    layout: ClassVar = {"pictures": Field((3, SIDE, SIDE), "float32"), "targets": Field((SIDE, SIDE), "uint8")}

    def sample(self, picture, mask, rng):
        return np.asarray(picture).transpose(2, 0, 1) / np.float32(127.5) - 1, mask


class Painter(nn.Module):
    """A backbone under a name of its own; each pixel's logit from the finest map."""

    def __init__(self):
        self.backbone = build(CONFIG, drop_path_rate=0.2, out_indices=(0, 3))
        self.head = nn.Conv(8, 1, 1)
        self.metadata = Metadata(config=CONFIG)

    def execute(self, x):
        return self.head(self.backbone(x)[0])[:, 0]


def split(seed):
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (COUNT, 4, 4, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    labels = np.zeros(COUNT, np.int32)
    return Masked("drawn", ("all",), labels, ArrayStore("drawn", blocks), np.arange(COUNT), ("all",))


class Painting(Task):
    figures = ("pixels", "squares")
    best = "pixels"
    losses = ("entropy", "size")

    def open_data(self, config):
        return Data(split(0), split(1), "validation on other drawn pictures")

    def describe_data(self, data):
        return f"{len(data)} drawings"

    def digest(self, data):
        return "drawn"

    def starting_weights(self, config):
        return None

    def settle(self, config, weights, pictures, processes):
        return config

    def check_step(self, config, weights, processes):
        pass

    def make_network(self, config, weights, data):
        jt.set_global_seed(config.seed)
        return Painter(), "a painter"

    def copy_network(self, model):
        return Painter()

    def save_weights(self, tensors, metadata, path):
        save_file(tensors, str(path))

    def training(self, config, data, metadata, processes):
        return Loader(data, Plain(), config.seed, config.batch_size, workers=config.workers)

    def testing(self, config, data, metadata, processes):
        return Loader(data, Plain(), config.seed, config.batch_size, shuffle=False, drop_last=False)

    def loss(self, model, pictures, targets):
        logits = model(pictures)
        target = jt.array(targets.astype(np.float32))
        entropy = nn.binary_cross_entropy_with_logits(logits, target)
        size = (logits * logits).mean() * 1e-3
        return entropy + size, {"entropy": entropy, "size": size}

    def evaluate(self, model, loader, data, processes, stop):
        model.eval()
        right = total = 0
        for batch in loader.epoch(0):
            answer = model(jt.array(batch.pictures)).numpy() > 0
            right += (answer == batch.targets)[batch.weights > 0].sum()
            total += batch.targets[batch.weights > 0].size
        share = right / total
        return SimpleNamespace(
            figures={"pixels": share, "squares": share**2}, describe=lambda: f"{share:.3f} of the pixels"
        )

    def describe_best(self, value):
        return f"{value:.3f} of the pixels"


@dataclass(frozen=True)
class PaintConfig(TrainConfig):
    @property
    def task(self):
        return Painting()


def config(output, **more):
    given = {
        "batch_size": 4, "lr": 1e-2, "epochs": 4, "warmup_epochs": 0, "cooldown_epochs": 0, "log_every": 1, "workers": 0,
        "layer_decay": 0.9, "weight_decay": 0.0, "device": "cpu",
    }  # fmt: skip
    return PaintConfig(data="drawn", output=str(output), **{**given, **more})


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    said, folder = [], tmp_path_factory.mktemp("painted") / "run"
    return SimpleNamespace(folder=folder, result=train(config(folder), said.append), said=said)


def test_it_learns_and_logs_its_own_figures(trained):
    log, validated = rows(trained.folder / "log.csv"), rows(trained.folder / "validation.csv")
    assert list(log[0])[-2:] == ["loss_entropy", "loss_size"] and len(log) == 12
    for row in log:
        assert 0 < float(row["loss_size"]) < 0.1 * float(row["loss_entropy"])
        assert float(row["loss"]) == pytest.approx(float(row["loss_entropy"]) + float(row["loss_size"]), rel=1e-5)
    assert list(validated[0]) == ["step", "epoch", "pixels", "squares", "best"] and len(validated) == 4
    assert float(log[-1]["loss_entropy"]) < 0.6 * float(log[0]["loss_entropy"])
    assert trained.result.progress.best == pytest.approx(max(float(row["pixels"]) for row in validated), abs=1e-6)
    assert any(line.startswith("data: 12 drawings; validation on other drawn pictures") for line in trained.said)
    assert any(line.startswith("epoch 4: ") and "of the pixels" in line for line in trained.said)


def test_its_weights_are_under_their_own_names(trained):
    with Source.open_file(trained.folder / "last.safetensors") as source:
        names = set(read_safetensors(source)[0])
    assert "head.weight" in names and "backbone.block1.0.attn.proj_1.weight" in names
    assert json.loads((trained.folder / "config.json").read_text())["layer_decay"] == 0.9


def test_it_resumes_bit_for_bit(trained, tmp_path):
    train(config(tmp_path / "run", max_steps=5, accum_steps=1), lambda line: None)
    train(config(tmp_path / "run", resume=True), lambda line: None)
    exact = [(row["step"], row["loss"], row["loss_size"]) for row in rows(trained.folder / "log.csv")]
    assert [(row["step"], row["loss"], row["loss_size"]) for row in rows(tmp_path / "run" / "log.csv")] == exact


def test_its_curves_show_its_figure(trained):
    pytest.importorskip("matplotlib")
    assert draw(trained.folder, "pixels").stat().st_size > 10_000
