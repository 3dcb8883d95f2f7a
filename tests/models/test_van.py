"""The network's parts, arguments and promises; numbers against numpy in float64."""

from dataclasses import replace

import jittor as jt
import numpy as np
import pytest

from jvan import create_model, list_models
from jvan.models import LKA, VAN, build
from jvan.models.layers import BatchNorm, DropPath
from jvan.ops import _jit
from jvan.variants import VANConfig, variant_config
from tests import float64

SMALL = VANConfig(embed_dims=(4, 8, 8, 12), depths=(1, 1, 1, 1), num_classes=5)
PARAMETERS = {  # computed from the official code's shapes; the paper's Table 5 rounds them
    "van_b0": 4_105_800,
    "van_b1": 13_861_800,
    "van_b2": 26_578_472,
    "van_b3": 44_765_608,
    "van_b4": 60_283_176,
    "van_b5": 89_967_688,
    "van_b6": 199_829_416,
}
PARTS = {"dw": "conv0", "dw_d": "conv_spatial", "pw": "conv1"}
ABLATIONS = [  # Table 3
    ({"lka_parts": ("dw_d", "pw")}, 4_064_200),
    ({"lka_parts": ("dw", "pw")}, 4_025_800),
    ({"lka_parts": ("dw", "dw_d")}, 3_829_768),
    ({"gate": "none"}, 4_105_800),
    ({"gate": "add"}, 4_105_800),
    ({"gate": "sigmoid"}, 4_105_800),
]


slower = pytest.mark.filterwarnings("ignore:training takes longer")


def learned(model):
    return {name: p for name, p in model.state_dict().items() if "running_" not in name}


def parameters(model):
    return sum(p.numel() for p in learned(model).values())


def noise(*shape, seed=0):
    return jt.array(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))


def test_parameter_counts():
    assert {arch: parameters(create_model(arch)) for arch in list_models()} == PARAMETERS


def test_models_are_listed_by_a_pattern():
    assert list_models("van_b[0-2]") == ["van_b0", "van_b1", "van_b2"] and list_models("*") == list_models()
    assert list_models("VAN*") == []


@pytest.mark.parametrize("changes, count", ABLATIONS, ids=str)
def test_ablations_have_the_papers_parameter_counts(changes, count):
    assert parameters(create_model("van_b0", **changes)) == count


@pytest.mark.parametrize("kernel_size, dilation, millions", [(7, 2, 4.03), (14, 3, 4.07), (21, 3, 4.11), (28, 4, 4.14)])
def test_kernel_sizes_of_table_6(kernel_size, dilation, millions):
    model = create_model("van_b0", kernel_size=kernel_size, dilation=dilation)
    assert round(parameters(model) / 1e6, 2) == millions
    assert model.eval()(noise(1, 3, 45, 37)).shape == [1, 1000]


@pytest.mark.parametrize(
    "parts", [("dw", "dw_d", "pw"), ("dw_d", "pw"), ("dw", "pw"), ("dw", "dw_d"), ("pw",)], ids=str
)
@pytest.mark.parametrize("gate", ["multiply", "add", "none", "sigmoid"])
def test_lka(parts, gate):
    lka = LKA(6, kernel_size=7, dilation=2, parts=parts, gate=gate)  # its dilated part is 4×4
    x = np.random.RandomState(0).standard_normal((2, 9, 5, 6))
    weights = {name: p.numpy().astype(np.float64) for name, p in lka.state_dict().items()}
    assert "dw_d" not in parts or weights["conv_spatial.weight"].shape == (6, 1, 4, 4)
    assert {name.split(".")[0] for name in weights} == {PARTS[part] for part in parts}
    exact = float64.lka(x, weights, dilation=2, gate=gate)
    ours = lka(jt.array(x.astype(np.float32))).numpy()
    assert np.abs(ours - exact).max() <= 1e-5 * np.abs(exact).max()


def test_a_kernel_that_cannot_be_padded_evenly_raises():
    with pytest.raises(
        ValueError, match="4x4 kernel with dilation 3 reaches over 10 pixels and cannot be padded evenly"
    ):
        LKA(8, kernel_size=10, dilation=3)


def test_block_is_the_papers_figure():
    """Both shortcuts of the attention branch, layer scales, exact GELU: from the formula, in float64."""
    model = build(SMALL).eval()
    block = model.block1[0]
    for name, p in block.state_dict().items():
        spread = np.random.RandomState(len(name)).uniform(0.5, 1.5, p.shape)
        p.assign(jt.array(spread.astype(np.float32)) * (1 if p.ndim == 1 else 0.3))
    w = {name: p.numpy().astype(np.float64) for name, p in block.state_dict().items()}
    x = np.random.RandomState(1).standard_normal((2, 6, 7, 4))
    exact = float64.block(x, w)
    ours = block(jt.array(x.astype(np.float32))).numpy()
    assert np.abs(ours - exact).max() <= 1e-5 * np.abs(exact).max()


