"""TIFF files: what is looked at before Pillow decodes one, and the errors that libtiff would print."""

from __future__ import annotations

import ctypes
import functools
import logging
import threading

from PIL import Image

from ..errors import PictureError

NEW_SUBFILE_TYPE, BITS, PHOTOMETRIC, SAMPLES, TILE_WIDTH, TILE_HEIGHT = 254, 258, 262, 277, 322, 323  # TIFF 6.0
ORIENTATION, ROWS_PER_STRIP = 274, 278
SUB_IFDS, DNG_VERSION = 330, 50706  # TIFF's technical note 1; Adobe's DNG 1.4
REDUCED = 1  # of NEW_SUBFILE_TYPE: a smaller one of another picture
WHITE_IS_ZERO = 0
MAX_TILE = 1 << 28  # bytes; libtiff takes memory for a whole tile, however small the picture is
_met = threading.local()


def load_tiff(image) -> bool:
    """Decode the first page; whether its 16-bit grey is to be inverted, which Pillow leaves out.

    PictureError for what is no picture or needs too much memory, OSError where libtiff met an error: Pillow tells but a part of them.
    """
    _check(image.tag_v2)
    inverted = image.mode.startswith("I") and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO
    _silence()
    _met.errors = 0
    image.load()
    if _met.errors:
        raise OSError("its decoder found errors")
    return inverted


def decoding_bytes(image, decoded: int) -> int:
    """What libtiff and Pillow keep beside the decoded picture: a strip, and a copy of it where it is to be turned."""
    tags = image.tag_v2
    width, height = image.size
    strip = (
        width * min(height, tags.get(ROWS_PER_STRIP, height)) * max(tags.get(BITS, (1,))) * tags.get(SAMPLES, 1) // 8
    )
    return max(strip, decoded if tags.get(ORIENTATION, 1) != 1 else 0)


def _check(tags) -> None:
    if DNG_VERSION in tags or (SUB_IFDS in tags and tags.get(NEW_SUBFILE_TYPE, 0) & REDUCED):
        raise PictureError("a camera's raw file, of which only a thumbnail could be read; develop it as JPEG or PNG")
    bits = max(tags.get(BITS, (1,))) * tags.get(SAMPLES, 1)
    tile = tags.get(TILE_WIDTH, 0) * tags.get(TILE_HEIGHT, 0) * bits // 8
    if tile > MAX_TILE:
        raise PictureError(f"its tiles have {tile:,} bytes, and at most {MAX_TILE:,} are read; save it anew")


@functools.lru_cache(maxsize=1)
def _silence() -> None:
    """Have libtiff call us where it would print; a Pillow that has it built in, as on Windows, goes on printing."""
    logging.getLogger("PIL").addHandler(logging.NullHandler())  # else Python prints what Pillow logs
    try:
        library = ctypes.CDLL(Image.core.__file__)  # with the libraries that it needs
        library.TIFFSetErrorHandler(_count)
        library.TIFFSetWarningHandler(None)
    except (OSError, AttributeError):
        pass


@ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
def _count(module, words, values) -> None:
    """In the thread that decodes."""
    _met.errors = getattr(_met, "errors", 0) + 1
