"""Open one picture, whatever its kind, as 8-bit RGB; whatever is wrong with it is one line."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import warnings
from collections.abc import Callable

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from ..errors import PictureError
from .large import Reading, begin, rgb_of
from .signature import READ, foreign_format, picture_format
from .tiff import load_tiff

MAX_BYTES = 2**29  # Pillow reads a whole WebP file at once, whatever it says of its size
WHOLE = Reading()
_ORIENTATION = 0x0112
_TURNS = {  # EXIF 2.3, tag 0x0112: what brings the stored rows and columns upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_picture(source, reading: Reading = WHOLE) -> Image.Image:
    """A path, a PIL image or a uint8 array (H, W), (H, W, 1|3|4) as an upright RGB image.

    As the original pipeline's `convert("RGB")` has it, transparency is dropped, not composited, and
    animations give their first frame. Two things differ from it, both on purpose: a rotation tag is
    obeyed, and 16-bit grey is scaled, where `convert` may clip it to white. PictureError otherwise.
    """
    if isinstance(source, np.ndarray):
        image = _from_array(source)
        with _pillow_errors("this array", "cannot be read", reading):
            return _upright_rgb(image, reading)
    if isinstance(source, Image.Image):
        with _pillow_errors("this PIL image", "cannot be decoded", reading):
            return _upright_rgb(source, reading)
    if isinstance(source, (str, os.PathLike)):
        return _from_file(os.fspath(source), reading)
    raise PictureError(f"a picture is a path, a PIL image or a uint8 array, not {type(source).__name__}")


def decode_picture(file, name: str, reading: Reading = WHOLE) -> Image.Image:
    """What `read_picture` makes of an open file, or of bytes in memory as one; PictureError begins with `name`."""
    head = file.read(32)
    kind = picture_format(head)
    if kind is None:
        other = foreign_format(head)
        what = f"a {other} file, which is not read; convert it to JPEG or PNG" if other else f"not a {READ} picture"
        raise PictureError(f"{name}: {what}")
    file.seek(0)
    with (
        _pillow_errors(name, f"damaged or truncated {kind} picture", reading),
        Image.open(file, formats=[kind]) as image,
    ):
        reading.check(image.size)
        return _upright_rgb(image, reading)


def _from_file(path: str, reading: Reading) -> Image.Image:
    try:
        _check_file(path)
        with open(path, "rb") as file:
            return decode_picture(file, path, reading)
    except OSError as error:
        raise PictureError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except ValueError as error:  # a path with a null character
        raise error if isinstance(error, PictureError) else PictureError(f"{path!r}: {error}") from None


def _check_file(path: str) -> None:
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise PictureError(f"{path}: this is a folder, not a picture")
    if not stat.S_ISREG(status.st_mode):
        raise PictureError(f"{path}: not a regular file")
    check_size(path, status.st_size)


def check_size(name: str, size: int) -> None:
    """PictureError for a file of no bytes, or of too many."""
    if size == 0:
        raise PictureError(f"{name}: this file is empty")
    if size > MAX_BYTES:
        raise PictureError(f"{name}: {size:,} bytes are too many for a picture (at most {MAX_BYTES:,})")


def _from_array(array: np.ndarray) -> Image.Image:
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or channels not in (1, 3, 4) or 0 in array.shape:
        raise PictureError(
            f"this array is {array.dtype} of shape {array.shape}; a picture is uint8 of shape (H, W) or (H, W, 1|3|4)"
        )
    if array.ndim == 3:
        array = array[..., 0] if channels == 1 else array[..., :3]
    return Image.fromarray(np.ascontiguousarray(array))


def _upright_rgb(image: Image.Image, reading: Reading) -> Image.Image:
    if 0 in image.size:
        raise PictureError(f"it has {image.width}×{image.height} pixels, which is no picture")
    if reading.max_pixels is not None:
        reading.check(image.size)
    with contextlib.ExitStack() as held:
        factor = begin(image, reading, reading.held or held)
        inverted = False
        if isinstance(image, TiffImageFile):
            inverted = load_tiff(image)
        else:
            image.load()
        turn = _TURNS.get(_orientation(image))
        rgb = rgb_of(image, factor, _converter(image, inverted))
        return rgb if turn is None else rgb.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """The rotation tag; 1 (upright) where the picture's EXIF block is damaged, as viewers do."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # Pillow's EXIF parser raises nearly every kind; the pixels are unharmed
        return 1


