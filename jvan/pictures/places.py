"""Where the results of pictures are written: below one folder, each under its picture's name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from ..errors import JvanError


def places(files: Sequence[str], arguments: Iterable[str], folder: str, suffixes: Iterable[str], force: bool) -> dict[str, str]:  # fmt: skip
    """{file: the path of its results, without a suffix}; `suffixes` are those that will be written.

    A file of a folder among `arguments` keeps its path below that folder, any other its name alone. Raises JvanError where two
    results would have one name, where one would replace a picture that is read, and, without `force`, where one exists.
    """
    roots = [root for root in arguments if os.path.isdir(root)]
    taken: dict[str, str] = {}
    sources = {os.path.realpath(file) for file in files}
    for file in files:
        place = os.path.join(folder, os.path.splitext(_below(file, roots))[0])
        if place in taken:
            raise JvanError(
                f"{taken[place]} and {file} would both be written to {place}{next(iter(suffixes))}; give them one at a time, with "
                "their own folders (--output)"
            )
        taken[place] = file
        for path in (place + suffix for suffix in suffixes):
            if os.path.realpath(path) in sources:
                raise JvanError(
                    f"{path} is one of the pictures, and would be overwritten; choose another folder (--output)"
                )
            if not force and os.path.lexists(path):
                raise JvanError(f"{path} exists; choose another folder (--output), or overwrite it (--force)")
    return {file: place for place, file in taken.items()}


def _below(file: str, roots: list[str]) -> str:
    """The file's path below the folder that it was found in."""
    for root in roots:
        prefix = os.path.join(root, "")
        if file.startswith(prefix):
            return file[len(prefix) :]
    return os.path.basename(file)
