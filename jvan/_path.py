"""Takes the current folder off the path again where `python -m jvan…` has put it there: a data set may hold a json.py.

Imported before anything else. `from __future__ import …` would be an import, too, and stands in no file that comes earlier.
"""

import os
import sys

IMPORTING = ("importlib", "_frozen_importlib", "_frozen_importlib_external", __package__)


def leave_current_folder() -> None:
    """Drop the first entry of sys.path where `-m` put the current folder there and jvan does not lie in it."""
    if not _named_by_m() or getattr(sys.flags, "safe_path", False) or sys.flags.isolated:
        return
    try:
        here = os.getcwd()
    except OSError:  # removed meanwhile: nothing can be found there
        return
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if sys.path[:1] in ([""], [here]) and os.path.realpath(here) != os.path.realpath(home):
        del sys.path[0]


def _named_by_m() -> bool:
    """Whether jvan is what `python -m` was asked for, and not another package that imports jvan.

    While Python looks for the module, sys.argv[0] is "-m"; between it and jvan stands nothing but the import system.
    """
    if getattr(sys, "argv", None) is None or sys.argv[:1] != ["-m"]:
        return False
    frame = sys._getframe()
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] in IMPORTING:
        frame = frame.f_back
    return frame is not None and frame.f_globals.get("__name__") == "runpy"


leave_current_folder()
