"""An encoded picture in memory as upright RGB; what is wrong with it is one line that names it."""

from __future__ import annotations

import io

from PIL import Image

from ..errors import PictureError
from ..inference.pictures import MAX_BYTES, decode_picture


def decode(data: bytes, name: str) -> Image.Image:
    """`data` as `jvan.inference.pictures.read_picture` reads a file of the same bytes; PictureError otherwise."""
    if not data:
        raise PictureError(f"{name}: this file is empty")
    if len(data) > MAX_BYTES:
        raise PictureError(f"{name}: {len(data):,} bytes are too many for a picture (at most {MAX_BYTES:,})")
    return decode_picture(io.BytesIO(data), name)
