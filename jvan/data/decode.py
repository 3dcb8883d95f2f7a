"""An encoded picture in memory as upright RGB; what is wrong with it is one line that names it."""

from __future__ import annotations

import io

from PIL import Image

from ..errors import PictureError
from ..inference.pictures import MAX_BYTES, _pillow_errors, _upright_rgb
from ..inference.signature import picture_format


def decode(data: bytes, name: str) -> Image.Image:
    """`data` as `jvan.inference.pictures.read_picture` reads a file of the same bytes; PictureError otherwise."""
    if not data:
        raise PictureError(f"{name}: this file is empty")
    if len(data) > MAX_BYTES:
        raise PictureError(f"{name}: {len(data):,} bytes are too many for a picture (at most {MAX_BYTES:,})")
    kind = picture_format(data[:32])
    if kind is None:
        raise PictureError(f"{name}: not a JPEG, PNG, WebP, BMP or GIF picture")
    damaged = f"damaged or truncated {kind} picture"
    with _pillow_errors(name, damaged), Image.open(io.BytesIO(data), formats=[kind]) as image:
        return _upright_rgb(image)
