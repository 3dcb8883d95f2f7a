"""Event files for TensorBoard, written row by row in the trainer's own thread."""

from __future__ import annotations

import contextlib
import secrets
import time
from pathlib import Path


class Board:
    """Scalars in `folder`; those that an earlier session wrote after `step` are hidden. ImportError without tensorboardX.

    tensorboardX's SummaryWriter writes from its own thread, which a full disk ends; the queue to it is then full for
    ever, and whoever adds to it waits (2.6.5).
    """

    def __init__(self, folder: Path, step: int):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.summary import scalar

        self._event, self._scalar = Event, scalar
        folder.mkdir(parents=True, exist_ok=True)
        # tensorboardX follows links: nobody is to foresee the name and put one there
        self._file = EventsWriter(str(folder / "events"), filename_suffix=f".{step}.{secrets.token_hex(6)}")
        self._path = str(folder)
        if step:
            self._write(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))

    def add(self, step: int, values: dict[str, float]) -> None:
        """Values by name; OSError, with the folder's name, where they cannot be written."""
        for name, value in values.items():
            self._write(self._event(step=step, wall_time=time.time(), summary=self._scalar(name, value)))

    def _write(self, event) -> None:
        try:
            self._file.write_event(event)
            self._file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._path) from error

    def close(self) -> None:
        """Every event is in the file already; what cannot be written was told of before."""
        with contextlib.suppress(OSError):
            self._file.close()
