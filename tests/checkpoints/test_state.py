"""load_state on files that the original projects' code wrote, and on broken ones."""

from __future__ import annotations

import hashlib
import json
import pickle
import random
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import jvan.checkpoints.state as state_module
from jvan.checkpoints.published.catalogue import catalogue
from jvan.checkpoints.state import identify, load_state
from jvan.errors import CheckpointError
from jvan.variants import VANConfig
from weights_convert.random_state import TINY, official_shapes, random_state

from .recorded_names import ARCHS, recorded
from .recorded_names import official_shapes as recorded_shapes
from .tiny_states import CONFIG, GOLDEN, METADATA, assert_same, golden_tensors, random_tensors

FILES = [  # file, recipe of its numbers, origin, LayerNorm eps, what is dropped
    ("official_tiny.pth.tar", "official_tiny", "official", 1e-6, 14),
    ("official_tiny_legacy.pth.tar", "official_tiny", "official", 1e-6, 14),
    ("official_tiny_module.pth.tar", "official_tiny", "official", 1e-6, 14),
    ("mmpretrain_tiny.pth", "official_tiny", "mmpretrain", 1e-6, 14),
    ("mmengine_tiny.pth", "official_tiny", "mmpretrain", 1e-6, 14),
    ("mmseg_tiny.pth", "mmseg_tiny", "mmseg", 1e-5, 25),
    ("hf_tiny", "hf_tiny", "huggingface", 1e-6, 16),
    ("hf_tiny_bin", "hf_tiny", "huggingface", 1e-6, 16),
    ("hf_tiny_sharded", "hf_tiny", "huggingface", 1e-6, 16),
]


@pytest.mark.parametrize("file, recipe, origin, eps, dropped", FILES)
def test_files_of_the_original_projects(file, recipe, origin, eps, dropped):
    state = load_state(GOLDEN / file)
    assert_same(state.tensors, golden_tensors(recipe))
    assert list(state.tensors) == [n for n in official_shapes(**TINY) if n in state.tensors]  # the official order
    classes = 0 if origin == "mmseg" else 7
    assert state.metadata.config == VANConfig(**{**TINY, "num_classes": classes}, norm_eps=eps)
    assert state.origin == state.metadata.origin == origin
    # the recorded file names two classes for its head of seven
    assert len(state.notes) == (file == "mmpretrain_tiny.pth") and all("meta.CLASSES" in note for note in state.notes)
    assert sum(state.dropped.values()) == dropped
    assert state.metadata.preprocessing.mean == ((0.485, 0.456, 0.406) if origin == "mmseg" else (0.5, 0.5, 0.5))
    assert state.metadata.labels is None


def test_averaged_weights():
    state = load_state(GOLDEN / "official_tiny_ema.pth.tar", ema=True)
    wanted = {**golden_tensors("official_tiny"), **random_state(official_shapes(**TINY), 1)}
    assert_same(state.tensors, wanted)
    assert_same(load_state(GOLDEN / "official_tiny_ema.pth.tar").tensors, golden_tensors("official_tiny"))
    with pytest.raises(CheckpointError, match="averaged"):
        load_state(GOLDEN / "official_tiny.pth.tar", ema=True)


