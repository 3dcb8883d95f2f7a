"""Sparse, quantised, meta and nested tensors: they may lie beside the weights; among them the line says their kind."""

from __future__ import annotations

import pytest

from jvan.checkpoints.pickles.stand_ins import OtherTensor
from jvan.checkpoints.reader import open_checkpoint

from .crafted import name, number, numbers, read, refused, state, text, torch_storage, torch_tensor, torch_zip

SAFE = torch_tensor()


def rebuilt(function: str, *parts: bytes) -> bytes:
    return name("torch._utils", function) + b"(" + b"".join(parts) + b"tR"


LAYOUT = name("torch.serialization", "_get_layout") + b"(" + text("torch.sparse_coo") + b"tR"
INDICES = name("torch", "per_tensor_affine")
KINDS = {
    "sparse": rebuilt("_rebuild_sparse_tensor", LAYOUT, b"(" + SAFE + SAFE + numbers((2,)) + b"t"),
    "quantised": rebuilt(
        "_rebuild_qtensor",
        torch_storage("1", 2, "QInt8Storage") + number(0) + numbers((2,)) + numbers((1,)),
        b"(" + INDICES + number(1) + number(0) + b"t" + b"\x89}",
    ),
    "meta": rebuilt(
        "_rebuild_meta_tensor_no_storage", name("torch", "float32") + numbers((2,)) + numbers((1,)) + b"\x89"
    ),
    "nested": rebuilt("_rebuild_nested_tensor", SAFE, SAFE, SAFE, SAFE),
}
STORAGES = {"0": b"\0\0\x80?\0\0\0@", "1": b"\1\2"}


def written(path, body: bytes, kind: str):
    held = {"0": STORAGES["0"]} if kind != "quantised" else STORAGES
    return torch_zip(path, body, held)


@pytest.mark.parametrize("kind", KINDS)
def test_beside_the_weights_they_are_left(kind, tmp_path):
    path = written(tmp_path / "x.pth", state(model=state(w=SAFE), mask=KINDS[kind]), kind)
    assert list(read(path)) == ["w"]
    with open_checkpoint(path) as checkpoint:
        assert type(checkpoint.tree["mask"]) is OtherTensor and checkpoint.tree["mask"].kind == kind


@pytest.mark.parametrize("kind", KINDS)
def test_among_the_weights_their_kind_is_said(kind, tmp_path):
    wrapped = name("torch._utils", "_rebuild_parameter") + b"(" + KINDS[kind] + b"\x89}tR"
    for held in (KINDS[kind], wrapped):
        alone, mixed = state(mask=held), state(w=SAFE, mask=held)
        for body in (alone, mixed, state(state_dict=mixed), state(model=alone, epoch=number(1))):
            refused(written(tmp_path / "x.pth", body, kind), f'holds a {kind} tensor ("mask") among the weights; ')
