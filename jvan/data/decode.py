"""An encoded picture in memory as upright RGB; what is wrong with it is one line that names it."""

from __future__ import annotations

import io

from PIL import Image

from ..inference.pictures import WHOLE, Reading, check_size, decode_picture


def decode(data: bytes, name: str, reading: Reading = WHOLE) -> Image.Image:
    """`data` as `jvan.inference.pictures.read_picture` reads a file of the same bytes; PictureError otherwise."""
    check_size(name, len(data))
    return decode_picture(io.BytesIO(data), name, reading)
