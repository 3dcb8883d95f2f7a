"""What callers give as weights."""

from __future__ import annotations

from os import PathLike

from ..errors import CheckpointError


def check_given(weights) -> None:
    """CheckpointError for weights that are neither a path nor a catalogue name, such as a state dict."""
    if not isinstance(weights, (str, PathLike)):
        raise CheckpointError(
            f"weights is a {type(weights).__name__}, not the path of a file nor a name of jvan.list_weights(); "
            "save tensors that are in memory to a file (jt.save, .pkl) and give its path"
        )