def test_official_initialisation():
    jt.set_global_seed(7)
    model = create_model("van_b1")
    state = {name: p.numpy() for name, p in model.state_dict().items()}
    for name, value in state.items():
        if value.ndim == 4:
            groups = value.shape[0] if value.shape[1] == 1 else 1
            fan_out = value.shape[0] * value.shape[2] * value.shape[3] / groups
            assert value.std() == pytest.approx((2 / fan_out) ** 0.5, rel=6 / value.size**0.5), name
        elif name == "head.weight":
            assert value.std() == pytest.approx(0.02, rel=0.01)
        elif "layer_scale" in name:
            assert (value == np.float32(0.01)).all()
        else:
            ones = name.endswith(
                ("norm1.weight", "norm2.weight", "norm3.weight", "norm4.weight", "norm.weight", "_var")
            )
            assert (value == (1 if ones else 0)).all(), name


def test_batch_norm_trains_as_pytorch_does():
    norm = BatchNorm(3)
    x = np.random.RandomState(0).standard_normal((4, 5, 2, 3)) * 3 + 1000  # E[x²] - E[x]² would cancel
    y = norm(jt.array(x.astype(np.float32))).numpy()
    x = x.astype(np.float32).astype(np.float64)
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    assert np.abs(y - (x - mean) / np.sqrt(var + 1e-5)).max() < 2e-4
    assert norm.running_mean.numpy() == pytest.approx(0.1 * mean, rel=1e-5)
    assert norm.running_var.numpy() == pytest.approx(0.9 + 0.1 * x.var((0, 1, 2), ddof=1), rel=1e-4)
    with pytest.raises(ValueError, match="more than one value a channel"):
        norm(jt.ones((1, 1, 1, 3)))


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    jt.set_global_seed(1)
    drop = DropPath(0.25)
    y = drop(jt.ones((4000, 2, 2, 3))).numpy()
    assert np.unique(y).tolist() == pytest.approx([0, 1 / 0.75])
    assert (y == y[:, :1, :1, :1]).all()
    assert 0.22 < (y[:, 0, 0, 0] == 0).mean() < 0.28
    drop.eval()
    assert (drop(jt.ones((10, 1, 1, 1))).numpy() == 1).all()
    with pytest.raises(ValueError, match="below 1"):
        DropPath(1.0)


def test_drop_path_rates_rise_from_block_to_block():
    model = create_model("van_b0", drop_path_rate=0.12)
    rates = [block.drop_path.rate for i in range(1, 5) for block in getattr(model, f"block{i}")]
    assert rates == pytest.approx(np.linspace(0, 0.12, 13).tolist())
    jt.set_global_seed(0)
    model = build(SMALL, drop_path_rate=0.9)
    x = noise(6, 3, 64, 64)
    assert np.abs(model(x).numpy() - model(x).numpy()).max() > 0
    model.eval()
    assert np.abs(model(x).numpy() - model(x).numpy()).max() == 0


@slower
def test_dropout_is_on_in_training_only():
    model = build(SMALL, drop_rate=0.5)
    x = noise(2, 3, 64, 64)
    assert np.abs(model(x).numpy() - model(x).numpy()).max() > 0
    model.eval()
    assert np.abs(model(x).numpy() - model(x).numpy()).max() == 0


@pytest.mark.parametrize(
    "options, changes, says",
    [
        ({"drop_rate": 0.1}, {}, "feed-forward of a block runs layer by layer: drop_rate is above 0"),
        ({}, {"gate": "add"}, 'attention of a block runs layer by layer: the gate is "add"'),
        ({}, {"lka_parts": ("dw", "pw")}, "parts of large-kernel attention are left out"),
    ],
)
def test_training_without_the_fast_operators_is_said_once(options, changes, says):
    model, x = build(replace(SMALL, **changes), **options), noise(2, 3, 32, 32)
    _jit.warn_once.cache_clear()
    with pytest.warns(UserWarning, match=says):
        model(x)
    model(x)
    _jit.warn_once.cache_clear()
    model.eval()(x)


