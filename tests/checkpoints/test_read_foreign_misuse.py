"""Objects of classes that jvan knows nothing of, where a file would have more of them than that they lie there."""

from __future__ import annotations

import pytest

from jvan.checkpoints.pickles.foreign_names import MAX_NAMES
from jvan.checkpoints.pickles.tree import tensors_in
from jvan.checkpoints.reader import open_checkpoint
from jvan.checkpoints.training_facts import prepared
from jvan.errors import CheckpointError
from jvan.preprocessing import Preprocessing

from .crafted import (
    bounded,
    name,
    number,
    numbers,
    numpy_array,
    pickled,
    read,
    refused,
    state,
    text,
    torch_tensor,
    torch_zip,
)
from .test_read_foreign_classes import CONFIG, SCRIPT, tree_of
from .test_read_unsafe_pickles import SAFE, carriers, stack_name


@pytest.mark.parametrize("kind", [CONFIG, SCRIPT])
def test_a_made_one_takes_everything_and_is_opaque(kind, tmp_path):
    made = kind + b"(" + number(1) + b"t" + state(lr=number(2)) + b"\x92q\x09"
    filled = made + text("k") + b"h\x09s" + b"(" + text("v") + b"h\x09e" + state(deep=b"h\x09") + b"b"
    found = tree_of(tmp_path, filled)
    assert found.args == (1, {"lr": 2}) and found.items == [("k", found), "v", found]
    assert found.foreign and found.state["deep"] is found


@pytest.mark.parametrize(
    "use, words",
    [
        (CONFIG + b")\x81)R", 'needs something to call and has an object of "yacs.config.CfgNode"'),
        (CONFIG + b")\x81)\x81", "needs something to call"),
        (CONFIG + b")\x81)}\x92", "needs something to call"),
        (name("functools", "partial") + b"(" + CONFIG + b"tR)R", 'has an object of "functools.partial"'),
        (CONFIG + b"]R", "calls something that is no global"),
        (CONFIG + b"}b", "needs an object that was made"),
        (CONFIG + b"Na", "appends to something that is no list"),
        (CONFIG + b"NNs", "sets items of something that is no dictionary"),
        (b"(" + CONFIG + b"o", 'refuses the pickle global "yacs.config.CfgNode"'),
        (b"(iyacs.config\nCfgNode\n", 'refuses the pickle global "yacs.config.CfgNode"'),
        (torch_tensor(storage=CONFIG), 'needs a storage and has an object of "yacs.config.CfgNode"'),
        (torch_tensor(storage=CONFIG + b")\x81"), 'needs a storage and has an object of "yacs.config.CfgNode"'),
        (b"(" + text("storage") + CONFIG + text("0") + text("cpu") + number(2) + b"tQ", "needs a class of storages"),
        (name("torch.nn.parameter", "Parameter") + b"(" + CONFIG + b")\x81tR", "needs a tensor and has an object of"),
        (name("torch._tensor", "_rebuild_from_type_v2") + b"(" + CONFIG + CONFIG + b")}tR", "of torch's own class"),
        (name("numpy.core.multiarray", "_reconstruct") + b"(" + CONFIG + b")C\x01btR", "needs numpy.ndarray"),
        (name("numpy.core.multiarray", "scalar") + b"(" + CONFIG + b"C\x01btR", "needs a numpy dtype"),
        (name("collections", "OrderedDict") + b"(" + CONFIG + b")\x81tR", "needs a dictionary and has an object of"),
    ],
)
def test_a_stand_in_is_not_taken_for_what_is_needed(use, words, tmp_path):
    refused(torch_zip(tmp_path / "x.pth", state(w=SAFE, extra=use)), words)


def nests(owner: bytes, attribute: bytes) -> bytes:
    return name("builtins", "getattr") + b"(" + owner + attribute + b"tR"


def test_a_nested_name_is_a_plain_one(tmp_path):
    assert tree_of(tmp_path, nests(SCRIPT, text("Inner"))).name == "__main__.Config.Inner"
    made = tree_of(tmp_path, nests(SCRIPT, text("Inner")) + b")\x81}b")
    assert made.name == "__main__.Config.Inner" and made.foreign
    for bad in (
        nests(SCRIPT, text("_inner")),
        nests(SCRIPT, text("__class__")),
        nests(SCRIPT, text("a.b")),
        nests(SCRIPT, text("")),
        nests(SCRIPT, number(1)),
        nests(SCRIPT, SCRIPT),
        nests(SCRIPT + b")\x81", text("Inner")),
        nests(nests(SCRIPT, text("Inner")), text("Inner")),
        nests(name("argparse", "Namespace"), text("Inner")),
        nests(name("torch.nn", "Module"), text("load")),
        nests(b"}", text("Inner")),
        nests(SCRIPT, text("Inner") + b"N"),
    ):
        for path in carriers(tmp_path, state(state_dict=state(w=SAFE), log=bad)):
            refused(path, 'refuses the pickle global "builtins.getattr"')


