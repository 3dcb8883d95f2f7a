"""What the checks share: a finding, Jittor's home as Jittor itself reads it, a setting that never overrides the user's."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import NamedTuple

from ..ownership import open_unlinked

OK, MENDED, SLOW, BROKEN = "ok", "mended", "slow", "broken"
DAMAGE = (ValueError, OSError, AttributeError)  # what a config.json that is no JSON object raises

_defaults: dict[str, str] = {}


class Finding(NamedTuple):
    """One thing looked at: `status` is OK, MENDED, SLOW (works, with a cost) or BROKEN (Jittor cannot start)."""

    name: str
    status: str
    what: str
    fix: str = ""
    aloud: bool = False  # worth a warning at import, not only a line of the doctor's


def setting(variable: str, default: str | None = None) -> str | None:
    """One of Jittor's settings, whose names are lower case, as the environment has it."""
    return os.environ.get(variable, default)


def set_by_user(variable: str) -> bool:
    """Whether an environment variable holds something that was not put there by `choose`."""
    return variable in os.environ and os.environ[variable] != _defaults.get(variable)


def set_default(variable: str, value: str) -> bool:
    """Set an environment variable unless the user did, even to nothing; children inherit it. True if it was set here."""
    if set_by_user(variable):
        return False
    os.environ[variable] = _defaults[variable] = value
    return True


def defaults_set() -> dict[str, str]:
    """Every variable that `choose` set and that still holds what it set."""
    return {name: value for name, value in _defaults.items() if os.environ.get(name) == value}


def unset_default(variable: str) -> None:
    """Take back what `choose` set, once its reason is gone."""
    if variable in os.environ and not set_by_user(variable):
        del os.environ[variable]


def user_cache() -> str:
    """Where Jittor keeps config.json, whatever JITTOR_HOME says: `~/.cache/jittor`."""
    return os.path.join(os.path.expanduser("~"), ".cache", "jittor")


def jittor_cache() -> str:
    """`<Jittor's home>/.cache/jittor`, read as `jittor_utils.home()` reads it but without writing anything.

    JITTOR_HOME, else what an earlier JITTOR_HOME left in config.json, else the user's home.
    """
    home = os.environ.get("JITTOR_HOME")
    if home is None:
        with contextlib.suppress(*DAMAGE):  # config_error() tells of it
            home = _configured_home()
    home = os.path.expanduser("~") if home is None else home
    return os.path.join(os.path.abspath(home), ".cache", "jittor")


def config_error() -> str:
    """Why config.json stops Jittor, or an empty string."""
    try:
        _configured_home()
    except DAMAGE as error:
        return str(error)
    return ""


def _configured_home() -> str | None:
    config = os.path.join(user_cache(), "config.json")
    if not os.path.exists(config):
        return None
    import json  # rarely needed, and 8 ms

    with open(config, encoding="utf-8") as file:
        home = json.load(file).get("JITTOR_HOME")
    if home is not None and not isinstance(home, str):
        raise ValueError(f"JITTOR_HOME is {home!r} there, not a path")
    return home


def package_folder(name: str) -> str | None:
    """The folder of an installed package, found as `import` would find it and without importing it."""
    from importlib.util import find_spec

    try:
        spec = find_spec(name)
    except (ImportError, ValueError):  # ValueError: a stand-in in sys.modules without a spec
        spec = None
    if spec is not None and spec.origin:
        return os.path.dirname(spec.origin)
    module = sys.modules.get(name)
    return os.path.dirname(module.__file__) if getattr(module, "__file__", None) else None


@contextlib.contextmanager
def locked(path: str):
    """Hold the lock of this file while something is put beside it; without locks the rename is atomic all the same."""
    from ..files import lock  # not needed by `import jvan`

    with open_unlinked(path, "a") as file:
        lock(file)
        yield
