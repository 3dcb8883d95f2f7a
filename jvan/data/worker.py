"""The process that makes pictures: started anew by the loader, so nothing of Jittor's is in it; it ends with its parent."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection

import numpy as np

from ..errors import JvanError
from ..inference.large import share_turn
from .memory import SharedMemory, unshare

START = "from jvan.data.worker import main; main()"  # what the parent has `children.start_python` run


def main() -> None:
    """Answer each (ticket, slot, epoch, step) with (ticket, what could not be read, an error or None)."""
    connection = Connection(int(sys.argv[1]))
    signal.signal(
        signal.SIGTERM, signal.SIG_IGN
    )  # a manager of jobs sends it to all; the parent wants its last pictures
    try:
        data, places, sizes, descriptors, worker, workers = connection.recv()
        work = unshare(data, places, SharedMemory(sizes[0], descriptors[0]))
        share_turn(descriptors[1])
        slots = np.frombuffer(SharedMemory(sizes[1], descriptors[1]).map, np.float32)
        slots = slots.reshape(-1, work.rows, *work.transform.shape)
        tasks: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=_listen, args=(connection, tasks), daemon=True).start()
        while True:
            ticket, slot, epoch, step = tasks.get()
            connection.send((ticket, *_answer(work, epoch, step, slots[slot], worker, workers)))
    except (EOFError, OSError):  # the parent has gone
        os._exit(0)


def _listen(connection: Connection, tasks: queue.SimpleQueue) -> None:
    """Hand on tasks; the moment the parent ends, however it ends, so does this process, in the middle of a picture."""
    try:
        while True:
            tasks.put(connection.recv())
    except (EOFError, OSError):
        os._exit(0)


def _answer(work, epoch: int, step: int, out: np.ndarray, worker: int, workers: int):
    try:
        return work.make(epoch, step, out, worker, workers), None
    except JvanError as error:
        return [], (type(error), error.plain)
    except MemoryError as error:
        return [], (MemoryError, f"in a loader's worker{f': {error}' if str(error) else ''}")
    except Exception:  # a fault in a transform: the parent shows where
        return [], (RuntimeError, f"in a loader's worker:\n{traceback.format_exc()}")
