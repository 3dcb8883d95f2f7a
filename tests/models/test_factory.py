"""create_model and load_weights on files: what they take from the weights, and what they refuse."""

import jittor as jt
import numpy as np
import pytest
from safetensors.numpy import save_file

from jvan import CheckpointError, Predictor, create_model, load_weights
from jvan.checkpoints.metadata import Metadata
from jvan.errors import NoHead
from jvan.models import build
from jvan.preprocessing import Preprocessing
from jvan.variants import VANConfig, variant_config

from ..checkpoints.tiny_states import GOLDEN
from .recorded import error

CONFIG = VANConfig(
    embed_dims=(4, 8, 8, 12),
    depths=(1, 2, 1, 1),
    num_classes=5,
    kernel_size=14,
    dilation=3,
    stem_stride=2,
    norm_eps=1e-5,
)
PREPROCESSING = Preprocessing(size=64, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
X = jt.array(np.random.RandomState(0).standard_normal((2, 3, 40, 56)).astype(np.float32))


@pytest.fixture
def saved(tmp_path):
    """A network with random weights, and the file that holds it."""
    model = build(CONFIG)
    for i, p in enumerate(model.parameters()):
        p.assign(p + jt.array(np.random.RandomState(i).uniform(0.1, 0.2, p.shape).astype(np.float32)))
    labels = tuple("abcde")
    return model.eval(), _save(model, tmp_path / "weights.safetensors", labels=labels)


def _save(model, path, **facts):
    config = facts.pop("config", CONFIG)
    metadata = Metadata(config=config, preprocessing=PREPROCESSING, **facts)
    save_file({k: p.numpy() for k, p in model.state_dict().items()}, path, metadata={"jvan": metadata.to_json()})
    return path


def test_a_file_rebuilds_its_network_by_itself(saved):
    model, path = saved
    again = create_model(weights=path).eval()
    assert np.array_equal(again(X).numpy(), model(X).numpy())
    assert again.metadata.config == CONFIG
    assert again.metadata.labels == tuple("abcde")
    assert again.pretrained_cfg == {
        "input_size": (3, 64, 64),
        "crop_pct": 0.9,
        "interpolation": "bicubic",
        "mean": (0.4, 0.5, 0.6),
        "std": (0.2, 0.3, 0.4),
    }


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_classes": 7}, "a head for 5 classes, not for 7"),
        ({"num_classes": 0}, "drop_head"),
        ({"kernel_size": 21}, "'kernel_size': 14"),
        ({"stem_stride": 4}, "'stem_stride': 2"),
        ({"arch": "van_b0"}, "van_b0"),
    ],
    ids=str,
)
def test_what_contradicts_the_weights_raises(saved, arguments, message):
    with pytest.raises(ValueError, match=message):
        create_model(weights=saved[1], **arguments)


def test_drop_head_gives_a_new_head_and_keeps_the_rest(saved):
    model, path = saved
    new = create_model(weights=path, num_classes=7, drop_head=True).eval()
    assert new(X).shape == [2, 7]
    assert np.array_equal(new.forward_features(X).numpy(), model.forward_features(X).numpy())
    assert new.metadata.labels is None
    assert new.metadata.config.num_classes == 7
    same_size = create_model(weights=path, drop_head=True)
    assert np.abs(same_size.head.weight.numpy() - model.head.weight.numpy()).max() > 0.01


def test_features_only_leaves_the_head_out(saved):
    model, path = saved
    maps = create_model(weights=path, features_only=True).eval()(X)
    for ours, theirs in zip(maps, model.stages(X)):
        assert np.array_equal(ours.numpy(), theirs.permute(0, 3, 1, 2).numpy())


def test_weights_without_a_head_want_to_be_told(saved, tmp_path):
    model, _ = saved
    features = model.forward_features(X).numpy()
    model.reset_classifier(0)
    config = VANConfig.from_dict({**CONFIG.to_dict(), "num_classes": 0})
    path = _save(model, tmp_path / "backbone.safetensors", config=config)
    with pytest.raises(NoHead, match="no head; pass features_only=True, num_classes=0"):
        create_model(weights=path)
    with pytest.raises(
        NoHead, match=r"backbone.safetensors: the weights have no classification head, so they cannot name"
    ):
        Predictor(weights=path)
    assert np.array_equal(create_model(weights=path, num_classes=0).eval().forward_features(X).numpy(), features)
    assert create_model(weights=path, num_classes=3, drop_head=True).eval()(X).shape == [2, 3]
    assert len(create_model(weights=path, features_only=True).eval()(X)) == 4


def test_one_input_channel_sees_grey_pictures_as_before(saved):
    model, path = saved
    grey = X[:, :1]
    ours = create_model(weights=path, in_chans=1).eval()
    assert ours.pretrained_cfg["mean"] == pytest.approx((0.5,))
    assert error(ours(grey).numpy(), model(grey.broadcast(X.shape)).numpy()) < 1e-5


@pytest.mark.parametrize("in_chans", [2, 4, 6, 7])
def test_more_and_fewer_input_channels_keep_the_size_of_the_response(saved, in_chans):
    model, path = saved
    ours = create_model(weights=path, in_chans=in_chans)
    weight, stem = model.patch_embed1.proj.weight.numpy(), ours.patch_embed1.proj.weight.numpy()
    expected = np.stack([weight[:, i % 3] for i in range(in_chans)], axis=1) * (3 / in_chans)
    assert np.allclose(stem, expected, rtol=1e-6)
    assert len(ours.pretrained_cfg["mean"]) == in_chans


