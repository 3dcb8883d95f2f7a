"""An encoded picture in memory as upright RGB; what is wrong with it is one line that names it."""

from __future__ import annotations

import io

from PIL import Image

from ..pictures.read import WHOLE, Reading, check_size, decode_picture


def decode(data: bytes, name: str, reading: Reading = WHOLE) -> Image.Image:
    """`data` as `jvan.pictures.read.read_picture` reads a file of the same bytes; PictureError otherwise."""
    check_size(name, len(data))
    return decode_picture(io.BytesIO(data), name, reading)