def _converter(image: Image.Image, inverted: bool) -> Callable[[Image.Image], Image.Image]:
    """What makes RGB of the picture, or of a part of it."""
    if image.mode == "F":
        raise PictureError("floating-point pixels have no defined range; convert them to 8 bits first")
    if image.mode == "LAB":
        raise PictureError("its colours are CIE Lab, which are not read; convert it to RGB first")
    if image.mode == "I":
        eight_bit = _high_byte_of_clipped if image.format == "PNG" else _of_range(*image.getextrema())
    elif image.mode.startswith("I"):
        eight_bit = _high_byte_inverted if inverted else _high_byte
    else:
        return lambda part: part.convert("RGB")
    return lambda part: Image.fromarray(eight_bit(np.asarray(part)).astype(np.uint8)).convert("RGB")


def _high_byte(pixels: np.ndarray) -> np.ndarray:
    return pixels >> 8


def _high_byte_inverted(pixels: np.ndarray) -> np.ndarray:
    return (65535 - pixels) >> 8


def _high_byte_of_clipped(pixels: np.ndarray) -> np.ndarray:
    """Of 16-bit PNG as some versions of Pillow give it, in 32 bits."""
    return np.clip(pixels, 0, 65535) >> 8


def _of_range(low: int, high: int) -> Callable[[np.ndarray], np.ndarray]:
    """Of 32-bit grey its largest value tells how many bits are meant; PictureError where that is not clear."""
    if low < 0 or high > 65535:
        raise PictureError(
            f"32-bit pixels from {low:,} to {high:,} have no defined range; convert them to 8 bits first"
        )
    return (lambda pixels: pixels) if high <= 255 else (lambda pixels: (pixels + 128) // 257)


@contextlib.contextmanager
def _pillow_errors(name: str, otherwise: str, reading: Reading):
    """Turn whatever Pillow raises into a PictureError that begins with `name`, and keep its warnings in."""
    with _quiet.allowing(reading.max_pixels or 0):
        try:
            yield
        except PictureError as error:
            raise PictureError(f"{name}: {error}") from None
        except Image.DecompressionBombError:
            limit = f"{reading.limit:,} pixels; shrink it first, or allow more with max_pixels (--max-pixels)"
            raise PictureError(f"{name}: too large, more than {limit}") from None
        except MemoryError:
            raise PictureError(f"{name}: not enough memory to decode it") from None
        except Exception as error:  # decoders of damaged data raise nearly every kind
            detail = "" if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())
            raise PictureError(f"{name}: {otherwise}" + (f" ({detail})" if detail else "")) from None


class _QuietPillow:
    """While any thread decodes, Pillow's warnings are ignored, and its limit is no lower than what the user allows.

    `warnings.catch_warnings` changes the whole process's filters, so threads that overlapped would
    restore each other's: the first one in sets them, the last one out restores them.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._inside = 0

    @contextlib.contextmanager
    def allowing(self, pixels: int):
        self._begin(pixels)
        try:
            yield
        finally:
            self._end()

    def _begin(self, pixels: int) -> None:
        with self._lock:
            if self._inside == 0:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
                warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
                self._limit = Image.MAX_IMAGE_PIXELS
            if self._limit is not None:
                # Pillow makes an error of twice its limit, which is the process's; `Reading.check` is each picture's own.
                Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, -(-pixels // 2))
            self._inside += 1

    def _end(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._filters.__exit__(None, None, None)
                Image.MAX_IMAGE_PIXELS = self._limit


_quiet = _QuietPillow()
