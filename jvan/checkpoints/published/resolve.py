"""What a user's words mean: the path of a file, or a name from the catalogue, whose file is then obtained."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from ...errors import CheckpointError
from ...variants import VARIANTS
from ..not_weights import SUFFIXES as WEIGHTS
from .catalogue import Entry, catalogue, names_of
from .weights_cache import obtain, place

SUFFIXES = (*WEIGHTS, ".tar", ".json")


def entry_for(name_or_path: str | os.PathLike) -> Entry | None:
    """The entry with this name, or the one whose downloaded file this path is; None for anything else."""
    path = Path(os.path.expanduser(name_or_path))  # which leaves a user that does not exist alone
    if not path.exists():
        return catalogue().get(os.fspath(name_or_path))
    entry = catalogue().get(path.parent.name)
    if entry is None:
        return None
    return entry if path.absolute() == place(entry).absolute() else None


def resolve_weights(name_or_path: str | os.PathLike) -> Path:
    """The file (or folder) that a path or a catalogue name means; a name is downloaded once, verified, kept.

    An existing path wins over a name. CheckpointError for a missing path and an unknown name, DownloadError where
    the file cannot be had.
    """
    text = os.fspath(name_or_path)
    path = Path(os.path.expanduser(text))
    if text and path.exists():
        return path
    entry = catalogue().get(text)
    if entry is not None:
        return obtain(entry)
    raise CheckpointError(_why_not(text))


def _why_not(text: str) -> str:
    if re.match(r"[a-z]+://", text):
        return f"{text}: weights are a file or a name from the catalogue; download it and give the file's path"
    if text in VARIANTS:
        return f"{text!r} is an architecture; its published weights are {', '.join(names_of(text))}"
    seems_path = any(sep in text for sep in "/\\") or text.startswith("~") or text.lower().endswith(SUFFIXES)
    if seems_path or not text:
        return f"{text or repr(text)}: no such file"
    near = difflib.get_close_matches(text, catalogue(), n=3, cutoff=0.5)
    near = near or [name for name in catalogue() if name.endswith(".in1k")]
    return f"{text!r} is neither a file nor a name from the catalogue; close names: {', '.join(near)}"
