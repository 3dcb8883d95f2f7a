"""What a pickle's objects become here: plain data that stands for them and can do nothing."""

from __future__ import annotations


class Global:
    """A name that a pickle asked for. `call` is our own function for it, or None where it is only a name;
    `dtype` is set for torch's storage classes and dtypes."""

    __slots__ = ("allowed", "call", "dtype", "name")

    def __init__(self, name: str, call=None, dtype: str | None = None, allowed: bool = True):
        self.name, self.call, self.dtype, self.allowed = name, call, dtype, allowed

    def __repr__(self) -> str:
        return f"Global({self.name})"


class Named:
    """A class of a package that jvan knows nothing of: its name. It may be made into an Inert, or nest another name."""

    __slots__ = ("name", "nested")

    def __init__(self, name: str, nested: bool = False):
        self.name, self.nested = name, nested

    def __repr__(self) -> str:
        return f"Named({self.name})"


class Inert:
    """An object of a class that was not imported: its name, the arguments it was made from, its state,
    and the items put into it (values, or key and value pairs).

    One that is `foreign`, of a class that jvan knows nothing of, may hold itself; nothing looks into it.
    """

    __slots__ = ("args", "foreign", "items", "name", "state")

    def __init__(self, name: str, args: tuple = (), state=None, foreign: bool = False):
        self.name, self.args, self.state, self.items, self.foreign = name, args, state, [], foreign

    def __repr__(self) -> str:
        return f"Inert({self.name})"


def opaque(value) -> bool:
    """Whether something is a stand-in that no tensor, storage or dictionary can be made from."""
    return type(value) in (Inert, Named)


class OtherTensor:
    """A tensor of a kind whose numbers are not read, such as a sparse one; it may lie beside the weights."""

    __slots__ = ("kind",)

    def __init__(self, kind: str):
        self.kind = kind

    def __repr__(self) -> str:
        return f"OtherTensor({self.kind})"


class Storage:
    """A torch storage: its bytes, the dtype it was declared with (None: untyped) and the file's byte order."""

    __slots__ = ("data", "dtype", "order")

    def __init__(self, data, dtype: str | None, order: str = "<"):
        self.data, self.dtype, self.order = data, dtype, order


class DType:
    """A numpy dtype under construction: `code` as in "f4"; `order` comes with its state."""

    __slots__ = ("code", "order")

    def __init__(self, code: str, order: str = "<"):
        self.code, self.order = code, order
