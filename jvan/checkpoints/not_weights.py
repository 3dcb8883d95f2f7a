"""What is given where a weights file was meant: one shard, an index, a file with a path in it, a folder; and what to give."""

from __future__ import annotations

import os
import re
from itertools import islice
from pathlib import Path

from ..pictures.find import SUFFIXES as PICTURES
from .file_bytes import Source, shown

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".pth.tar", ".pkl", ".npz", ".bin")
LAST = "last_checkpoint"  # mmengine's and nnU-Net's: a line with a path
SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<all>\d{5})(?P<suffix>\.safetensors|\.bin)")
LONGEST_TEXT = 4096  # bytes; a path is no longer
MOST = 10_000  # entries of a folder that are looked at
SHOWN = 5


def shard_fault(path) -> str | None:
    """What to give in the place of one shard of several, going by its name; None for any other file."""
    path = Path(path)
    found = SHARD.fullmatch(path.name)
    if not found or int(found["all"]) < 2:
        return None
    index = f"{found['stem']}{found['suffix']}.index.json"
    missing = "" if (path.parent / index).is_file() else f", once {shown(index)} and the other shards are there"
    return f"it is shard {int(found['number'])} of {int(found['all'])}; give its folder, {path.parent}{missing}"


def text_fault(source: Source) -> str | None:
    """What a text file is that was given for weights, and what to give; None for what is no such text."""
    folder = Path(source.name).parent
    if Path(source.name).name.endswith(".index.json"):
        return f"is the index of a checkpoint in shards; give its folder, {folder}"
    if source.size > LONGEST_TEXT:
        return None
    try:
        text = bytes(source.view()).decode("utf-8").strip()
    except UnicodeError:
        return None
    if "\n" in text or not text.lower().endswith(SUFFIXES):
        return None
    return f"is a text file that names {shown(_existing(text, folder))}; give that file"


def folder_fault(folder: Path, index_of: tuple[str, ...]) -> str:
    """What lies in a folder that is no Hugging Face checkpoint, and what to give."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in islice(entries, MOST))
    if not names:
        return "is an empty folder; give a weights file"
    shards = [name for name in names if SHARD.fullmatch(name)]
    if shards:
        indices = " or ".join(f"{name}.index.json" for name in index_of)
        return f"holds shards without their index; download {indices}, too"
    weights = [name for name in names if name.lower().endswith(SUFFIXES)]
    if weights:
        return f"is a folder with weights files in it; give one of them: {_some(weights)}"
    if LAST in names:
        return f"is a folder whose weights lie elsewhere; give the file that {shown(LAST)} in it names"
    pictures = sum(name.lower().endswith(PICTURES) for name in names)
    if pictures:
        return f"is a folder of pictures ({pictures}), without weights; give a weights file"
    return f"is a folder without weights (it has {_some(names)}); give a weights file"


def _existing(text: str, folder: Path) -> str:
    """The path as it is written, or the file of its name beside, if only that exists."""
    beside = folder / text.replace("\\", "/").rsplit("/", 1)[-1]
    return str(beside) if not os.path.exists(text) and beside.is_file() else text


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(shown(name) for name in names[:SHOWN]) + more
