"""Pickles that would run code: each names what it asks for, and a canary shows that nothing ran."""

from __future__ import annotations

import os
import pickle

import pytest

from jvan.checkpoints.pickles.allowed import ALLOWED
from jvan.checkpoints.reader import open_checkpoint
from jvan.errors import CheckpointError

from .crafted import (
    name,
    number,
    numpy_array,
    pickled,
    read,
    refused,
    sealed,
    state,
    text,
    torch_legacy,
    torch_tensor,
    torch_zip,
)

TARGETS = [
    ("os", "system"),
    ("posix", "system"),
    ("nt", "system"),
    ("subprocess", "Popen"),
    ("builtins", "eval"),
    ("__builtin__", "exec"),
    ("builtins", "getattr"),
    ("__builtin__", "getattr"),
    ("builtins", "__import__"),
    ("builtins", "open"),
    ("builtins", "compile"),
    ("builtins", "print"),
    ("operator", "attrgetter"),
    ("importlib", "import_module"),
    ("runpy", "run_path"),
    ("pickle", "loads"),
    ("torch", "load"),
    ("torch.hub", "load"),
    ("torch.storage", "_load_from_bytes"),
    ("torch.jit", "load"),
    ("numpy", "load"),
    ("numpy", "fromfile"),
    ("numpy.testing._private.utils", "runstring"),
    ("_codecs", "decode"),
    ("codecs", "open"),
    ("copyreg", "__newobj__"),
    ("types", "CodeType"),
    ("types", "FunctionType"),
    ("collections", "OrderedDict.fromkeys"),
    ("collections", "namedtuple"),
    ("argparse", "ArgumentParser"),
    ("argparse", "_os.system"),
    ("pathlib", "os.system"),
    ("pathlib", "Path.unlink"),
    ("mmengine.logging.history_buffer", "np.load"),
    ("jittor", "Module"),
    ("jvan.convert", "main"),
    ("", "system"),
    ("os\n.system", "x"),
]
SAFE = torch_tensor()


def spoken(module: str, attribute: str) -> str:
    return f'"{module}.{attribute}"'.encode("unicode_escape").decode()


def carriers(folder, body: bytes):
    """The same pickle in every format that has one."""
    yield torch_zip(folder / "zip.pth", body)
    yield torch_legacy(folder / "legacy.pth", body)
    plain = body.replace(SAFE, numpy_array())
    (folder / "plain.pkl").write_bytes(pickled(plain))
    yield folder / "plain.pkl"
    (folder / "sealed.pkl").write_bytes(sealed(pickled(plain)))
    yield folder / "sealed.pkl"


def stack_name(module: str, attribute: str) -> bytes:
    return text(module) + text(attribute) + b"\x93"


def memoized_name(module: str, attribute: str) -> bytes:
    """The two words are memoized far from where they are put together."""
    words = text(module) + b"q\x07" + text(attribute) + b"q\x08"
    return words + b"00" + b"h\x07h\x08\x93"


def uses(target: bytes, argument: bytes):
    """Every way to make use of a global, and two that do not use it at all."""
    one = b"(" + argument + b"t"
    yield "reduce", target + one + b"R"
    yield "newobj", target + one + b"\x81"
    yield "newobj_ex", target + one + b"}\x92"
    yield "named only", target
    yield "popped", target + b"0N"
    yield "popped mark", b"(" + target + b"1N"
    yield "built", target + b"}" + text("command") + argument + b"sb"
    yield "inside a state", name("argparse", "Namespace") + b")\x81" + state(x=target + one + b"R") + b"b"
    yield "factory", name("collections", "defaultdict") + b"(" + target + b"tR"
    yield "reconstructed", name("copyreg", "_reconstructor") + b"(" + target + name("builtins", "object") + b"NtR"
    yield "rebuilt", name("torch._tensor", "_rebuild_from_type_v2") + b"(" + target + target + one + b"}tR"
    yield "key", b"}" + target + b"Ns"


@pytest.mark.parametrize("module, attribute", TARGETS, ids=[f"{m}.{a}" for m, a in TARGETS])
def test_other_globals_are_refused_by_name(module, attribute, tmp_path):
    canary = tmp_path / "canary"
    for spell in (stack_name, memoized_name, *([] if "\n" in module else [name])):
        for _, use in uses(spell(module, attribute), text(f"touch {canary}")):
            for path in carriers(tmp_path, state(epoch=number(1), state_dict=state(w=SAFE), extra=use)):
                with pytest.raises(CheckpointError) as caught:
                    read(path)
                assert spoken(module, attribute) in str(caught.value) and str(caught.value).isprintable()
    assert not canary.exists()


