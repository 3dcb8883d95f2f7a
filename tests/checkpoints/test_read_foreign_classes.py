"""Configuration objects beside the weights: classes of packages that nobody can list are names, and can do nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import decimal
import enum
import functools
import io
import pickle
import sys
import types
import typing
import uuid

import pytest

from jvan.checkpoints.foreign_names import MAX_NAMES, is_foreign, is_torch_class
from jvan.checkpoints.known_modules import STANDARD
from jvan.checkpoints.metadata import Preprocessing
from jvan.checkpoints.reader import open_checkpoint
from jvan.checkpoints.stand_ins import Inert, Named
from jvan.checkpoints.training_facts import prepared
from jvan.checkpoints.tree import tensors_in
from jvan.errors import CheckpointError

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
from .test_read_unsafe_pickles import SAFE, carriers, stack_name

CONFIG = name("yacs.config", "CfgNode")
SCRIPT = name("__main__", "Config")


class Size(enum.Enum):
    SMALL = 1


@dataclasses.dataclass
class Settings:
    size: Size
    lr: float = 0.1

    class Inner:
        pass


class Wide(dict):
    """As EasyDict and Lightning's AttributeDict: a dict with attributes."""


def tree_of(tmp_path, extra: bytes):
    with open_checkpoint(torch_zip(tmp_path / "x.pth", state(state_dict=state(w=SAFE), extra=extra))) as checkpoint:
        assert not checkpoint.refused and list(checkpoint.tensors()) == ["w"]
        return checkpoint.tree["extra"]


@contextlib.contextmanager
def staged(module: str, kinds):
    """The classes live in a module of this name while Python pickles them."""
    stage = types.ModuleType(module)
    with pytest.MonkeyPatch.context() as patch:
        for kind in kinds:
            patch.setattr(kind, "__module__", module)
            patch.setattr(stage, kind.__name__, kind, raising=False)
        patch.setitem(sys.modules, module, stage)
        yield


def written(module: str, protocol: int) -> tuple[bytes, list]:
    """What Python's own pickle writes of configurations, and the names of the entries."""
    with staged(module, (Size, Settings, Settings.Inner, Wide)):
        wide = Wide(a=Settings(Size.SMALL))
        wide.itself = wide
        values = {
            "size": Size.SMALL,
            "settings": Settings(Size.SMALL),
            "when": datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc),
            "how long": datetime.timedelta(1),
            "id": uuid.UUID(int=7),
            "exact": decimal.Decimal("0.1"),
            "plain": types.SimpleNamespace(a=1),
            "int": int,
            "dictionary": Wide(a=1),
            "typed": typing.Dict[str, int],  # noqa: UP006  OmegaConf keeps such
        }
        if protocol >= 2:
            values.update(wide=wide, by={Size.SMALL: 1, (1, Size.SMALL): 2}, part=functools.partial(Settings, lr=0.5))
            values["nested"] = Settings.Inner
        data = io.BytesIO()
        pickle._Pickler(data, protocol).dump({"model": None, "values": values})
        return data.getvalue(), list(values)


@pytest.mark.parametrize("module", ["easydict", "__main__", "__mp_main__"])
@pytest.mark.parametrize("protocol", range(6))
def test_what_python_writes_of_them_is_read(protocol, module, tmp_path):
    """Every protocol, as from a package and as from a training script."""
    data, names = written(module, protocol)
    (tmp_path / "x.pkl").write_bytes(data)
    with open_checkpoint(tmp_path / "x.pkl") as checkpoint:
        held = checkpoint.tree["values"]
        assert list(held) == names and not checkpoint.refused
        assert type(held["settings"]) is Inert and held["settings"].name == f"{module}.Settings"
        if protocol >= 2:
            assert type(held["nested"]) is Named and held["nested"].name == f"{module}.Settings.Inner"
            assert held["by"] == {}


@pytest.mark.parametrize(
    "module, attribute, verdict",
    [
        ("yacs.config", "CfgNode", True),
        ("my_lib._core.sub", "Config2", True),
        ("pkg", "make_config", True),
        ("pkg", "Outer.Inner", True),
        ("__main__", "Config", True),
        ("__mp_main__", "Config", True),
        ("pkg", "outer.Inner", False),
        ("pkg", "Outer.inner", False),
        ("pkg", "A.B.C", False),
        ("pkg", "_private", False),
        ("pkg", "__class__", False),
        ("pkg", "Outer._Inner", False),
        ("pkg.__init__", "X", False),
        ("__pkg__", "X", False),
        ("__main__.__dict__", "X", False),
        ("pkg", "", False),
        ("pkg", "X y", False),
        ("pkg", "X\n", False),
        ("pkg", "X.", False),
        ("pkg\n", "X", False),
        ("", "X", False),
        (".", "X", False),
        ("pkg.", "X", False),
        ("pkg..sub", "X", False),
        ("1pkg", "X", False),
        ("p\u0430kg", "X", False),
        ("pkg", "\u0421onfig", False),
        ("os.path", "join", False),
        ("xml.etree.ElementTree", "Element", False),
        ("multiprocessing.pool", "Pool", False),
        ("torch.utils.data", "DataLoader", False),
        ("torch._C", "X", False),
        ("numpy.random._pickle", "RandomState", False),
        ("jittor_utils", "X", False),
        ("jvan", "Predictor", False),
        ("test.support", "X", False),
    ],
)
def test_whose_names_are_foreign(module, attribute, verdict, tmp_path):
    assert is_foreign(module, attribute) is verdict
    use = stack_name(module, attribute) + b"(" + text("touch canary") + b"tR"
    for path in carriers(tmp_path, state(state_dict=state(w=SAFE), extra=use)):
        if verdict:
            assert list(read(path)) == ["w"]
        else:
            refused(path, "refuses the pickle global")


def test_the_list_of_the_standard_library_is_whole():
    """Python 3.9 can name its built-in modules alone; later ones name all."""
    names = set(getattr(sys, "stdlib_module_names", ())) | set(sys.builtin_module_names)
    assert {n for n in names if not n.startswith(("_test", "__main__", "_xx"))} <= STANDARD
    assert not STANDARD & {"__main__", "__mp_main__", "yacs", "omegaconf"}


def test_classes_of_torch_may_be_named_and_not_made(tmp_path):
    norm = name("torch.nn.modules.normalization", "LayerNorm")
    part = name("functools", "partial") + b"(" + norm + b"tR(" + norm + b"(t" + state(eps=number(1)) + b"Ntb"
    assert tree_of(tmp_path, part).state[2] == {"eps": 1}
    old = name("copyreg", "_reconstructor") + b"(" + norm + name("builtins", "object") + b"NtR"
    for made in (norm + b")\x81", norm + b")R", norm + b")}\x92", old):
        words = 'a whole object of "torch.nn.modules.normalization.LayerNorm", not its weights; save model.state_dict()'
        refused(torch_zip(tmp_path / "x.pth", state(w=SAFE, model=made)), words)
    assert is_torch_class("torch.optim.adamw.AdamW") and is_torch_class("torch.optim._multi_tensor.AdamW")
    for other in (
        "torch.nn.functional.gelu",
        "torch.nn.Module.load",
        "torch.nn.X.Y",
        "torch.nnx.Y",
        "torch.nn.__x.Y",
        "torch.nn._X",
    ):
        assert not is_torch_class(other)


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
