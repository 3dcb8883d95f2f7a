"""Pictures of very many pixels: read smaller where that suffices, one at a time, in bounded memory."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import NamedTuple

from PIL import Image

from ..errors import JvanError, PictureError
from ..memory_limit import check_memory, gigabytes
from .tiff import decoding_bytes

try:
    import fcntl
except ImportError:  # Windows, where no other process decodes
    fcntl = None

# Pixels. Up to here a picture is decoded whole: resizing from fewer pixels would change what the original pipeline gives.
LARGE = 30_000_000
GAP = 3  # times the short side that is wanted are left, from which a filter makes nearly what it makes of the whole
STRIP = 1 << 22  # pixels that are converted at a time
MOST_MEMORY = 1_500_000_000  # bytes for a picture, unless the user named a number of pixels
USUAL_LIMIT = 89_478_485  # Pillow's own, where a program has put None in its place
_turn = threading.Lock()
_descriptor = None


class Reading(NamedTuple):
    """What limits the reading of a picture.

    More than `max_pixels` are refused; None: than Pillow's own limit, of which it makes an error at the double. Of more than
    LARGE, GAP times the short side `short` may be all that is left. `held` keeps the turn of such a picture until it is used.
    """

    max_pixels: int | None = None
    short: int | None = None
    held: contextlib.ExitStack | None = None

    @property
    def limit(self) -> int:
        return 2 * (Image.MAX_IMAGE_PIXELS or USUAL_LIMIT) if self.max_pixels is None else self.max_pixels

    def check(self, size: tuple[int, int]) -> None:
        """PictureError for too many pixels."""
        pixels = size[0] * size[1]
        if pixels > self.limit:
            more = "shrink it first, or allow more with max_pixels (--max-pixels)"
            raise PictureError(f"too large, {size[0]}×{size[1]} are more than {self.limit:,} pixels; {more}")


def share_turn(descriptor: int) -> None:
    """Have this process take its turn with all others that call this for the same open file."""
    global _descriptor
    _descriptor = descriptor


@contextlib.contextmanager
def turn():
    """Within, no other large picture is decoded, in any thread or worker."""
    with _turn:
        if _descriptor is None or fcntl is None:
            yield
            return
        fcntl.lockf(_descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(_descriptor, fcntl.LOCK_UN)


def begin(image: Image.Image, reading: Reading, held: contextlib.ExitStack) -> int:
    """Before a picture is decoded: by how much it is to be shrunk then, 1 for not at all; PictureError where it takes too much memory."""
    if image.width * image.height <= LARGE:
        return 1
    held.enter_context(turn())
    factor = max(1, min(image.size) // (GAP * reading.short)) if reading.short else 1
    whole, scale = image.size, 1
    if image.format in ("JPEG", "MPO") and factor > 1 and getattr(image, "tile", None):
        image.draft(image.mode, (image.width // factor, image.height // factor))
        scale = max(1, round(whole[0] / image.width))
    factor = max(1, factor // scale)
    _check_memory(_bytes(image, whole, factor), whole, reading)
    return factor


def _bytes(image: Image.Image, whole: tuple[int, int], factor: int) -> int:
    """Of the decoded picture, of what its decoder keeps, and of the result, which may be turned."""
    each = 2 if image.mode.startswith("I;16") else 1 if image.mode in ("1", "L", "P") else 4
    pixels, stored = image.width * image.height, whole[0] * whole[1]
    decoder = 0
    if image.format == "WEBP":
        decoder = 12 * stored  # two canvases and a copy
    elif image.format == "TIFF":
        decoder = decoding_bytes(image, each * pixels)
    elif "progressive" in image.info:
        layers = [(across, down) for _, across, down, _ in image.layer]
        most = max(across for across, _ in layers) * max(down for _, down in layers)
        decoder = 2 * stored * sum(across * down for across, down in layers) // most  # coefficients
    return each * pixels + decoder + 4 * pixels // factor**2 * (1 if factor == 1 else 2)


def _check_memory(needed: int, size: tuple[int, int], reading: Reading) -> None:
    what = f"{size[0]}×{size[1]} pixels"
    if reading.max_pixels is None and needed > MOST_MEMORY:
        most = f"at most {gigabytes(MOST_MEMORY)} are taken unless max_pixels (--max-pixels) is given"
        raise PictureError(f"{what} take {gigabytes(needed)} of memory to decode, and {most}; shrink it first")
    try:
        check_memory(needed, f"decoding {what}", "shrink it first")
    except JvanError as error:
        raise PictureError(error.plain) from None


def rgb_of(image: Image.Image, factor: int, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """`convert` of the picture, 1/`factor` of its size, made in strips, so that it is never there a second time."""
    if factor == 1:
        return convert(image)
    rows = max(1, STRIP // image.width // factor) * factor
    result = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    for top in range(0, image.height, rows):
        strip = convert(image.crop((0, top, image.width, min(image.height, top + rows))))
        result.paste(strip.reduce(factor), (0, top // factor))
    return result