def test_layer_norm_eps_may_be_overridden(saved):
    ours = create_model(weights=saved[1], norm_eps=1e-3)
    assert ours.norm1.eps == ours.metadata.config.norm_eps == 1e-3


def test_load_weights_is_strict(saved, tmp_path):
    model, path = saved
    other = build(CONFIG)
    assert load_weights(other, path) == ([], [])
    assert np.array_equal(other.eval()(X).numpy(), model(X).numpy())

    headless = build(VANConfig.from_dict({**CONFIG.to_dict(), "num_classes": 0}))
    before = headless.norm1.weight.numpy()
    with pytest.raises(CheckpointError, match=r"2 unexpected: head\.weight, head\.bias"):
        load_weights(headless, path)
    assert np.array_equal(headless.norm1.weight.numpy(), before), "a refused file must change nothing"
    assert load_weights(headless, path, strict=False) == ([], ["head.weight", "head.bias"])

    wider = build(VANConfig.from_dict({**CONFIG.to_dict(), "num_classes": 6}))
    for strict in (True, False):
        with pytest.raises(CheckpointError, match=r"head\.weight is \(5, 12\) in the file but \(6, 12\) in the model"):
            load_weights(wider, path, strict=strict)
    with pytest.raises(CheckpointError, match=r"and \d+ more"):
        load_weights(build(variant_config("van_b0")), path)


def test_a_new_head_has_no_class_names(saved):
    _, path = saved
    model = create_model(weights=path)
    assert model.metadata.labels == tuple("abcde")
    model.reset_classifier(3)
    assert (model.metadata.labels, model.metadata.config.num_classes) == (None, 3)
    assert create_model(weights=path, drop_head=True).metadata.labels is None
    assert create_model("van_b0", features_only=True).metadata.config.num_classes == 0
    with pytest.raises(ValueError, match="no head"):
        create_model("van_b0", features_only=True).reset_classifier(3)


def test_load_weights_refuses_what_shapes_do_not_show_and_takes_the_files_metadata(saved):
    _, path = saved
    other = create_model("van_b0", **{**_fields(CONFIG), "norm_eps": 1e-6}, num_classes=5)
    for strict in (True, False):
        with pytest.raises(CheckpointError, match="made with norm_eps 1e-05, but the model has norm_eps 1e-06"):
            load_weights(other, path, strict=strict)
    same = create_model("van_b0", **_fields(CONFIG), num_classes=5)
    load_weights(same, path)
    assert same.pretrained_cfg["mean"] == (0.4, 0.5, 0.6)
    assert same.metadata.labels == tuple("abcde")


@pytest.mark.parametrize("suffix", [".pkl", ".npz"])
def test_a_file_that_jittor_saved_leaves_open_what_it_does_not_say(tmp_path, suffix):
    model = build(CONFIG)
    path = tmp_path / f"own{suffix}"
    tensors = {name: p.numpy() for name, p in model.state_dict().items()}
    jt.save(tensors, str(path)) if suffix == ".pkl" else np.savez(path, **tensors)
    changes = {"stem_stride": 2, "kernel_size": 14, "norm_eps": 1e-5}
    again = create_model(weights=path, **changes).eval()
    assert np.array_equal(again(X).numpy(), model.eval()(X).numpy()) and again.metadata.config == CONFIG
    other = build(CONFIG)
    other.metadata = Metadata(config=CONFIG, preprocessing=PREPROCESSING)
    assert load_weights(other, path) == ([], []) and other.metadata.config == CONFIG
    with pytest.raises(CheckpointError, match="conv_spatial"):
        create_model(weights=path, kernel_size=21)
    with pytest.raises(ValueError, match="dilation"):
        create_model(weights=path, dilation=2)


def _fields(config):
    return {k: v for k, v in config.to_dict().items() if k not in ("num_classes", "in_chans")}


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"in_chans": 0}, ValueError, "in_chans is 0"),
        ({"features_only": True, "num_classes": 5}, ValueError, "maps, not logits"),
        ({"foo": 1}, TypeError, "no argument 'foo'"),
        ({"arch": "van_b9"}, ValueError, "unknown architecture 'van_b9'"),
        ({"drop_path_rate": -0.1}, ValueError, "drop_path_rate is -0.1"),
        ({"drop_rate": 2}, ValueError, "drop_rate is 2"),
        ({"features_only": True, "out_indices": (0, 1.5)}, ValueError, "out_indices"),
    ],
    ids=str,
)
def test_arguments_that_make_no_sense(saved, arguments, error, message):
    with pytest.raises(error, match=message):
        create_model(weights=saved[1], **arguments)


def test_arguments_that_mean_the_same_are_the_same(saved):
    _, path = saved
    model = create_model(
        weights=path, lka_parts=["dw", "dw_d", "pw"], num_classes=np.int64(5), kernel_size=None, stem_stride=np.int32(2)
    )
    assert model.metadata.config == CONFIG
    assert create_model("van_b0", embed_dims=[32, 64, 160, 256]).metadata.config.arch == "van_b0"
    with pytest.raises(ValueError, match="leave it out"):
        create_model("van_b0", drop_head=True)


def test_what_a_user_should_know_of_a_file_is_warned_of():
    path = GOLDEN / "official_tiny_ema.pth.tar"
    with pytest.warns(UserWarning, match=r"ema.pth.tar: averaged weights lie in the file") as caught:
        model = create_model(weights=path)
    assert len(caught) == 1 and caught[0].filename == __file__
    with pytest.warns(UserWarning, match=r"ema.pth.tar: averaged weights lie in the file") as caught:
        load_weights(model, path)
    assert len(caught) == 1 and caught[0].filename == __file__