def test_the_canary_works(tmp_path):
    """The same bytes do run in Python's own pickle, so that the test above shows something."""
    body = dict(uses(name("posix", "system"), text(f"touch {tmp_path}/canary")))["reduce"]
    pickle.loads(pickled(body))
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize("kind", [kind for kind, _ in uses(b"", b"")])
def test_each_use_is_refused(kind, tmp_path):
    use = dict(uses(name("posix", "system"), text(f"touch {tmp_path}/canary")))[kind]
    (tmp_path / "box").mkdir()
    for path in carriers(tmp_path / "box", state(w=SAFE, extra=use)):
        refused(path, 'refuses the pickle global "posix.system"; a state dict needs no code')
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "use, words",
    [
        (b"(" + text("touch canary") + b"iposix\nsystem\n", '"posix.system"'),
        (b"(" + name("posix", "system") + text("touch canary") + b"o", '"posix.system"'),
        (b"(" + name("argparse", "Namespace") + b"o", '"argparse.Namespace"'),
        (b"(icollections\nOrderedDict\n", '"collections.OrderedDict"'),
        (b"\x82\x07", '"extension code 7"'),
        (b"\x83\x07\x01", '"extension code 263"'),
        (b"\x84\x07\x01\x00\x00", '"extension code 263"'),
        (b"\x97", "outside the file"),
        (b"C\x01x\x98", "outside the file"),
        (number(1) + text("system") + b"\x93", "names a global by something that is no text"),
        (text("os") + b"N" + b"\x93", "names a global by something that is no text"),
        (text("print") + b"(tR", "calls something that is no global"),
        (name("argparse", "Namespace") + b"]R", "calls something that is no global"),
        (name("torch", "Tensor") + b"(tR", "may only be named"),
        (name("numpy", "ndarray") + b"(tR", "may only be named"),
        (name("builtins", "list") + b"(tR", "may only be named"),
        (name("argparse", "Namespace") + b")" + state(x=b"N") + b"\x92", "keyword arguments"),
        (name("builtins", "object") + b"Nb", "gives a state to an object that has none"),
        (name("argparse", "Namespace") + b")\x81}b}b", "state twice"),
        (name("_codecs", "encode") + b"(" + text("x") + text("rot13") + b"tR", "other than as Latin-1"),
        (name("_codecs", "encode") + b"(" + text("ж") + text("latin1") + b"tR", "not Latin-1"),
    ],
)
def test_opcodes_that_no_state_dict_needs(use, words, tmp_path):
    for path in carriers(tmp_path, state(w=SAFE, extra=use)):
        refused(path, words)
    assert not os.path.exists("canary")


def history(attribute: bytes, owner: bytes | None = None) -> bytes:
    """mmengine's way to name a method: getattr(HistoryBuffer, "mean")."""
    buffer = name("mmengine.logging.history_buffer", "HistoryBuffer")
    call = name("builtins", "getattr") + b"(" + (owner or buffer) + attribute + b"tR"
    return buffer + b")\x81" + state(methods=call) + b"b"


def test_getattr_stands_for_a_log_method_and_nothing_else(tmp_path):
    good = torch_zip(tmp_path / "good.pth", state(state_dict=state(w=SAFE), log=history(text("mean"))))
    with open_checkpoint(good) as checkpoint:
        assert checkpoint.tree["log"].state["methods"].name.endswith("HistoryBuffer.mean")
        assert not checkpoint.refused
    for bad in (
        history(text("__class__")),
        history(text("__init__")),
        history(text("mean.__globals__")),
        history(number(1)),
        history(text("mean"), name("argparse", "Namespace")),
        history(text("mean"), name("numpy", "ndarray")),
        history(text("mean"), b"}"),
    ):
        for path in carriers(tmp_path, state(state_dict=state(w=SAFE), log=bad)):
            refused(path, 'refuses the pickle global "builtins.getattr"')


def test_no_allowed_maker_is_a_function_from_elsewhere():
    """Whatever the table calls is ours, and takes the machine as its first argument."""
    for rule in ALLOWED.values():
        if rule.call is not None:
            assert rule.call.__module__.startswith("jvan.checkpoints."), rule
            assert rule.call.__code__.co_varnames[:2] == ("m", "args"), rule


def test_refused_names_can_be_listed_without_raising(tmp_path):
    body = state(
        w=SAFE,
        a=name("posix", "system") + b"(" + text("touch canary") + b"tR",
        b=b"(" + text("x") + b"iwebbrowser\nopen\n",
        c=b"\x82\x07",
        d=name("builtins", "eval") + b"0N",
        e=name("builtins", "getattr") + b"(" + name("os", "environ") + text("clear") + b"tR",
    )
    for path in carriers(tmp_path, body):
        with open_checkpoint(path, list_refused=True) as checkpoint:
            names = ["builtins.eval", "builtins.getattr", "extension code 7", "os.environ", "posix.system"]
            assert checkpoint.refused == [*names, "webbrowser.open"]
            assert set(checkpoint.refused) < set(checkpoint.globals)
            with pytest.raises(CheckpointError, match="refuses the pickle global"):
                checkpoint.tensors()
    assert not os.path.exists("canary")


def test_terminal_escapes_and_line_breaks_in_names_are_spelled_out(tmp_path):
    path = torch_zip(tmp_path / "x.pth", state(w=SAFE, x=stack_name("os\x1b[31m", "sys\ntem" + "x" * 500)))
    refused(path, '"os\\x1b[31m.sys\\ntemxxx')


def test_thousands_of_refused_names_end(tmp_path):
    names = b"".join(f"cevil\nname{i}\n0".encode() for i in range(3000))
    path = torch_zip(tmp_path / "x.pth", names + state(w=SAFE))
    with pytest.raises(CheckpointError, match="refuses the pickle global"), open_checkpoint(path, list_refused=True):
        pass


def test_an_unreadable_legacy_header_may_name_nothing(tmp_path):
    """The small pickles before the main one are read by the same machine."""
    path = torch_legacy(tmp_path / "x.pth", state(w=SAFE), system=name("posix", "system") + b"(" + text("true") + b"tR")
    refused(path, '"posix.system"')