def to_bfloat16(array: np.ndarray) -> np.ndarray:
    """Round to nearest even, as PyTorch does; the numbers here are finite."""
    bits = array.view(np.uint32).astype(np.uint64)
    return (((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) << 16).astype(np.uint32).view(np.float32)


def test_half_precision_becomes_single_exactly():
    whole = golden_tensors("official_tiny")
    halved = {name: array.astype(np.float16).astype(np.float32) for name, array in whole.items()}
    assert_same(load_state(GOLDEN / "official_tiny_float16.pth").tensors, halved)
    brain = {name: to_bfloat16(array) for name, array in whole.items()}
    assert_same(load_state(GOLDEN / "official_tiny_bfloat16.pth").tensors, brain)


def test_half_precision_is_kept_on_demand():
    halved = {name: array.astype(np.float16) for name, array in golden_tensors("official_tiny").items()}
    assert_same(load_state(GOLDEN / "official_tiny_float16.pth", dtype="keep").tensors, halved)
    with pytest.raises(CheckpointError, match="bfloat16 cannot be kept"):
        load_state(GOLDEN / "official_tiny_bfloat16.pth", dtype="keep")


def test_provenance():
    file = GOLDEN / "official_tiny.pth.tar"
    metadata = load_state(file).metadata
    assert metadata.source == file.name
    assert metadata.source_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    shards = sorted((GOLDEN / "hf_tiny_sharded").glob("*.safetensors"))
    sums = "".join(f"{hashlib.sha256(shard.read_bytes()).hexdigest()}  {shard.name}\n" for shard in shards)
    metadata = load_state(GOLDEN / "hf_tiny_sharded").metadata
    assert metadata.source_sha256 == hashlib.sha256(sums.encode()).hexdigest()
    assert metadata.source == f"hf_tiny_sharded/{shards[0].name}"


@pytest.fixture
def write(tmp_path):
    """Write tensors with safetensors' own library, with changes; returns the path."""

    def written(changes=None, gone=(), tensors=None, **metadata):
        tensors = {**(random_tensors() if tensors is None else tensors), **(changes or {})}
        path = tmp_path / "weights.safetensors"
        save_file(
            {n: np.ascontiguousarray(a) for n, a in tensors.items() if n not in gone}, path, metadata=metadata or None
        )
        return path

    return written


@pytest.mark.parametrize("axes", [(-1, 1, 1), (1, -1, 1, 1)])
def test_layer_scales_with_the_axes_they_are_broadcast_along(write, axes):
    tensors = random_tensors()
    scales = {name: array.reshape(axes) for name, array in tensors.items() if "layer_scale" in name}
    assert len(scales) == 10
    assert_same(load_state(write(scales)).tensors, tensors)


@pytest.mark.parametrize("shape", [(4, 1), (1, 4), (1, 1, 4), (2, 4, 1, 1), (1, 1, 4, 1), (4, 1, 1, 1)])
def test_other_layer_scales_raise(write, shape):
    scale = np.ones(shape, np.float32)
    with pytest.raises(CheckpointError, match=r"1 misshapen: block1\.0\.layer_scale_1"):
        load_state(write({"block1.0.layer_scale_1": scale}))


def test_double_precision(write):
    doubles = random_tensors("float64")
    singles = {name: array.astype(np.float32) for name, array in doubles.items()}
    assert_same(load_state(write(tensors=doubles)).tensors, singles)
    assert_same(load_state(write(tensors=doubles), dtype="keep").tensors, doubles)
    doubles["norm1.bias"][1] = 1e39
    with pytest.raises(CheckpointError, match=r"norm1\.bias holds numbers beyond float32"):
        load_state(write(tensors=doubles))
    assert_same(load_state(write(tensors=doubles), dtype="keep").tensors, doubles)


def test_integers_are_no_weights(write):
    with pytest.raises(CheckpointError, match=r"floating-point numbers: norm2\.bias \(int8\)"):
        load_state(write({"norm2.bias": np.zeros(8, np.int8)}))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_said(write, value):
    bias = np.array([0, value, value, 1], np.float32)
    state = load_state(write({"norm1.bias": bias}))
    assert_same({"b": state.tensors["norm1.bias"]}, {"b": bias})
    assert "2 numbers in 1 tensors are NaN or infinite: norm1.bias" in state.notes[0]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"changes": {"extra.weight": np.zeros(3, np.float32)}}, r"1 of 165 names are not official.*: extra\.weight"),
        ({"gone": ("norm1.bias", "head.bias")}, r"2 missing: norm1\.bias, head\.bias"),
        ({"changes": {"norm1.bias": np.zeros(5, np.float32)}}, r"1 misshapen: norm1\.bias \(5,\) instead of \(4,\)"),
        ({"changes": {"module.norm1.bias": np.zeros(4, np.float32)}}, "collide"),
        ({"tensors": {"fc.weight": np.zeros(4, np.float32)}}, "no VAN's names: fc.weight"),
    ],
)
def test_what_does_not_fit_is_listed(write, options, message):
    with pytest.raises(CheckpointError, match=message):
        load_state(write(**options))


def test_the_head(write):
    whole = write()
    assert load_state(whole, num_classes=7).metadata.config.num_classes == 7
    with pytest.raises(
        CheckpointError, match=r"num_classes 10 was asked for, but the file has a head of 7 classes.*--drop-head"
    ):
        load_state(whole, num_classes=10)
    state = load_state(whole, drop_head=True)
    assert state.metadata.config.num_classes == 0 and not any(name.startswith("head.") for name in state.tensors)
    assert state.dropped == {"head: as asked": 2}
    headless = write(gone=("head.weight", "head.bias"))
    with pytest.raises(CheckpointError, match="num_classes 7 was asked for, but the file has no head"):
        load_state(headless, num_classes=7)
    assert "taken for a segmentation backbone" in load_state(headless).notes[0]
    state = load_state(headless, origin="official")
    assert state.metadata.config.norm_eps == 1e-6 and not state.notes


