"""Engine and commands serve a task that they have never heard of: pictures with masks, a loss in two parts, a figure of its own."""

import csv
import json
import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar, NamedTuple

import jittor as jt
import numpy as np
import pytest
from jittor import nn
from PIL import Image
from safetensors.numpy import save_file

from jvan import predict, tasks, validate
from jvan import train as train_command
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
from jvan.engine.task import Data, Measured, Task
from jvan.errors import JvanError, PictureError
from jvan.inference.stream import Answerer, finite_outputs
from jvan.models.factory import build
from jvan.models.loading import assign
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
        self.metadata = Metadata(config=CONFIG, task="painting")

    def execute(self, x):
        return self.head(self.backbone(x)[0])[:, 0]


def split(seed):
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (COUNT, 4, 4, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    labels = np.zeros(COUNT, np.int32)
    return Masked("drawn", ("all",), labels, ArrayStore("drawn", blocks), np.arange(COUNT), ("all",))


class Painted(NamedTuple):
    """A picture's mask."""

    mask: np.ndarray


class Brush(Answerer):
    ahead, labels = 4, ("red",)

    def __init__(self, model):
        self.model = model

    def prepare(self, picture):
        return np.asarray(picture.convert("RGB").resize((SIDE, SIDE))).transpose(2, 0, 1) / np.float32(127.5) - 1

    def options(self, least=0.0):
        return {"least": least}

    def answers(self, prepared, least):
        return [Painted(logits > least) for logits in finite_outputs("painter", self.model, np.stack(prepared))]


class Share(Measured):
    is_rank_zero, corrupt = True, ()

    def __init__(self, share):
        self.share = share

    def document(self):
        return {"pixels": self.share}

    def table(self):
        yield f"{self.share:.3f} of the pixels"

    def rows(self):
        yield from (("class", "pixels"), ("red", self.share))

    def matrix(self):
        yield ("none",)


class Painting(Task):
    name = "painting"
    training_help = ("DATA is made up.", "recipes: none")
    drawn = (".png", ".inverse.png")
    figures = ("pixels", "squares")
    best = "pixels"
    losses = ("entropy", "size")

    @property
    def config(self):
        return PaintConfig

    def make_config(self, given):
        return PaintConfig(**{**GIVEN, **given})

    def create_model(self, arch, weights, **arguments):
        model = Painter()
        if weights:
            self.load_weights(model, weights)
        return model

    def load_weights(self, model, path, strict=True):
        with Source.open_file(path) as source:
            tensors = read_safetensors(source)[0]
            return assign(model, {name: tensor.numpy() for name, tensor in tensors.items()}, strict)

    def optimize(self, model, dtype="float32"):
        return model

    def load_for_prediction(self, name, arch, weights):
        return self.create_model(arch, weights)

    def answerer(self, name, model, dtype, labels, source):
        return Brush(model)

    def describe_network(self, metadata):
        return "a painter", f"{SIDE}×{SIDE}"

    def entry(self, answer):
        return {"red": int(answer.mask.sum())} if answer else {}

    def table(self, answer):
        yield f"{int(answer.mask.sum())} red pixels"

    def draw(self, file, answer):
        for mask in (answer.mask, ~answer.mask):
            yield Image.fromarray(mask)

    def measure(self, predictor, data, options, say, progress):
        masks = split(1)
        say(masks, "as drawn")
        answers = predictor([np.asarray(masks.picture(index)) for index in range(COUNT)])
        right = [answer.mask == masks.sample(index)[1] for index, answer in enumerate(answers)]
        return Share(float(np.mean(right)))

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
        save_file(tensors, str(path), {"jvan": metadata.to_json()})

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


GIVEN = {
    "batch_size": 4, "lr": 1e-2, "epochs": 4, "warmup_epochs": 0, "cooldown_epochs": 0, "log_every": 1, "workers": 0,
    "layer_decay": 0.9, "weight_decay": 0.0, "device": "cpu",
}  # fmt: skip


def config(output, **more):
    return PaintConfig(data="drawn", output=str(output), **{**GIVEN, **more})


@pytest.fixture
def known(monkeypatch):
    """The task has a row in the table, and a folder."""
    monkeypatch.setitem(tasks.SUFFIXES, "_painting", "painting")
    monkeypatch.setitem(sys.modules, "jvan.painting.task", SimpleNamespace(TASK=Painting()))


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


@pytest.fixture
def weights(trained):
    return str(trained.folder / "last.safetensors")


def test_weights_and_names_tell_the_task(known, weights):
    assert tasks.task_of(weights=weights).name == tasks.task_of("van_b0_painting:depths=1,1,1,1").name == "painting"
    assert (
        tasks.task_of().name
        == tasks.task_of("van_b0").name
        == tasks.task_of(weights="van_b0.in1k").name
        == "classification"
    )
    model = tasks.create_model(weights=weights)
    assert type(model) is Painter and tasks.optimize_for_inference(model) is model
    assert tasks.load_weights(model, weights) == ([], [])
    with pytest.raises(JvanError, match="the task is 'painting', and this jvan knows classification"):
        tasks.SUFFIXES.pop("_painting")
        tasks.create_model(weights=weights)


def test_it_predicts(known, weights, tmp_path):
    red, black = np.zeros((2, 40, 40, 3), np.uint8)
    red[:, :20, 0] = 255
    predictor = tasks.Predictor(weights=weights, device="cpu", batch_size=2)
    assert predictor.describe()[0] == f"weights: {weights} (a painter, on cpu)" and predictor.labels == ("red",)
    (answer,) = predictor(red)
    assert answer.mask[:, :14].mean() > 0.9 and answer.mask[:, 18:].mean() < 0.1
    found = list(predictor.stream([black, tmp_path / "none.png", red], least=-1e9))
    assert isinstance(found[1][1], PictureError) and found[0][1].mask.all() and found[2][1].mask.all()
    with pytest.raises(TypeError, match="topk"):
        predictor(red, topk=3)


def test_its_pictures_are_drawn(known, weights, tmp_path, capsys):
    folder, drawn = tmp_path / "photos" / "one", tmp_path / "drawn"
    folder.mkdir(parents=True)
    for name, colour in (("a.png", "red"), ("b.jpg", "black")):
        Image.new("RGB", (40, 40), colour).save(folder / name)
    command = [str(folder.parent), "--weights", weights, "--output", str(drawn), "--json", "--device", "cpu"]
    assert predict.main(command) == 0
    out, err = capsys.readouterr()
    assert [list(entry) for entry in json.loads(out)] == [["file", "red"]] * 2 and "(a painter, on cpu)" in err
    files = sorted(path.relative_to(drawn).as_posix() for path in drawn.rglob("*.png"))
    assert files == ["one/a.inverse.png", "one/a.png", "one/b.inverse.png", "one/b.png"]
    mask, inverse = (np.asarray(Image.open(drawn / name)) for name in files[1::-1])
    assert np.array_equal(mask, ~inverse)
    assert predict.main(command) == 1 and "exists; choose another folder (--output)" in capsys.readouterr().err
    assert predict.main([*command, "--force"]) == 0
    assert predict.main([*command[:4], str(tmp_path / "photos"), "--force"]) == 1
    assert "is one of the pictures, and would be overwritten" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        predict.main([*command, "--topk", "3"])
    assert "--topk is about a classifier's classes" in capsys.readouterr().err
    Image.new("RGB", (40, 40)).save(folder / "b.bmp")
    assert predict.main([*command[:4], str(tmp_path / "other")]) == 1
    assert "would both be written to" in capsys.readouterr().err and not (tmp_path / "other").exists()


def test_it_is_measured(known, weights, tmp_path, capsys):
    assert (
        validate.main(["drawn", "--weights", weights, "--json", "--csv", str(tmp_path / "red.csv"), "--device", "cpu"])
        == 0
    )
    out, err = capsys.readouterr()
    assert json.loads(out)["pixels"] > 0.9 and "12 pictures of 1 classes; as drawn" in err
    assert rows(tmp_path / "red.csv")[0]["pixels"] == str(json.loads(out)["pixels"])


def test_it_is_trained_by_the_command(known, trained, tmp_path, capsys):
    command = ["drawn", "--arch", "van_b0_painting", "--output", str(tmp_path / "run"), "--seed", "42"]
    assert train_command.main(command) == 0
    assert "of the pixels" in capsys.readouterr().err
    assert rows(tmp_path / "run" / "log.csv")[0]["loss"] == rows(trained.folder / "log.csv")[0]["loss"]
    with pytest.raises(SystemExit):
        train_command.main(["--help", "--arch", "van_b0_painting"])
    out = capsys.readouterr().out
    assert "DATA is made up." in out and "--mixup" not in out and "--epochs" in out
