"""A new folder in the place of an old one."""

from __future__ import annotations

import os

from ...files import lock


def put(new: str, folder: str, scratch: str) -> None:
    """Move `new` to `folder`, an absolute path; what was there is left in the folder `scratch`. OSError, and then nothing has changed."""
    parent = os.open(os.path.dirname(folder), os.O_RDONLY)  # whose lock leaves no file behind
    try:
        lock(parent)
        old = os.path.join(scratch, "old")
        if not os.path.lexists(folder):
            os.rename(new, folder)
            return
        os.rename(folder, old)
        try:
            os.rename(new, folder)
        except BaseException:
            os.rename(old, folder)
            raise
    finally:
        os.close(parent)
