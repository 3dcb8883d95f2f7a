"""Which names outside the table a pickle may give to objects that are kept as opaque stand-ins.

A training script leaves its configuration beside the weights, in classes of packages that nobody can list. Such a class
is a name here and nothing else: nothing of that name is imported, looked up or called. Names of the standard library, numpy,
torch, Jittor and jvan are finite and known; those outside the table are refused, since only an attack or code needs them.
"""

from __future__ import annotations

import re

from .known_modules import PACKAGES, STANDARD

SCRIPTS = ("__main__", "__mp_main__")  # where a training script's own classes live
MAX_NAMES = 1000
_PART = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CLASS = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_NESTED = re.compile(r"[A-Z][A-Za-z0-9_]*\.[A-Z][A-Za-z0-9_]*")
_OF_TORCH = re.compile(r"torch\.(nn|optim)(\.(?!__)[a-z_][a-z0-9_]*)*\.[A-Z][A-Za-z0-9_]*")


def is_foreign(module: str, name: str) -> bool:
    """Whether this is well formed as a class of a package that jvan knows nothing of, or of a script."""
    parts = module.split(".")
    if not all(_PART.fullmatch(part) and (part in SCRIPTS or not part.startswith("__")) for part in parts):
        return False
    if parts[0] in STANDARD or parts[0] in PACKAGES:
        return False
    return bool(_CLASS.fullmatch(name) or _NESTED.fullmatch(name))


def is_attribute(name) -> bool:
    """Whether a class may be said to nest this: a plain name."""
    return type(name) is str and len(name) <= 100 and _CLASS.fullmatch(name) is not None


def is_torch_class(full: str) -> bool:
    """Whether this is a class of torch.nn or torch.optim, as configurations and whole modules name them."""
    return _OF_TORCH.fullmatch(full) is not None
