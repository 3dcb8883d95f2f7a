"""State dicts inside wrappers, and folders of one file or of shards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jvan.checkpoints.reader import open_checkpoint, read_checkpoint
from jvan.errors import CheckpointError

from .crafted import (
    ARRAY,
    ROW,
    V,
    W,
    bounded,
    name,
    number,
    read,
    refused,
    safetensors,
    state,
    text,
    torch_tensor,
    torch_zip,
)


def tensor_names(path, **options) -> list[str]:
    return list(read_checkpoint(path, **options))


@pytest.mark.parametrize(
    "body, plain, averaged",
    [
        (W, "w", None),
        (state(state_dict=W, epoch=number(3)), "w", None),
        (state(model=W, meta=state(epoch=number(3)), optimizer=state(m=torch_tensor())), "w", None),
        (state(state_dict=state(model=W)), "w", None),
        (state(state_dict=W, state_dict_ema=V), "w", "v"),
        (state(model=W, model_ema=V), "w", "v"),
        (state(model=W, ema=state(state_dict=V)), "w", "v"),
        (state(checkpoint=number(1), state_dict=state(model=W, model_ema=V)), "w", "v"),
        # mmengine keeps the averaged weights under state_dict, and the others under ema_state_dict
        (state(state_dict=W, ema_state_dict=V, message_hub=b"}"), "w", "w"),
        (state(state_dict=W, ema_state_dict=V, meta=state(mmengine_version=text("0.10"))), "w", "w"),
        (state(state_dict=W, ema_state_dict=V, epoch=number(3)), "w", "v"),
        (state(state_dict=W, model=text("van_b0")), "w", None),
        (state(net=W, acc=number(91)), "w", None),
        (state(net=W, optimizer=state(state=state(m=torch_tensor()), lr=number(1))), "w", None),
        (state(state_dict=W, model=b"}"), "w", None),
        (state(state_dict=W + b"q\x70", model=b"h\x70"), "w", None),
        (name("collections", "OrderedDict") + b")R(" + text("w") + torch_tensor() + b"u", "w", None),
    ],
)
def test_wrappers_are_peeled(body, plain, averaged, tmp_path):
    path = torch_zip(tmp_path / "x.pth", body)
    assert tensor_names(path) == [plain]
    if averaged:
        assert tensor_names(path, ema=True) == [averaged]
    else:
        with pytest.raises(CheckpointError, match="holds no averaged weights"):
            read_checkpoint(path, ema=True)


@pytest.mark.parametrize(
    "body, words",
    [
        (state(state_dict=W, model=V), 'holds several state dicts ("state_dict", "model")'),
        (state(state_dict_ema=W), "averaged weights alone"),
        (state(w=torch_tensor(), epoch=number(3)), 'mixes tensors with other entries ("epoch")'),
        (state(state_dict=state(w=torch_tensor(), n=b"N")), 'mixes tensors with other entries ("n")'),
        (state(net=W, ours=V), 'holds several state dicts ("net", "ours"); choose one with entry (--entry)'),
        (state(net=state(w=torch_tensor(), n=b"N")), 'holds no state dict (its entries: "net")'),
        (state(epoch=number(3)), 'holds no state dict (its entries: "epoch")'),
        (b"}", "holds no state dict (it is empty)"),
        (b"]", "holds a list of 0 where"),
        (torch_tensor(), "holds a tensor of float32, 2 where"),
        (b"N", "holds nothing where"),
        (name("argparse", "Namespace") + b")\x81", 'an object of "argparse.Namespace"'),
        (b"}" + number(1) + torch_tensor() + b"s", 'something that is no text ("1")'),
        (b"}(" + text("1") + torch_tensor() + number(1) + torch_tensor() + b"u", 'something that is no text ("1")'),
        (b"}C\x01w" + torch_tensor() + b"s", "something that is no text"),
        (state(model=state(model=state(model=state(model=state(model=state(model=W)))))), "wrappers deep"),
    ],
)
def test_trees_without_one_clear_state_dict(body, words, tmp_path):
    refused(torch_zip(tmp_path / "x.pth", body), words)


def test_an_entry_is_named(tmp_path):
    path = torch_zip(tmp_path / "x.pth", state(net=W, ours=state(model=V, model_ema=W), state_dict=W))
    with open_checkpoint(path) as checkpoint:
        assert list(checkpoint.tensors(entry="ours")) == ["v"]
        assert list(checkpoint.tensors(ema=True, entry="ours")) == ["w"]
        with pytest.raises(CheckpointError, match=r'no entry "nets" \(--entry\); its entries: "net", "ours", "state'):
            checkpoint.tensors(entry="nets")
        assert [len(level) for level in checkpoint.weights(entry="ours").levels] == [3, 2]


def test_what_is_not_taken_and_what_was_found_is_mentioned(tmp_path):
    path = torch_zip(tmp_path / "x.pth", state(state_dict=W, state_dict_ema=V))
    with open_checkpoint(path) as checkpoint:
        (note,) = checkpoint.weights().notes
        assert '("state_dict_ema")' in note and "convert --ema` takes them" in note
        assert not checkpoint.weights(ema=True).notes
    with open_checkpoint(torch_zip(tmp_path / "y.pth", state(net=W, acc=number(1)))) as checkpoint:
        assert '"net"' in checkpoint.weights().notes[0]


# Folders


def folder(root: Path, index=None, **files) -> Path:
    root.mkdir(exist_ok=True)
    (root / "config.json").write_text(json.dumps({"model_type": "van", "num_labels": 3}))
    for key, names in files.items():
        header = {n: {**ROW, "data_offsets": [8 * i, 8 * i + 8]} for i, n in enumerate(names)}
        safetensors(root / f"{key}.safetensors", header, ARRAY * len(names))
    if index is not None:
        (root / "model.safetensors.index.json").write_text(index if isinstance(index, str) else json.dumps(index))
    return root


def shards(**names) -> dict:
    return {"metadata": {}, "weight_map": names}


def test_a_folder_of_one_file(tmp_path):
    path = folder(tmp_path / "hf", model=["a", "b"])
    with open_checkpoint(path) as checkpoint:
        assert sorted(checkpoint.tensors()) == ["a", "b"] and checkpoint.config["num_labels"] == 3
        assert checkpoint.files == [path / "model.safetensors"] and checkpoint.format == "safetensors"


def test_a_folder_of_shards(tmp_path):
    path = folder(tmp_path / "hf", shards(a="one.safetensors", b="two.safetensors"), one=["a"], two=["b"])
    assert sorted(read(path)) == ["a", "b"]
    assert len(open_checkpoint(path).files) == 2


def test_a_folder_of_pytorch_shards(tmp_path):
    torch_zip(tmp_path / "one.bin", W)
    torch_zip(tmp_path / "two.bin", V)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(shards(w="one.bin", v="two.bin")))
    assert sorted(read(tmp_path)) == ["v", "w"]


@pytest.mark.parametrize(
    "index, words",
    [
        (shards(a="../one.safetensors"), "outside its folder"),
        (shards(a="/etc/passwd"), "outside its folder"),
        (shards(a="sub/one.safetensors"), "outside its folder"),
        (shards(a=".."), "outside its folder"),
        (shards(a=""), "outside its folder"),
        (shards(a="one\0.safetensors"), "outside its folder"),
        (shards(a="one.safetensors", b="three.safetensors"), '"three.safetensors", which is missing'),
        (shards(a="one.safetensors", b="again.safetensors"), 'the tensor "a" is in two shards'),
        (shards(a="one.safetensors", c="two.safetensors"), "weight_map"),
        (shards(a=1), "no weight_map"),
        (shards(), "no weight_map"),
        ({}, "no weight_map"),
        ([], "no weight_map"),
        ("{", "is damaged"),
        ('{"weight_map": {"a": "one.safetensors", "a": "two.safetensors"}}', "twice"),
        ("[" * 100_000, "levels deep"),
    ],
)
def test_indexes_that_lie(index, words, tmp_path):
    path = folder(tmp_path / "hf", index, one=["a"], two=["b"], again=["a"])
    with bounded(), pytest.raises(CheckpointError, match=words) as caught:
        read(path)
    assert str(caught.value).startswith(str(path)) and str(caught.value).isprintable()


# Metadata
