"""What kind of picture a file's first bytes announce."""

from __future__ import annotations

import struct

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")  # Pillow's names
READ = "JPEG, PNG, WebP, BMP, GIF or TIFF"  # for messages
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # "+": of more than 4 GB
_BOXED = {  # the brands of ISO files, bytes 8 to 11
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    b"crx ": "camera's raw (CR3)",
}
_OTHERS = (
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xffO\xffQ", "JPEG 2000"),
    (b"8BPS", "Photoshop"),
    (b"%PDF", "PDF"),
)
_CR2 = "camera's raw (CR2)"
PICTURES_NOT_READ = ("HEIC", "AVIF", "JPEG XL", "JPEG 2000", _CR2, _BOXED[b"crx "])
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
    if head.startswith(_TIFF) and head[8:10] != b"CR":  # Canon's raw files begin so
        return "TIFF"
    # Two letters would take many a text for a BMP; the size of the header that follows settles it.
    if head.startswith(b"BM") and len(head) >= 18 and struct.unpack_from("<I", head, 14)[0] in _BMP_HEADER_SIZES:
        return "BMP"
    return None


def foreign_format(head: bytes) -> str | None:
    """What is no picture for us, yet known by its first 16 bytes, in words; None for the rest."""
    if head[4:8] == b"ftyp":
        name = _BOXED.get(head[8:12])
        # a file of either kind may bear the common brand and name its own among those that follow
        return "AVIF" if name == "HEIC" and b"avif" in head[16:] else name
    if head.startswith(_TIFF):
        return None if picture_format(head) else _CR2
    return next((name for begin, name in _OTHERS if head.startswith(begin)), None)