def test_arch_and_eps():
    file = GOLDEN / "official_tiny.pth.tar"
    with pytest.raises(
        CheckpointError, match=r"arch \(--arch\) says van_b0, but the tensors are those of a custom VAN"
    ):
        load_state(file, arch="van_b0")
    assert load_state(file, norm_eps=1e-5).metadata.config.norm_eps == 1e-5


def test_metadata_in_the_file_come_first(write):
    path = write(jvan=METADATA.to_json())
    assert load_state(path).metadata == METADATA
    assert load_state(path, norm_eps=1e-3).metadata == replace(METADATA, config=replace(METADATA.config, norm_eps=1e-3))
    dropped = load_state(path, drop_head=True).metadata
    assert dropped.labels is None and dropped.config == replace(METADATA.config, num_classes=0)


def test_metadata_of_another_file_raise(write):
    other = replace(METADATA, config=replace(METADATA.config, depths=(1, 1, 1, 1)))
    with pytest.raises(CheckpointError, match=r"contradict its tensors: depths \(1, 1, 1, 1\) against \(1, 1, 2, 1\)"):
        load_state(write(jvan=other.to_json()))


def test_a_thousand_classes_of_a_classifiers_origin_are_imagenets(write):
    config = replace(CONFIG, num_classes=1000)
    assert load_state(write(tensors=random_tensors(config=config))).metadata.labels == "imagenet-1k"


def test_other_inputs_than_colour(write):
    state = load_state(write(tensors=random_tensors(config=replace(CONFIG, in_chans=5))))
    assert state.metadata.preprocessing.mean == (0.5,) * 5 and "5 channels are not known" in state.notes[0]


@pytest.fixture
def folder(tmp_path):
    """Hugging Face's folder with another config.json."""

    def changed(**changes):
        shutil.copytree(GOLDEN / "hf_tiny", tmp_path / "folder", dirs_exist_ok=True)
        config = tmp_path / "folder" / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))
        return tmp_path / "folder"

    return changed


def test_what_config_json_knows(folder):
    names = {str(number): f"class {number}" for number in range(7)}
    metadata = load_state(folder(layer_norm_eps=1e-4, strides=[2, 2, 2, 2], id2label=names)).metadata
    assert metadata.config.norm_eps == 1e-4 and metadata.config.stem_stride == 2
    assert metadata.labels == tuple(names.values())


def test_a_preprocessor_config_is_not_followed_and_that_is_said(folder):
    place = folder()
    assert not any("preprocessor" in note for note in load_state(place).notes)
    (place / "preprocessor_config.json").write_text("{}")
    assert any("preprocessor_config.json is not read" in note for note in load_state(place).notes)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model_type": "swin"}, "model_type 'swin'"),
        ({"depths": [1, 1, 2, 2]}, r"depths \[1, 1, 2, 2\], but the tensors have \(1, 1, 2, 1\)"),
        ({"num_channels": 1}, "num_channels 1, but the tensors have 3"),
        ({"hidden_act": "relu"}, "hidden_act 'relu'"),
        ({"strides": [4, 2, 2, 1]}, "strides"),
        ({"strides": ["4", 2, 2, 2]}, "impossible value: stem_stride"),
        ({"strides": [1 << 40, 2, 2, 2]}, "impossible value: stem_stride"),
        ({"layer_norm_eps": 2.0}, "impossible value: norm_eps"),
        ({"layer_norm_eps": "x"}, "impossible value: norm_eps"),
        ({"id2label": {"0": "only one"}}, "id2label names 1 classes; the head has 7"),
    ],
)
def test_a_config_json_that_contradicts(folder, changes, message):
    with pytest.raises(CheckpointError, match=message):
        load_state(folder(**changes))


@pytest.mark.parametrize("arch", ARCHS)
def test_identify(arch):
    shapes = recorded_shapes(arch)
    assert identify(shapes) == ("official", arch, None)
    found = {name: tuple(shape) for name, shape in recorded(arch)["huggingface"].items()}
    assert identify(found) == ("huggingface", arch, None)


def test_identify_raises_nothing():
    assert identify({})[0::2] == (None, "the file holds no tensors; a VAN has at least some hundred")
    origin, arch, problem = identify({n: s for n, s in recorded_shapes("van_b0").items() if n != "norm1.bias"})
    assert (origin, arch) == ("official", None) and "1 missing: norm1.bias" in problem
    assert identify({"a": ()})[0] is None


