"""Jittor's `.pkl`: a pickle of numpy arrays, its sha1 and the mark HCAJSLHD; older ones are the bare pickle."""

from __future__ import annotations

import hashlib

from ..file_bytes import Source
from ..pickles.unpickle import Unpickler

MARK = b"HCAJSLHD"
TRAILER = 28


def read_jittor_pkl(source: Source, list_refused: bool = False):
    """The object that jittor.save wrote, as (tree, globals, pairs set aside); CheckpointError if the checksum is wrong.

    The checksum shows damage, not intent: what it covers is read as strictly as any other pickle.
    """
    stop = source.size
    if stop > TRAILER and source.view(stop - 8) == MARK:
        stop -= TRAILER
        if _sha1(source, stop) != bytes(source.view(stop, stop + 20)):
            raise source.error("does not match its checksum; it is damaged, fetch it again")
    machine = Unpickler(source, 0, stop, list_refused=list_refused)
    tree = machine.load()
    if machine.end != stop:
        raise source.error(f"{stop - machine.end} bytes follow the end of the pickle; the file is damaged or unsafe")
    return tree, machine.globals, machine.set_aside


def _sha1(source: Source, stop: int) -> bytes:
    digest = hashlib.sha1(usedforsecurity=False)
    for at in range(0, stop, 1 << 24):
        digest.update(source.view(at, min(stop, at + (1 << 24))))
    return digest.digest()
