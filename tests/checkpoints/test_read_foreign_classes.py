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

from jvan.checkpoints.pickles.foreign_names import is_foreign, is_torch_class
from jvan.checkpoints.pickles.known_modules import STANDARD
from jvan.checkpoints.pickles.stand_ins import Inert, Named
from jvan.checkpoints.reader import open_checkpoint

from .crafted import (
    name,
    number,
    read,
    refused,
    state,
    text,
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


def test_pairs_whose_keys_are_objects_are_left_out_and_counted(tmp_path):
    made = CONFIG + b")\x81"
    layer = name("torch.nn.modules.conv", "Conv2d")  # as a table of layers' settings has
    pairs = b"}(" + made + number(1) + layer + number(2) + text("kept") + number(3) + b"u"
    path = torch_zip(tmp_path / "x.pth", state(state_dict=state(w=SAFE), extra=pairs))
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.tree["extra"] == {"kept": 3} and checkpoint.set_aside == 2
        notes = checkpoint.weights().notes
    assert notes == ["2 dictionary entries whose keys are of a class that is not read: left out"]
    with open_checkpoint(torch_zip(tmp_path / "y.pth", state(w=SAFE))) as checkpoint:
        assert not checkpoint.weights().notes
