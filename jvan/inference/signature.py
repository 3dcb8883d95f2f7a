"""What kind of picture a file's first bytes announce."""

from __future__ import annotations

import struct

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")  # Pillow's names
_BMP_HEADER_SIZES = {12, 16, 40, 52, 56, 64, 108, 124}


def picture_format(head: bytes) -> str | None:
    """One of FORMATS, or None, from at least 18 bytes; suffixes lie too often to be asked."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    # Two letters would take many a text for a BMP; the size of the header that follows settles it.
    if head.startswith(b"BM") and len(head) >= 18 and struct.unpack_from("<I", head, 14)[0] in _BMP_HEADER_SIZES:
        return "BMP"
    return None
