"""The loader's processes, the memory they share, and what happens when one of them dies."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import weakref
from multiprocessing.connection import Connection, Pipe

import numpy as np

from .. import children
from ..errors import DataError, TrainingError
from . import worker as worker_module
from .memory import SharedMemory, share
from .slots import arrays_in, slots_for
from .work import Made, Work


class Pool:
    """Worker processes that make the batches of one `Work`, each its own rows of every batch."""

    def __init__(self, work: Work, workers: int):
        if os.name != "posix":
            raise DataError("worker processes need Linux or macOS; use --workers 0 here")
        forget_jittors_handler()
        _occupy_standard_streams()
        slots, bytes_each = slots_for(work.layout, work.rows)
        batches = SharedMemory(slots * bytes_each)
        data, places, dataset = share(work)
        self.slots = [arrays_in(batches.map, work.layout, work.rows, slot) for slot in range(slots)]
        self.free = list(range(slots))
        self._waiting: list[tuple[int, int]] = []  # (ticket, slot), in the order of submission
        self._ticket = 0
        self._processes: list[children.Child] = []
        self._connections: list[Connection] = []
        self._end = weakref.finalize(self, _end, os.getpid(), self._processes, self._connections)
        try:
            for number in range(workers):
                self._start((batches, dataset))
                sizes, descriptors = (dataset.size, batches.size), (dataset.descriptor, batches.descriptor)
                self._send(number, (data, places, sizes, descriptors, number, workers))
        except BaseException:
            self.close()
            raise
        finally:
            batches.close()
            dataset.close()

    def submit(self, epoch: int, step: int) -> int:
        """Have a batch made in a free slot; the ticket to collect it with. Tickets are collected in their order."""
        slot = self.free.pop()
        self._ticket += 1
        self._waiting.append((self._ticket, slot))
        for number in range(len(self._processes)):
            self._send(number, (self._ticket, slot, epoch, step))
        return self._ticket

    def collect(self) -> tuple[dict[str, np.ndarray], Made]:
        """The oldest batch: copies of its arrays, (rows, …), and what goes with them in the order of the rows; its slot is free again."""
        slot, made, errors = self._receive()
        arrays = {name: array.copy() for name, array in self.slots[slot].items()}
        self.free.append(slot)
        if errors:
            kind, message = errors[0]
            raise kind(message)
        by_row = sorted(made.targets, key=lambda row_and_target: row_and_target[0])
        return arrays, Made(sorted(made.bad), by_row)

    def drain(self) -> None:
        """Wait for batches that nobody wants any more."""
        while self._waiting:
            self.free.append(self._receive()[0])

    def _receive(self):
        """The oldest batch's slot, what goes with it, and errors. Whatever interrupts it ends the workers."""
        ticket, slot = self._waiting.pop(0)
        made = Made([], [])
        errors = []
        try:
            for number, connection in enumerate(self._connections):
                try:
                    answered, found, error = connection.recv()
                except (EOFError, OSError):
                    raise self._death(number) from None
                assert answered == ticket, "a worker answers in order"
                made.bad.extend(found.bad)
                made.targets.extend(found.targets)
                errors += [error] if error else []
        except BaseException:
            self.close()
            raise
        return slot, made, errors

    @property
    def closed(self) -> bool:
        return not self._end.alive

    def close(self) -> None:
        """End the workers at once; what they were making is lost."""
        self._end()

    def _start(self, memories: tuple[SharedMemory, ...]) -> None:
        ours, theirs = Pipe()
        # One thread each: the libraries that numpy may load would start one for every core, in every worker.
        single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        try:
            with theirs:
                process = children.start_python(  # a transform from a file beside a notebook is found there, too
                    worker_module.START, str(theirs.fileno()), beside=True, environment={**os.environ, **single},
                    stdin=children.DEVNULL, stdout=children.DEVNULL,
                    pass_fds=(theirs.fileno(), *(memory.descriptor for memory in memories)),
                    start_new_session=True,  # Ctrl-C is the parent's alone, which then ends its workers
                )  # fmt: skip
        except OSError as error:
            ours.close()
            raise TrainingError(f"cannot start a loader's worker: {error.strerror or error}; use --workers 0") from None
        self._processes.append(process)
        self._connections.append(ours)

    def _send(self, number: int, message) -> None:
        try:
            self._connections[number].send(message)
        except OSError:
            raise self._death(number) from None

    def _death(self, number: int) -> TrainingError:
        """Close the pool; the error that says which worker died, and of what."""
        process = self._processes[number]
        with contextlib.suppress(children.TimeoutExpired):
            process.wait(5)
        self.close()
        how = f"ended with status {process.returncode}"
        if process.returncode is not None and process.returncode < 0:
            name = signal.Signals(-process.returncode).name
            how = f"was ended by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")
        return TrainingError(
            f"worker {number} of the loader (process {process.pid}) {how}; "
            "--resume goes on from the last checkpoint, fewer --workers need less memory"
        )


def forget_jittors_handler() -> None:
    """Jittor, once imported, ends the whole process when any child dies by a signal; ours report their deaths."""
    default = signal.getsignal(signal.SIGCHLD) in (signal.SIG_DFL, None)
    if default and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _occupy_standard_streams() -> None:
    """A job may have no standard streams: what is opened next would get their numbers, which a worker gives to its own."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(descriptor)


def _end(owner: int, processes: list[children.Child], connections: list[Connection]) -> None:
    if os.getpid() != owner:  # a process that was forked off this one: the workers are not its own
        return
    for connection in connections:
        connection.close()
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()
