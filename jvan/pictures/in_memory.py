"""Pictures that come as bytes or as open files."""

from __future__ import annotations

import io

from PIL import Image

from ..errors import PictureError
from .large import Reading
from .read import MAX_BYTES, WHOLE, check_size, decode_picture

BYTES = (bytes, bytearray, memoryview)


class InMemory:
    """An encoded picture in memory, and its name for messages."""

    def __init__(self, data: bytes, name: str):
        self.data, self.name = data, name

    def decode(self, reading: Reading = WHOLE) -> Image.Image:
        """As `read_picture` has it; PictureError for what is none."""
        check_size(self.name, len(self.data))
        return decode_picture(io.BytesIO(self.data), self.name, reading)


def is_encoded(image) -> bool:
    """Whether this is a picture's bytes, or an open file."""
    return isinstance(image, BYTES) or hasattr(image, "read")


def in_memory(image) -> InMemory | PictureError:
    """The bytes, or all that an open file holds, from its beginning where it can be wound back."""
    if isinstance(image, BYTES):
        return InMemory(bytes(image), "these bytes")
    name = getattr(image, "name", None)
    name = name if isinstance(name, str) else "this open file"
    try:
        if hasattr(image, "seekable") and image.seekable():
            image.seek(0)
        data = image.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        return PictureError(f"{name}: {error}")
    if not isinstance(data, bytes):
        return PictureError(f"{name}: gives {type(data).__name__}, not bytes; open it in binary mode")
    return InMemory(data, name)
