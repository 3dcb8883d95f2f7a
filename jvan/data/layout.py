"""Which files of a dataset are pictures of which class, by the names of its folders alone."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from typing import NamedTuple

import numpy as np

from .._text import in_nfc
from ..errors import DataError
from ..pictures.find import SUFFIXES, SUFFIXES_NOT_READ
from .name_list import class_name

PARTS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "test", "testing"),  # the first that is there
}
IMAGENET = "ILSVRC/Data/CLS-LOC"  # where the challenge's own archive keeps its pictures
ANSWERS = ("LOC_val_solution.csv", "val_annotations.txt")  # ImageNet's and Tiny ImageNet's


class Labelled(NamedTuple):
    classes: tuple[str, ...]
    rows: np.ndarray  # int64 (N,): which of the files
    labels: np.ndarray  # int32 (N,)
    folders: tuple[str, ...]  # the classes' names as they lie there
    notes: tuple[str, ...] = ()  # lines that tell what of the data is not as it seems


class Tree:
    """The folders of a dataset: `files` and `folders` are relative paths, `title` is for messages."""

    def __init__(self, title: str, files: list[str], folders: set[str]):
        self.title, self.files = title, files
        self.pictures: dict[str, list[int]] = {}  # folder -> rows of the pictures directly inside
        self.others: dict[str, list[int]] = {}  # the same of all else
        for row, name in enumerate(files):
            rows = self.pictures if name.lower().endswith(SUFFIXES) else self.others
            rows.setdefault(name.rpartition("/")[0], []).append(row)
        self.children: dict[str, set[str]] = {}
        unread = {name.rpartition("/")[0] for name in files if name.lower().endswith(SUFFIXES_NOT_READ)}
        for folder in {*folders, *self.pictures, *unread}:
            while folder:
                above, _, base = folder.rpartition("/")
                self.children.setdefault(above, set()).add(base)
                folder = above

    def root(self) -> str:
        """Where the classes or parts begin: below folders that hold nothing but one other folder."""
        folder = ""
        while True:
            if self.folders_below(_join(folder, IMAGENET)):
                return _join(folder, IMAGENET)
            inside = self.folders_below(folder)
            if len(inside) != 1 or folder in self.pictures or not self.folders_below(inside[0]):
                return folder
            if any(self.part(folder, part) for part in PARTS):
                return folder
            folder = inside[0]

    def folders_below(self, folder: str) -> list[str]:
        return [_join(folder, base) for base in sorted(self.children.get(folder, ()))]

    def part(self, root: str, part: str) -> str | None:
        """The folder of "train" or "val" below `root`, or None.

        A lone folder with such a name that holds pictures itself is a class: there are trains among vehicles.
        """
        here = {base.lower(): base for base in self.children.get(root, ())}
        found = {kind: next((here[name] for name in names if name in here), None) for kind, names in PARTS.items()}
        parts = [_join(root, base) for base in found.values() if base is not None]
        if len(parts) < len(PARTS) and not any(map(self.folders_below, parts)):
            return None
        return None if found[part] is None else _join(root, found[part])

    def labelled(self, folder: str) -> Labelled:
        """The pictures below `folder`, labelled by its folders in sorted order; DataError for a class without any."""
        below = self.folders_below(folder)
        name = f"{self.title}/{folder}" if folder else self.title
        if not below:
            if self.pictures.get(folder):
                raise DataError(f"{name}: holds pictures but no folders; put those of each class into its own folder")
            raise DataError(f"{name}: holds no pictures; give a folder with a folder of pictures for each class")
        together: dict[str, list[str]] = {}
        for each in below:
            together.setdefault(class_name(each.rpartition("/")[2]), []).append(each)
        members = [[row for each in folders for row in self._all_pictures(each)] for folders in together.values()]
        names = tuple(folders[0].rpartition("/")[2] for folders in together.values())
        others = self._other_formats(below)
        self._check_members(name, names, members, others)
        rows = np.concatenate([np.array(sorted(rows, key=self.files.__getitem__), np.int64) for rows in members])
        labels = np.repeat(np.arange(len(names), dtype=np.int32), [len(rows) for rows in members])
        return Labelled(tuple(together), rows, labels, names, (*_merged(together), *others))

    def _check_members(self, name: str, names: tuple[str, ...], members: list[list[int]], others) -> None:
        """DataError where a class has no picture; `others` tells what lies there instead."""
        empty = [each for each, rows in zip(names, members) if not rows]
        what = f"; {others[0]}" if others else ""
        if len(empty) == len(names):
            raise DataError(
                f"{name}: none of its {len(names)} folders holds a picture ({', '.join(SUFFIXES[:5])} …){what}"
            )
        if empty:
            more = f" and {len(empty) - 3} more" if len(empty) > 3 else ""
            raise DataError(
                f"{name}: no picture in the class {', '.join(empty[:3])}{more}; fill or remove its folder{what}"
            )

    def _all_pictures(self, folder: str) -> list[int]:
        return self._all(self.pictures, folder)

    def _all(self, rows_of: dict[str, list[int]], folder: str) -> list[int]:
        rows, waiting = [], [folder]
        while waiting:
            here = waiting.pop()
            rows += rows_of.get(here, ())
            waiting += self.folders_below(here)
        return rows

    def _other_formats(self, folders: list[str]) -> tuple[str, ...]:
        """One line, or none, that counts by suffix what is no picture for us."""
        rows = [row for folder in folders for row in self._all(self.others, folder)]
        kinds = Counter(os.path.splitext(self.files[row])[1].lower() or "without a suffix" for row in rows)
        if not kinds:
            return ()
        shown = ", ".join(f"{count} {kind[:20]}" for kind, count in kinds.most_common(5))
        more = f" and {len(kinds) - 5} more kinds" if len(kinds) > 5 else ""
        return (f"files of other formats are not read: {shown}{more}",)

    def flat(self, folder: str, read) -> dict[str, str] | None:
        """File name -> class of a part whose pictures lie in no class folders, from the list that its publisher gives.

        `read(name)` gives a file's bytes. None where there is no such list.
        """
        for name in self.files:
            base = name.rpartition("/")[2]
            if base == ANSWERS[0]:
                rows = csv.reader(io.StringIO(_text(read(name))))
                return {
                    row[0].lower() + ".jpeg": row[1].split(" ")[0]
                    for row in rows
                    if len(row) == 2 and row[1][:1] == "n"
                }
            if base == ANSWERS[1] and name.startswith(folder + "/"):
                lines = _text(read(name)).splitlines()
                return {row[0].lower(): row[1] for row in (line.split("\t") for line in lines) if len(row) > 1}
        return None

    def labelled_flat(self, folder: str, class_of: dict[str, str]) -> Labelled:
        """The pictures below `folder` with the classes that `class_of` gives by their file names; DataError for one without."""
        rows = sorted(self._all_pictures(folder), key=self.files.__getitem__)
        names = [class_name(self.files[row].rpartition("/")[2]).lower() for row in rows]
        missing = [name for name in names if name not in class_of]
        if missing or not rows:
            what = (
                f"the list of answers has no class for {missing[0]}; take it away, or give the challenge's own list"
                if missing
                else "holds no pictures; unpack the challenge's own archive there"
            )
            raise DataError(f"{self.title}/{folder}: {what}")
        classes = sorted({class_of[name] for name in names})
        index = {name: label for label, name in enumerate(classes)}
        labels = np.array([index[class_of[name]] for name in names], np.int32)
        return Labelled(tuple(classes), np.array(rows, np.int64), labels, tuple(classes))


def _join(folder: str, base: str) -> str:
    return f"{folder}/{base}" if folder else base


def _text(data: bytes) -> str:
    """A list of names, so that they can be compared with those of files and folders."""
    return in_nfc(data.decode("utf-8", "surrogateescape"))


def _merged(together: dict[str, list[str]]) -> tuple[str, ...]:
    twice = [name for name, folders in together.items() if len(folders) > 1]
    more = f" and {len(twice) - 3} more" if len(twice) > 3 else ""
    line = "folders whose names differ only in how Unicode composes letters (NFC, NFD) are taken as one class: "
    return (line + ", ".join(twice[:3]) + more,) if twice else ()
