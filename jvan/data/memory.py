"""Memory that several processes share and that nobody can leak: it has no name, and ends with its last user."""

from __future__ import annotations

import mmap
import os
import pickle
import tempfile

ALIGN = 4096


class SharedMemory:
    """`size` bytes behind a file descriptor, which a child process may inherit and map again."""

    def __init__(self, size: int, descriptor: int | None = None):
        if descriptor is None:
            descriptor = _nameless_file()
            os.ftruncate(descriptor, max(size, 1))
        self.descriptor, self.size = descriptor, max(size, 1)
        self.map = mmap.mmap(descriptor, self.size)

    def close(self) -> None:
        """Let go of the descriptor; the mapping ends when nothing points into it any more."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):  # not limited by the size of /dev/shm, which is 64 MiB in many containers
        return os.memfd_create("jvan-loader")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def share(thing) -> tuple[bytes, list[tuple[int, int]], SharedMemory]:
    """A pickle whose arrays lie in shared memory, at these (offset, size); `unshare` puts it together without a copy."""
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(thing, protocol=5, buffer_callback=buffers.append)
    places, end = [], 0
    for buffer in buffers:
        places.append((end, buffer.raw().nbytes))
        end += -(-buffer.raw().nbytes // ALIGN) * ALIGN
    memory = SharedMemory(end)
    for (offset, size), buffer in zip(places, buffers):
        memory.map[offset : offset + size] = buffer.raw()
    return data, places, memory


def unshare(data: bytes, places: list[tuple[int, int]], memory: SharedMemory):
    """What `share` was given; its arrays are read-only views of the shared memory."""
    view = memoryview(memory.map).toreadonly()
    buffers = [view[offset : offset + size] for offset, size in places]
    return pickle.loads(data, buffers=buffers)  # noqa: S301  from the process that started this one, never from a file