@pytest.mark.parametrize("heads", [[], ["decode_head.cls_seg.weight", "rpn.conv.weight"]])
@pytest.mark.parametrize("entry", ["model", "state_dict"])
def test_files_of_jittors_detection_and_segmentation_libraries(tmp_path, entry, heads):
    """JDet and JSeg save {meta, model, scheduler, optimizer}, jittordet {state_dict, loop, …}, by jittor.save."""
    tensors = {name: array for name, array in random_tensors().items() if not name.startswith("head.")}
    prefix = "backbone." if heads else ""
    model = {
        **{prefix + name: array for name, array in tensors.items()},
        **dict.fromkeys(heads, np.ones(3, np.float32)),
    }
    moments = {"defaults": {"lr": 1e-4, "param_groups": [{"values": [np.zeros(3, np.float32)], "lr": 1e-4}]}}
    data = pickle.dumps({"meta": {"iter": 10, "save_time": "now"}, entry: model, "optimizer": moments}, 4)
    (tmp_path / "ckpt_10.pkl").write_bytes(data + hashlib.sha1(data).digest() + b"HCAJSLHD")
    state = load_state(tmp_path / "ckpt_10.pkl")
    assert_same(state.tensors, tensors)
    assert state.origin == "mmseg" and len(state.dropped) == len(heads)


@pytest.mark.parametrize("call", [{"origin": "timm"}, {"dtype": "float16"}, {"norm_eps": 7}])
def test_arguments_that_mean_nothing(call):
    with pytest.raises(ValueError, match=r"timm|float16|norm_eps"):
        load_state(GOLDEN / "official_tiny.pth.tar", **call)


def test_errors_name_the_file(write):
    path = write(gone=["norm1.bias"])
    with pytest.raises(CheckpointError, match=rf"^{path}: the tensors are not a whole custom VAN"):
        load_state(path)


def test_weights_are_read_one_by_one(write, monkeypatch):
    """The first tensor's array is there before the second is read, and nothing that is dropped is read at all."""
    from jvan.checkpoints.tensor import LazyTensor

    reads = []
    numpy = LazyTensor.numpy
    monkeypatch.setattr(LazyTensor, "numpy", lambda tensor: reads.append(tensor.shape) or numpy(tensor))
    state = load_state(GOLDEN / "mmseg_tiny.pth")
    assert reads == [array.shape for array in state.tensors.values()]


def test_no_warning_for_a_sound_file():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_state(GOLDEN / "official_tiny.pth.tar")


def test_files_are_read_by_the_safetensors_library_too():
    tensors = load_file(GOLDEN / "hf_tiny" / "model.safetensors")
    state = load_state(GOLDEN / "hf_tiny")
    name = "van.encoder.stages.2.layers.1.attention.attention_layer.attention.depth_wise_dilated.weight"
    assert np.array_equal(state.tensors["block3.1.attn.spatial_gating_unit.conv_spatial.weight"], tensors[name])


@pytest.mark.parametrize("name", ["van_b0.in1k", "van_b0.mmseg_in1k"])
def test_the_catalogue_knows_more_than_the_file(write, monkeypatch, name):
    """A downloaded file's facts are its entry's; the file's own metadata would come first."""
    entry = catalogue()[name]
    path = write(tensors=random_tensors(config=replace(CONFIG, num_classes=1000)))
    monkeypatch.setattr(state_module, "resolve_weights", lambda given: path)
    monkeypatch.setattr(state_module, "entry_for", lambda given: entry)
    state = load_state(name)
    assert state.metadata.config.norm_eps == entry.norm_eps and state.metadata.preprocessing == entry.preprocessing
    assert state.metadata.note == entry.note and "the catalogue calls it van_b0; its tensors are custom" in state.notes
    assert state.metadata.labels == "imagenet-1k"
    monkeypatch.setattr(state_module, "entry_for", lambda given: replace(entry, norm_eps=1e-2))
    assert load_state(write(jvan=METADATA.to_json())).metadata == METADATA


def test_identify_survives_nonsense():
    """Random damage to names and shapes ends in a problem that is told, never in another exception."""
    rng = random.Random(0)
    sound = {name: array.shape for name, array in random_tensors().items()}
    told = 0
    for _ in range(400):
        shapes = dict(sound)
        for _ in range(rng.randint(1, 3)):
            name = rng.choice(list(shapes))
            kind = rng.randrange(3)
            if kind == 0:
                del shapes[name]
            elif kind == 1:
                shapes[name] = tuple(rng.choice([0, 1, 2, 7, 2**62]) for _ in range(rng.randint(0, 5)))
            else:
                shapes[name.replace(rng.choice(name), rng.choice(["", "9", ".", "x", "\x00"]), 1)] = shapes.pop(name)
        _, arch, problem = identify(shapes)
        assert (problem is None) == (arch is not None)
        told += problem is not None
    assert told > 350
