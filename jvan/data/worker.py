"""The process that makes pictures: started anew by the loader, so nothing of Jittor's is in it; it ends with its parent."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection

from ..errors import JvanError
from ..pictures.large import share_turn
from .memory import SharedMemory, unshare
from .slots import arrays_in
from .work import Made

START = "from jvan.data.worker import main; main()"  # what the parent has `children.start_python` run


def main() -> None:
    """Answer each (ticket, slot, epoch, step) with (ticket, what was made beside the arrays, an error or None)."""
    connection = Connection(int(sys.argv[1]))
    signal.signal(
        signal.SIGTERM, signal.SIG_IGN
    )  # a manager of jobs sends it to all; the parent wants its last pictures
    try:
        data, places, sizes, descriptors, worker, workers = connection.recv()
        work = unshare(data, places, SharedMemory(sizes[0], descriptors[0]))
        share_turn(descriptors[1])
        batches = SharedMemory(sizes[1], descriptors[1]).map
        tasks: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=_listen, args=(connection, tasks), daemon=True).start()
        while True:
            ticket, slot, epoch, step = tasks.get()
            out = arrays_in(batches, work.layout, work.rows, slot)
            connection.send((ticket, *_answer(work, epoch, step, out, worker, workers)))
    except (EOFError, OSError):  # the parent has gone
        os._exit(0)


def _listen(connection: Connection, tasks: queue.SimpleQueue) -> None:
    """Hand on tasks; the moment the parent ends, however it ends, so does this process, in the middle of a picture."""
    try:
        while True:
            tasks.put(connection.recv())
    except (EOFError, OSError):
        os._exit(0)


def _answer(work, epoch: int, step: int, out: dict, worker: int, workers: int):
    try:
        return work.make(epoch, step, out, worker, workers), None
    except JvanError as error:
        return Made([], []), (type(error), error.plain)
    except MemoryError as error:
        return Made([], []), (MemoryError, f"in a loader's worker{f': {error}' if str(error) else ''}")
    except Exception:  # a fault in a transform: the parent shows where
        return Made([], []), (RuntimeError, f"in a loader's worker:\n{traceback.format_exc()}")
