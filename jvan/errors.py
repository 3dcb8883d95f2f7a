"""What can go wrong for reasons that the user can mend; commands print these as one line."""

from __future__ import annotations

from ._text import printable


class JvanError(Exception):
    """A job failed; the message is one line that names what was found, what was wanted and the fix.

    As text it is fit for a terminal, whatever names it quotes; `plain` has the names as they are.
    `raised_by_all` once `in_all` was called: all of several processes raise it at the same place, and the first alone prints it.
    """

    raised_by_all = False

    def __str__(self) -> str:
        return printable(super().__str__())

    @property
    def plain(self) -> str:
        """The message as it was given, for programs."""
        return super().__str__()

    def in_all(self):
        """This error, as one of all processes."""
        self.raised_by_all = True
        return self


class CheckpointError(JvanError, ValueError):
    """A weights file is damaged, unsafe, or does not fit the network."""


class NoHead(CheckpointError):
    """Weights without a classification head where one is needed."""


class PictureError(JvanError, ValueError):
    """A picture cannot be read."""


class DownloadError(JvanError, OSError):
    """Published weights could not be fetched or verified."""


class JittorUnavailable(JvanError, ImportError):
    """Jittor cannot start on this machine."""


class JittorRebuilt(JittorUnavailable):
    """Jittor compiled a part of itself anew and must be started again."""


class DataError(JvanError, ValueError):
    """A dataset cannot be used as it is."""


class PrecisionError(JvanError, ValueError):
    """A precision that is not there, or not on this device."""


class MemoryLimitError(JvanError, MemoryError):
    """What is asked for needs more memory than this process may have."""


class TrainingError(JvanError, RuntimeError):
    """Training cannot begin or go on."""
