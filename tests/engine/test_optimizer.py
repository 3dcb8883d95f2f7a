"""AdamW against torch's recorded numbers and a float64 AdamW of numpy; its state; clipping; which parameters decay."""

from dataclasses import replace

import jittor as jt
import numpy as np
import pytest

from jvan.engine.drop_path import DropPathMasks, PlannedDropPath
from jvan.engine.groups import LAYERS, Parameter, layers_of, parameters_of
from jvan.engine.optimizer import AdamW, clip_gradients, squared_norm
from jvan.engine.parallel import Processes
from jvan.engine.sync_bn import SyncBatchNorm, SyncBlock, synchronise
from jvan.models.factory import build
from jvan.models.layers import BatchNorm
from jvan.variants import VANConfig, variant_config
from weights_convert.record_training import GOLDEN, adamw_case

TINY = VANConfig(embed_dims=(8, 8, 8, 8), depths=(1, 2, 1, 1), num_classes=3)


def begin(weight_decay=0.05, scale=1.0):
    start = adamw_case(-1)
    decays = {"matrix": True, "vector": False}
    parameters = [Parameter(name, jt.array(value), decays[name], scale) for name, value in start.items()]
    return parameters, AdamW(parameters, weight_decay)


def advance(parameters, optimizer, step, lr):
    gradients = adamw_case(step)
    optimizer.step([jt.array(gradients[p.name]) for p in parameters], lr)
    jt.sync_all()
    return {p.name: p.value.numpy() for p in parameters}


def test_equals_torch():
    recorded = np.load(GOLDEN)
    parameters, optimizer = begin()
    for step in range(10):
        found = advance(parameters, optimizer, step, 1e-3 * (step + 1))
        for name, value in found.items():
            theirs = recorded[f"adamw/{step}/{name}"]
            assert np.abs(value - theirs).max() <= 1e-6 * np.abs(theirs).max(), (step, name)


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_equals_the_paper_in_float64(scale):
    parameters, optimizer = begin(scale=scale)
    wanted = {name: value.astype(np.float64) for name, value in adamw_case(-1).items()}
    mean = dict.fromkeys(wanted, 0.0)
    square = dict(mean)
    for step in range(8):
        found = advance(parameters, optimizer, step, 0.01)
        for name, gradient in adamw_case(step).items():
            g = gradient.astype(np.float64)
            mean[name] = 0.9 * mean[name] + 0.1 * g
            square[name] = 0.999 * square[name] + 0.001 * g * g
            hat, hat2 = mean[name] / (1 - 0.9 ** (step + 1)), square[name] / (1 - 0.999 ** (step + 1))
            decay = 0.05 if name == "matrix" else 0.0
            wanted[name] -= 0.01 * scale * (hat / (np.sqrt(hat2) + 1e-8) + decay * wanted[name])
            assert (np.abs(found[name] - wanted[name]) <= 1e-6 + 2e-6 * np.abs(wanted[name])).all()


def test_goes_on_from_its_state_bit_for_bit():
    parameters, optimizer = begin()
    for step in range(4):
        found = advance(parameters, optimizer, step, 1e-2)
    state = {kind: {n: a.copy() for n, a in arrays.items()} for kind, arrays in optimizer.state().items()}
    others, fresh = begin()
    for parameter in others:
        parameter.value.update(jt.array(found[parameter.name]))
    fresh.load(state, 4)
    for step in range(4, 8):
        one, two = advance(parameters, optimizer, step, 1e-2), advance(others, fresh, step, 1e-2)
        assert all(one[name].tobytes() == two[name].tobytes() for name in one)


def test_a_state_without_a_name_is_refused():
    _, optimizer = begin()
    with pytest.raises(KeyError):
        optimizer.load({"mean": {}, "square": {}}, 1)


def test_vectors_and_biases_do_not_decay():
    model = build(TINY)
    parameters = parameters_of(model)
    learned = {name for name, _ in model.named_parameters() if ".running_" not in name}
    assert {p.name for p in parameters} == learned
    shapes = {p.name: tuple(p.value.shape) for p in parameters}
    for p in parameters:
        assert p.decays == (len(shapes[p.name]) > 1), p.name
        assert p.decays == p.name.endswith("weight") & ("norm" not in p.name), p.name
    assert {p.scale for p in parameters} == {1.0}