def test_bombs_inside_objects_that_nobody_looks_into(tmp_path):
    deep = CONFIG + b"q\x000" + b"h\x00)\x81" * 100_000 + b"b" * 99_999
    laughs = CONFIG + b")\x81](" + text("ha") * 10 + b"eq\x000" + (b"](" + b"h\x00" * 10 + b"eq\x000") * 60 + b"h\x00b"
    with bounded():
        assert tree_of(tmp_path, deep).foreign
        assert tree_of(tmp_path, laughs).foreign


def test_only_so_many_names(tmp_path):
    names = b"".join(f"cpkg\nName{i}\n0".encode() for i in range(MAX_NAMES))
    assert list(read(torch_zip(tmp_path / "x.pth", names + state(w=SAFE)))) == ["w"]
    refused(
        torch_zip(tmp_path / "x.pth", names + name("pkg", "More") + b"0" + state(w=SAFE)), '"pkg.More"; a state dict'
    )
    nested = b"".join(nests(SCRIPT, text(f"Name{i}")) + b"0" for i in range(MAX_NAMES))
    refused(torch_zip(tmp_path / "x.pth", nested + state(w=SAFE)), "refuses the pickle global")


def test_one_name_in_two_spellings_is_refused_once_one_is(tmp_path):
    both = stack_name("pkg.Sub", "Name") + b"0" + stack_name("pkg", "Sub.name") + b"0"
    path = torch_zip(tmp_path / "x.pth", both + stack_name("pkg.Sub", "name") + b"0" + state(w=SAFE))
    with open_checkpoint(path, list_refused=True) as checkpoint:
        assert checkpoint.refused == ["pkg.Sub.name"]


def test_object_arrays_stay_refused(tmp_path):
    (tmp_path / "x.pkl").write_bytes(pickled(state(w=numpy_array(code="O8", data=b"\0" * 8))))
    refused(tmp_path / "x.pkl", "array of Python objects")


@pytest.mark.parametrize("module", ["__main__", "models.van"])
def test_a_whole_network_says_what_to_save(module, tmp_path):
    whole = name(module, "VAN") + b")\x81" + state(_parameters=state(w=SAFE)) + b"b"
    for body in (whole, state(model=whole, epoch=number(1)), state(state_dict=whole)):
        refused(torch_zip(tmp_path / "x.pth", body), "save model.state_dict()")
        with pytest.raises(CheckpointError, match=rf'an object of "{module}\.VAN"'):
            read(tmp_path / "x.pth")


def test_getattr_is_refused_unless_it_is_used_for_a_nested_class(tmp_path):
    """Protocol 2 names it before the class, so that the verdict waits."""
    good = state(state_dict=state(w=SAFE), extra=nests(SCRIPT, text("Inner")))
    for path in carriers(tmp_path, good):
        assert list(read(path)) == ["w"]
        with open_checkpoint(path, list_refused=True) as checkpoint:
            assert checkpoint.refused == []
    unused = state(state_dict=state(w=SAFE), extra=name("builtins", "getattr"), other=SCRIPT)
    for path in carriers(tmp_path, unused):
        refused(path, 'refuses the pickle global "builtins.getattr"')
        with open_checkpoint(path, list_refused=True) as checkpoint:
            assert checkpoint.refused == ["builtins.getattr"]


def test_nothing_inside_an_opaque_object_is_met(tmp_path):
    """Neither its tensors, nor an array that was never filled in, nor the settings that it claims."""
    blank = name("numpy.core.multiarray", "_reconstruct") + b"(" + name("numpy", "ndarray") + b"(K\x00tC\x01btR"
    inside = state(input_size=numbers((3, 32, 32)), w=SAFE, blank=blank, state_dict=state(v=SAFE))
    made = CONFIG + b")\x81" + inside + b"b"
    body = state(state_dict=state(w=SAFE), args=made, model_ema=made, ema=made)
    with open_checkpoint(torch_zip(tmp_path / "x.pth", body)) as checkpoint:
        assert list(checkpoint.tensors()) == ["w"]
        assert not checkpoint.weights().notes
        assert [tensor.shape for tensor in tensors_in(checkpoint.tree)] == [(2,)]
        with pytest.raises(CheckpointError, match="no averaged weights"):
            checkpoint.weights(ema=True)
        levels = checkpoint.weights().levels
    assert prepared(levels, Preprocessing()) == (Preprocessing(), [])
