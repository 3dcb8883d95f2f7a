"""An attention unit of one's own: one row of structure.UNITS and one module give all that the published one has."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jittor as jt
import numpy as np
import pytest
from jittor import nn
from safetensors.numpy import save_file

from jvan import create_model, optimize_for_inference, structure
from jvan.benchmarking.flops import multiply_adds
from jvan.benchmarking.rounds import described
from jvan.checkpoints.names.architecture import parameter_shapes
from jvan.checkpoints.names.origins import ORIGINS, make_origins
from jvan.models import blocks
from jvan.ops.gates import GATES
from jvan.structure import DEPTHWISE, POINTWISE, Row
from jvan.variants import VANConfig
from tests import float64
from tests.models.recorded import error
from weights_convert.random_state import random_state, stream

SIZES = {"embed_dims": (4, 6, 8, 10), "depths": (1, 2, 1, 1), "mlp_ratios": (3, 2, 2, 2), "num_classes": 7}
HEIGHT, WIDTH = 41, 37
WORKERS = Path(blocks.__file__).parents[1] / "benchmarking" / "workers"


def strips(dim, config):
    """A 5×5, then strips of 1×7 and 7×1 side by side, all three summed before a 1×1."""
    return (
        Row("conv0", DEPTHWISE, dim, dim, (5, 5)),
        Row("wide", DEPTHWISE, dim, dim, (1, 7)),
        Row("tall", DEPTHWISE, dim, dim, (7, 1), of=("conv0",)),
        Row("conv1", POINTWISE, dim, dim, of=("conv0", "wide", "tall")),
    )


class Strips(nn.Module):
    def __init__(self, dim, config):
        self.gate = config.gate
        self.conv0 = nn.Conv(dim, dim, 5, padding=2, groups=dim)
        self.wide = nn.Conv(dim, dim, (1, 7), padding=(0, 3), groups=dim)
        self.tall = nn.Conv(dim, dim, (7, 1), padding=(3, 0), groups=dim)
        self.conv1 = nn.Conv(dim, dim, 1)

    def execute(self, x):
        a = self.conv0(x.permute(0, 3, 1, 2))
        mask = self.conv1(a + self.wide(a) + self.tall(a))
        return GATES[self.gate].apply(x, mask.permute(0, 2, 3, 1))


@pytest.fixture
def config(monkeypatch):
    monkeypatch.setitem(structure.UNITS, "strips", strips)
    monkeypatch.setitem(blocks.UNITS, "strips", Strips)
    for name, origin in make_origins().items():  # made when jvan is imported, before this row was there
        monkeypatch.setitem(ORIGINS, name, origin)
    return VANConfig(**SIZES, attention="strips", gate="add")


@pytest.fixture
def tensors(config):
    shapes = parameter_shapes(config)
    statistics = {name: stream(name).uniform(0.5, 1.5, shape) for name, shape in shapes.items() if "running_" in name}
    return {name: np.float32({**random_state(shapes), **statistics}[name]) for name in shapes}


@pytest.fixture
def picture():
    return stream("picture").standard_normal((1, 3, HEIGHT, WIDTH)).astype(np.float32)


def saved(tensors, config, path):
    model = create_model("van_b0", **vars(config))
    save_file(tensors, path, {"jvan": model.metadata.to_json()})
    return model


def test_shapes_and_names_are_the_networks(config):
    built = {name: tuple(value.shape) for name, value in create_model("van_b0", **vars(config)).state_dict().items()}
    assert built == parameter_shapes(config)
    names = [name for name in built if name.startswith("block2.1.attn.spatial_gating_unit.")]
    assert len(names) == 8 and built["block2.1.attn.spatial_gating_unit.tall.weight"] == (6, 1, 7, 1)


def test_its_count(config):
    published = VANConfig(**SIZES)
    pixels = [
        (11 * 10, 4, 1),
        (6 * 5, 6, 2),
        (3 * 3, 8, 1),
        (2 * 2, 10, 1),
    ]  # of a stage's map, its channels, its blocks
    assert structure.lka_kernels(21, 3) == (5, 7)
    fewer = sum(count * dim * depth * (7 * 7 - 7 - 7) for count, dim, depth in pixels)
    assert multiply_adds(config, HEIGHT, WIDTH) == multiply_adds(published, HEIGHT, WIDTH) - fewer


def test_float64_agrees_with_the_network_that_a_file_rebuilds(config, tensors, picture, tmp_path):
    saved(tensors, config, tmp_path / "strips.safetensors")
    model = create_model(weights=tmp_path / "strips.safetensors").eval()
    assert model.metadata.config == config
    want, _ = float64.network(picture, tensors, config)
    assert error(model(jt.array(picture)).numpy(), want) < 1e-5
    other, _ = float64.network(picture, tensors, VANConfig(**{**vars(config), "gate": "multiply"}))
    assert error(other, want) > 1e-3


def test_the_evaluation_of_rows_is_the_published_units():
    dim, config = 6, VANConfig(**SIZES, kernel_size=14, dilation=2)
    rows = structure.unit(dim, config)
    shapes = {name: shape for row in rows for name, shape in row.tensors().items()}
    t, u = random_state(shapes), stream("u").standard_normal((1, 9, 8, dim))
    np.testing.assert_array_equal(float64.unit(u, t, rows), float64.lka(u, t, dilation=2))


def test_the_fused_network_leaves_it_to_the_plain_one(config, tensors, picture):
    model = create_model("van_b0", **vars(config)).eval()
    with pytest.warns(UserWarning, match="is a Strips, a module of another kind"):
        plain = optimize_for_inference(model)
    assert np.array_equal(plain(jt.array(picture)).numpy(), model(jt.array(picture)).numpy())


TWIN = """
import json, sys
import numpy as np
import torch
sys.path.insert(0, sys.argv[1])
from torch_van import VAN
task = json.load(open(sys.argv[2]))
with np.load(sys.argv[3]) as arrays:
    tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
picture = tensors.pop("picture")
network = VAN(task["config"], task["stages"]).eval()
missing, unexpected = network.load_state_dict(tensors, strict=False)
assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing), (missing, unexpected)
with torch.no_grad():
    np.save(sys.argv[4], network(picture).numpy())
"""


def test_the_torch_twin(config, tensors, picture, tmp_path):
    python = os.environ.get("JVAN_PEERS_PYTHON") or sys.executable
    if subprocess.run([python, "-c", "import torch"], capture_output=True).returncode:
        pytest.skip("needs torch; JVAN_PEERS_PYTHON can name an interpreter that has it")
    (tmp_path / "task.json").write_text(json.dumps({"config": config.to_dict(), "stages": described(config)}))
    np.savez(tmp_path / "arrays.npz", picture=picture, **tensors)
    files = [tmp_path / name for name in ("task.json", "arrays.npz", "logits.npy")]
    subprocess.run([python, "-c", TWIN, WORKERS, *files], check=True, cwd=tmp_path)
    assert error(np.load(files[-1]), float64.network(picture, tensors, config)[0]) < 1e-5