@pytest.mark.parametrize("arch", ["van_b0", "van_b2", "van_b6"])
def test_layers_rise_from_stem_to_head(arch):
    depths = list(variant_config(arch).depths)
    names = ["patch_embed1.proj.weight"]
    for stage, depth in enumerate(depths, 1):
        names += [f"patch_embed{stage}.norm.bias"] * (stage > 1)
        names += [f"block{stage}.{i}.attn.proj_1.weight" for i in range(depth)] + [f"norm{stage}.weight"]
    found = layers_of(build(VANConfig(embed_dims=(8, 8, 8, 8), depths=depths, num_classes=3)))
    layers = [found[name] for name in names]
    assert layers == sorted(layers) and layers[0] == 0 and layers[-1] == LAYERS
    assert set(layers) >= set(range(2, LAYERS + 1)) and "head.weight" not in found


class Segmentor(jt.nn.Module):
    """A backbone under a name of its own, and a head."""

    def __init__(self):
        self.backbone = build(replace(TINY, num_classes=0), drop_path_rate=0.5, out_indices=(0, 1, 2, 3))
        self.decode_head = jt.nn.Linear(8, 3)


def test_a_backbone_inside_another_network_keeps_its_layers():
    plain = {p.name: p.scale for p in parameters_of(build(replace(TINY, num_classes=0)), layer_decay=0.5)}
    inside = {p.name: p.scale for p in parameters_of(Segmentor(), layer_decay=0.5)}
    head = {name: inside.pop(name) for name in ("decode_head.weight", "decode_head.bias")}
    assert set(head.values()) == {1.0}
    assert inside == {f"backbone.{name}": scale for name, scale in plain.items()}


def test_drop_path_and_norms_of_a_backbone_inside_another_network():
    model = Segmentor()
    blocks = [block for i in range(1, 5) for block in getattr(model.backbone, f"block{i}")]
    rates = [block.drop_path.rate for block in blocks]
    DropPathMasks(model, 0, 4, np.arange(4))
    assert all(type(block.drop_path) is PlannedDropPath for block in blocks)
    assert [block.drop_path.rate for block in blocks] == rates and rates[-1] == 0.5
    synchronise(model, Processes())
    norms = [module for module in model.modules() if isinstance(module, BatchNorm)]
    assert len(norms) == 4 + 2 * len(blocks) and all(type(norm) is SyncBatchNorm for norm in norms)
    assert all(type(block) is SyncBlock for i in range(1, 5) for block in getattr(model.backbone, f"block{i}"))


def test_layer_decay_multiplies_the_rate_once_a_layer():
    parameters = {p.name: p.scale for p in parameters_of(build(TINY), layer_decay=0.5)}
    assert parameters["head.weight"] == 1.0
    assert (
        parameters["norm4.weight"]
        == parameters["block4.0.norm1.weight"]
        == parameters["patch_embed4.proj.weight"]
        == 0.5
    )
    assert parameters["block2.0.layer_scale_1"] == 0.5 * parameters["block2.1.layer_scale_1"]
    assert parameters["patch_embed1.proj.weight"] == 0.5 ** (sum(TINY.depths) + 1)


@pytest.mark.parametrize("largest", [1e-3, 1e6])
def test_clipping_is_by_the_common_norm(largest):
    gradients = [jt.array(np.float32([[3.0, 0.0]])), jt.array(np.float32([4.0]))]
    clipped = [g.numpy() for g in clip_gradients(gradients, squared_norm(gradients), largest)]
    factor = min(1.0, largest / 5.0)
    np.testing.assert_allclose(clipped[0], [[3 * factor, 0]], rtol=1e-5)
    np.testing.assert_allclose(clipped[1], [4 * factor], rtol=1e-5)


def test_a_step_leaves_nothing_of_its_graph():
    """What each step left behind would fill the memory with the maps of all steps so far; and the next one learns, too."""
    network = build(TINY)
    parameters = parameters_of(network, 1.0)
    optimizer, lived = AdamW(parameters, 0.05), []
    pictures = jt.array(np.linspace(-1, 1, 2 * 3 * 32 * 32, dtype=np.float32).reshape(2, 3, 32, 32))
    for _ in range(4):
        gradients = jt.grad((network(pictures) ** 2).sum(), [p.value for p in parameters])
        assert np.abs(gradients[-1].numpy()).max() > 0
        optimizer.step(gradients, 1e-3)
        del gradients
        jt.sync_all(True)
        lived.append(jt.liveness_info()["lived_ops"])
    assert lived[1] == lived[2] == lived[3]
