"""Which files the user means: pictures, folders, patterns, or paths on standard input."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .signature import PICTURES_NOT_READ, foreign_format, picture_format

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff")
SUFFIXES_NOT_READ = (".heic", ".heif", ".avif", ".jxl", ".jp2", ".cr2", ".cr3", ".dng", ".nef", ".arw")
LEFT = ("@eadir", "__macosx", "lost+found", "$recycle.bin", "system volume information")  # by NAS boxes, Macs, disks


class Found(NamedTuple):
    """A file to open, named as the user gave it; or the reason why there is none."""

    file: str
    error: str | None = None


def find_pictures(arguments: Iterable[str], stdin: Iterable[bytes] = ()) -> Iterator[Found]:
    """Yield what `arguments` mean, in their order, one at a time and without opening pictures.

    An existing path is taken as it is, even where it looks like a pattern. Folders are searched
    recursively, in sorted order: files with a picture's suffix, and others that begin like a picture;
    hidden names are left out, and so are folders that systems leave behind; pictures of formats that are not
    read come out as one error a folder. A pattern (`*`, `?`, `[]`, `**`) is expanded in sorted order; folders that
    exist by the names it begins with are no part of it (`photos [2024]/*.jpg`). `-` stands
    for paths on `stdin`, one a line. What does not exist or holds no picture comes out as an error.
    """
    for argument in arguments:
        if argument == "-":
            for line in stdin:
                path = os.fsdecode(line.rstrip(b"\r\n"))
                if path:
                    yield from _existing(path) if os.path.lexists(path) else [Found(path, "no such file")]
        elif os.path.lexists(argument):
            yield from _existing(argument)
        else:
            yield from _expanded(argument)


def _expanded(pattern: str) -> Iterator[Found]:
    if not glob.has_magic(pattern):
        yield Found(pattern, "no such file")
        return
    matches = sorted(glob.glob(_literal_folders(pattern), recursive=True))
    # `**` also names every folder on the way: expanding those would give each picture several times.
    files = [path for path in matches if not os.path.isdir(path)] if "**" in pattern else matches
    if not files:
        yield Found(pattern, "no file matches this pattern")
    for path in files:
        yield from _existing(path)


def _literal_folders(pattern: str) -> str:
    """The pattern with the folders that exist under the very names it begins with taken as they are: `photos [2024]/*.jpg`."""
    parts = pattern.split(os.sep)
    for count in range(len(parts) - 1, 0, -1):
        folder = os.sep.join(parts[:count])
        if os.path.isdir(folder):
            return os.sep.join([glob.escape(folder), *parts[count:]])
    return pattern


def _existing(path: str) -> Iterator[Found]:
    if not os.path.isdir(path):
        yield Found(path)
        return
    empty, others = True, Counter()
    for found in _walk(path, others):
        empty = False
        yield found
    if others:
        counts = ", ".join(f"{count} {kind}" for kind, count in others.most_common())
        yield Found(path, f"holds pictures of formats that are not read ({counts}); convert them to JPEG or PNG")
    elif empty:
        yield Found(path, "this folder holds no pictures")


def is_left_out(name: str) -> bool:
    """Whether a folder of this name, at any depth, holds nothing that the user means: hidden, or left by a system."""
    return name.startswith(".") or name.lower() in LEFT


def _walk(folder: str, others: Counter) -> Iterator[Found]:
    """Pictures below `folder`, depth first, each folder's entries by name; links are followed once. `others` counts formats that are not read."""
    visited = set()
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        if not os.path.isdir(path):
            yield Found(path)
            continue
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            names = sorted(name for name in os.listdir(path) if not is_left_out(name))
        except OSError as error:
            yield Found(path, f"this folder cannot be read: {(error.strerror or str(error)).lower()}")
            continue
        inside = [os.path.join(path, name) for name in names]
        waiting += [each for each in reversed(inside) if os.path.isdir(each) or _looks_like_picture(each, others)]


def _looks_like_picture(path: str, others: Counter) -> bool:
    if path.lower().endswith(SUFFIXES):
        return True
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            head = file.read(32)
    except OSError:
        return False
    kind = foreign_format(head)
    others.update([kind] if kind in PICTURES_NOT_READ else [])
    return picture_format(head) is not None