@pytest.mark.parametrize("height, width", [(32, 32), (33, 57), (64, 100), (129, 35)])
def test_any_size(height, width):
    model = build(SMALL).eval()
    features = model.forward_features(noise(2, 3, height, width))
    assert features.shape == [2, 12, -(-height // 32), -(-width // 32)]
    assert model.forward_head(features).shape == [2, 5]


def test_stem_stride():
    model = create_model("van_b0", features_only=True, stem_stride=1)
    assert [m.shape for m in model.eval()(noise(1, 3, 32, 32))] == [
        [1, 32, 32, 32],
        [1, 64, 16, 16],
        [1, 160, 8, 8],
        [1, 256, 4, 4],
    ]
    assert [stage["reduction"] for stage in model.feature_info] == [1, 2, 4, 8]


def test_features_only():
    full = create_model("van_b0", features_only=True).eval()
    some = create_model("van_b0", features_only=True, out_indices=(3, 1)).eval()
    for name, p in full.state_dict().items():
        some.state_dict()[name].assign(p)
    x = noise(1, 3, 70, 90)
    maps = full(x)
    assert [m.shape[1] for m in maps] == [32, 64, 160, 256]
    chosen = some(x)
    assert [stage["num_chs"] for stage in some.feature_info] == [256, 64]
    assert np.array_equal(chosen[0].numpy(), maps[3].numpy())
    assert np.array_equal(chosen[1].numpy(), maps[1].numpy())
    with pytest.raises(ValueError, match="out_indices"):
        create_model("van_b0", features_only=True, out_indices=(4,))


def test_reset_classifier():
    model = build(SMALL).eval()
    x = noise(2, 3, 40, 40)
    model.reset_classifier(0)
    pooled = model(x)
    assert pooled.shape == [2, 12]
    assert np.allclose(pooled.numpy(), model.forward_features(x).numpy().mean((2, 3)), atol=1e-5)
    model.reset_classifier(9)
    assert model(x).shape == [2, 9]
    assert model.get_classifier().weight.shape == [9, 12]
    assert "head.weight" in model.state_dict()


class Detector(jt.Module):
    def __init__(self, backbone):
        self.backbone = backbone

    def execute(self, x):
        return self.backbone(x)


@pytest.mark.parametrize("wrap", [False, True], ids=["alone", "inside another module"])
def test_freezing_survives_train(wrap):
    model = build(SMALL)
    outer = Detector(model) if wrap else model
    model.freeze(stages=2)
    outer.eval()
    outer.train()
    before = {name: p.numpy() for name, p in model.state_dict().items()}
    optimizer = jt.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    for seed in range(2):
        optimizer.step((outer(noise(2, 3, 64, 64, seed=seed)) ** 2).sum())
    for name, p in model.state_dict().items():
        frozen = name.split(".")[0] in {"patch_embed1", "block1", "norm1", "patch_embed2", "block2", "norm2"}
        moved = np.abs(p.numpy() - before[name]).max() > 0
        assert moved != frozen, name


@pytest.mark.parametrize("freeze_first", [False, True])
def test_released_stages_train_again(freeze_first):
    model = build(SMALL)
    if freeze_first:
        model.freeze(4)
    model.eval()
    model.freeze(4)
    model.freeze(1)
    model.train()
    assert all(
        p.is_stop_grad() == name.startswith(("patch_embed1", "block1", "norm1")) for name, p in learned(model).items()
    )
    assert model.block2[0].norm1.is_train
    assert not model.block1[0].norm1.is_train
    with pytest.raises(ValueError, match="0 to 4"):
        model.freeze(5)


@pytest.mark.parametrize(
    "shape, dtype, message",
    [
        ((1, 1, 64, 64), "float32", "takes \\(N, 3, H, W\\)"),
        ((3, 64, 64), "float32", "takes"),
        ((1, 3, 64, 64), "uint8", "uint8"),
    ],
)
def test_a_wrong_input_is_named(shape, dtype, message):
    with pytest.raises(ValueError, match=message):
        build(SMALL)(jt.zeros(shape, dtype))


def test_unknown_architecture_and_argument():
    with pytest.raises(ValueError, match="van_b0, van_b1"):
        create_model("van_b7")
    with pytest.raises(ValueError, match="architecture"):
        create_model()
    with pytest.raises(TypeError, match="kernel"):
        create_model("van_b0", kernel=7)


def test_configuration_goes_there_and_back():
    config = variant_config("van_b3", kernel_size=28, dilation=4, gate="add", lka_parts=("dw", "pw"), stem_stride=2)
    assert VANConfig.from_dict(config.to_dict()) == config
    assert config.arch == "van_b3"
    with pytest.raises(ValueError, match="unknown configuration entries"):
        VANConfig.from_dict({**config.to_dict(), "surprise": 1})


def test_van_takes_plain_arguments():
    model = VAN((4, 4, 4, 4), (1, 1, 1, 1), num_classes=3, in_chans=2).eval()
    assert model(noise(1, 2, 32, 48)).shape == [1, 3]
