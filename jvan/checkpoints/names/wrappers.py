"""Which part of a checkpoint is the state dict: the tree itself, or an entry such as `state_dict` or `model`."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..._text import printable
from ..file_bytes import Source, shown
from ..pickles.stand_ins import Inert, Named, OtherTensor
from ..pickles.tree import tensors_in
from ..tensor import LazyTensor

# timm, mmengine and jittordet; DeiT, ConvNeXt, JDet and JSeg; others that copied them.
PLAIN = ("state_dict", "model", "model_state_dict", "module", "params")
AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema", "params_ema")
MAX_WRAPPERS = 4


@dataclass
class Peeled:
    """The dict of tensors; `levels` are the dicts around it, the file's outermost first; `notes` are for a user."""

    tensors: dict[str, LazyTensor] = field(default_factory=dict)
    levels: list[dict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def peel(tree, source: Source, ema: bool = False, entry: str | None = None) -> Peeled:
    """Go from the tree down to the dict of tensors, from the top level's `entry` on if one is named.

    At each level, in this order: a dict of tensors alone is the answer; with `ema` an entry of AVERAGED
    is entered; then the one entry of PLAIN that holds tensors; then the only dict of named tensors. Two such
    entries that are not the same object are ambiguous. CheckpointError if nothing fits, naming what was found.
    """
    found, wanted, node = Peeled(), ema, tree
    if entry is not None:
        node = _named(tree, entry, source)
        found.levels.append(tree)
    for _ in range(MAX_WRAPPERS + 1):
        if type(node) is not dict:
            fix = "save model.state_dict()" if type(node) in (Inert, Named) else "save a state dict"
            raise source.error(f"holds {described(node)} where the weights should be; {fix}")
        if node and not wanted and all(type(value) is LazyTensor for value in node.values()):
            found.tensors = _checked(node, source)
            return found
        found.levels.append(node)
        node, wanted = _enter(node, source, wanted, found.notes)
    raise source.error(f"its state dict lies more than {MAX_WRAPPERS} wrappers deep; save a state dict")


def _named(tree, entry: str, source: Source):
    if type(tree) is not dict or entry not in tree:
        held = _entries(tree) if type(tree) is dict else f"it holds {described(tree)}"
        raise source.error(f"has no entry {shown(entry)} (--entry); {held}")
    return tree[entry]


def _enter(node: dict, source: Source, wanted: bool, notes: list[str]):
    """The entry that leads to the weights, and whether averaged ones are still to be found."""
    averaged = [name for name in AVERAGED if type(node.get(name)) is dict and _holds_tensors(node[name])]
    plain = [name for name in PLAIN if type(node.get(name)) is dict and _holds_tensors(node[name])]
    if "ema_state_dict" in averaged and "state_dict" in plain and _of_mmengine(node):
        # its EMAHook swaps the two when it saves: the averaged weights are under "state_dict"
        return node["state_dict"], False
    if wanted and averaged:
        return _only(node, averaged, source), False
    if plain:
        if averaged:
            notes.append(
                f"averaged weights lie in the file, too ({_names(averaged)}), and are not taken; `jvan convert --ema` takes them"
            )
        return _only(node, plain, source), wanted
    if wanted:
        raise source.error(f"holds no averaged weights ({_entries(node)}); leave out ema (--ema)")
    if averaged:
        raise source.error(f"holds averaged weights alone ({_entries(node)}); ask for them with ema=True (--ema)")
    _refuse_other_kinds(node, source)
    if any(type(value) is LazyTensor for value in node.values()):
        others = [key for key, value in node.items() if type(value) is not LazyTensor]
        raise source.error(f"mixes tensors with other entries ({_names(others)}); save a state dict alone")
    return _unusual(node, source, notes), wanted


def _unusual(node: dict, source: Source, notes: list[str]) -> dict:
    """The only entry that is a dict of named tensors, whatever its name."""
    names = [key for key, value in node.items() if type(key) is str and _is_state_dict(value)]
    if not names:
        for name in (name for name in PLAIN if type(node.get(name)) in (Inert, Named)):
            raise source.error(f"its {name} is {described(node[name])}, not a state dict; save model.state_dict()")
        raise source.error(f"holds no state dict ({_entries(node)}); known wrappers are {', '.join(PLAIN)}")
    if len({id(node[name]) for name in names}) > 1:
        raise source.error(f"holds several state dicts ({_names(names)}); choose one with entry (--entry)")
    notes.append(f"the weights are taken from the entry {shown(names[0])}, the only one that holds named tensors")
    return node[names[0]]


FIXES = {
    "sparse": "save it dense (tensor.to_dense())",
    "quantised": "save it dequantised (tensor.dequantize())",
    "meta": "it has no numbers; save a model that has its weights",
    "nested": "save its parts (tensor.unbind())",
}


def _refuse_other_kinds(node: dict, source: Source) -> None:
    """CheckpointError where a state dict, here or under a known name, holds a tensor of a kind that is not read."""
    for held in (node, *(node[name] for name in PLAIN if type(node.get(name)) is dict)):
        for name, value in held.items():
            if type(value) is OtherTensor:
                raise source.error(f"holds {described(value)} ({shown(name)}) among the weights; {FIXES[value.kind]}")


def _is_state_dict(node) -> bool:
    return (
        type(node) is dict
        and bool(node)
        and all(type(key) is str for key in node)
        and (all(type(value) is LazyTensor for value in node.values()))
    )


def _of_mmengine(node: dict) -> bool:
    meta = node.get("meta")
    return "message_hub" in node or (type(meta) is dict and "mmengine_version" in meta)


def _only(node: dict, names: list[str], source: Source) -> dict:
    if len({id(node[name]) for name in names}) > 1:
        raise source.error(f"holds several state dicts ({_names(names)}); choose one with entry (--entry)")
    return node[names[0]]


def _holds_tensors(node) -> bool:
    return next(tensors_in(node), None) is not None


def _checked(node: dict, source: Source) -> dict[str, LazyTensor]:
    strange = [key for key in node if type(key) is not str]
    if strange:
        raise source.error(f"names tensors by something that is no text ({_names(strange)}); save a state dict")
    unread = [name for name, tensor in node.items() if not tensor.readable]
    if unread:
        dtypes = _names(sorted({node[name].dtype for name in unread}))
        raise source.error(f"the tensors {_names(unread)} have dtypes that are not read ({dtypes}); convert them first")
    return dict(node)


def described(node) -> str:
    """What an object is, in a few words."""
    if type(node) in (Inert, Named):
        return f"an object of {shown(node.name)}"
    if type(node) is OtherTensor:
        return f"a {node.kind} tensor"
    if type(node) is LazyTensor:
        return f"a tensor of {node.dtype}, {' x '.join(map(str, node.shape)) or 'a scalar'}"
    if type(node) in (dict, list, tuple):
        count = sum(1 for _ in tensors_in(node))
        return f"a {type(node).__name__} of {len(node)}" + (f", {count} tensors in it" if count else "")
    if type(node) in (str, int, float, bool, bytes):
        return f"{type(node).__name__} {printable(node, 60)}"
    return f"a {type(node).__name__}" if node is not None else "nothing"


def _entries(node: dict) -> str:
    return f"its entries: {_names(node)}" if node else "it is empty"


def _names(keys) -> str:
    keys = list(keys)
    return ", ".join(shown(key) for key in keys[:6]) + (f" and {len(keys) - 6} more" if len(keys) > 6 else "")
