"""TIFF: every mode against pixels known beforehand; what must not be decoded; nothing on standard error."""

import io
import random
import struct

import numpy as np
import pytest
from PIL import Image

from jvan.errors import PictureError
from jvan.pictures.read import read_picture

from .drawing import colours, smooth
from .test_read import SIDES, stored_for


def tiff(array, **options) -> bytes:
    out = io.BytesIO()
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(out, "TIFF", **options)
    return out.getvalue()


def pixels(tmp_path, data):
    (tmp_path / "a.tif").write_bytes(data)
    picture = read_picture(tmp_path / "a.tif")
    assert picture.mode == "RGB"
    return np.asarray(picture)


def refused(tmp_path, data) -> str:
    with pytest.raises(PictureError) as caught:
        pixels(tmp_path, data)
    assert str(caught.value).startswith(f"{tmp_path / 'a.tif'}: ") and "\n" not in str(caught.value)
    return str(caught.value)


def changed(data: bytes, tag: int, value: int) -> bytes:
    """The file with another value of a tag, or with this tag in place of its last one, as a 32-bit number."""
    at = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, at)[0]
    rows = [at + 2 + 12 * n for n in range(count)]
    row = next((row for row in rows if struct.unpack_from("<H", data, row)[0] == tag), rows[-1])
    return data[:row] + struct.pack("<HHII", tag, 4, 1, value) + data[row + 12 :]


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("big", [False, True])
def test_colours_are_kept(tmp_path, compression, big):
    assert np.array_equal(pixels(tmp_path, tiff(colours(), compression=compression, big_tiff=big)), colours())


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_is_what_pillow_makes_of_it(tmp_path, mode):
    image = Image.fromarray(colours()).convert(mode)
    assert np.array_equal(pixels(tmp_path, tiff(image)), np.asarray(image.convert("RGB")))


def test_sixteen_bits_keep_the_high_byte_and_white_may_be_zero(tmp_path):
    deep = np.random.default_rng(0).integers(0, 65536, (9, 30), dtype=np.uint16)
    data = tiff(deep)
    assert np.array_equal(pixels(tmp_path, data)[..., 0], deep // 256)
    assert np.array_equal(pixels(tmp_path, changed(data, 262, 0))[..., 0], (65535 - deep) // 256)


@pytest.mark.parametrize(("high", "divisor"), [(255, 1), (65535, 257)])
def test_thirty_two_bits_are_of_the_range_that_their_largest_value_tells(tmp_path, high, divisor):
    grey = np.linspace(0, high, 256).astype(np.int32).reshape(16, 16)
    expected = np.rint(grey / divisor).astype(np.uint8)
    assert np.array_equal(pixels(tmp_path, tiff(grey))[..., 1], expected)
    assert np.array_equal(np.asarray(read_picture(Image.fromarray(grey)))[..., 2], expected)


@pytest.mark.parametrize("value", [-1, 65536, 2**31 - 1])
def test_other_ranges_are_refused(tmp_path, value):
    grey = np.full((4, 5), 7, np.int32)
    grey[2, 3] = value
    assert f"{value:,}" in refused(tmp_path, tiff(grey))
    with pytest.raises(PictureError, match="no defined range"):
        read_picture(Image.fromarray(grey))


def test_colours_without_a_defined_range_are_named(tmp_path):
    assert "floating-point" in refused(tmp_path, tiff(np.ones((4, 5), np.float32)))
    assert "CIE Lab" in refused(tmp_path, tiff(Image.new("LAB", (5, 4))))


def test_the_first_page_counts(tmp_path):
    pages = [Image.new("RGB", (12, 9), colour) for colour in ("red", "lime", "blue")]
    assert np.array_equal(
        pixels(tmp_path, tiff(pages[0], save_all=True, append_images=pages[1:])), np.asarray(pages[0])
    )


@pytest.mark.parametrize("orientation", SIDES)
def test_it_is_turned_upright_once(tmp_path, orientation):
    upright = colours(7, 11)
    data = tiff(stored_for(upright, orientation), tiffinfo={274: orientation})
    assert np.array_equal(pixels(tmp_path, data), upright)


@pytest.mark.parametrize("side", [20_000, 2**31 - 1])
def test_decompression_bombs_are_refused(tmp_path, side):
    data = tiff(colours(), compression="tiff_lzw")
    assert "too large" in refused(tmp_path, changed(changed(data, 256, side), 257, side))


@pytest.mark.parametrize(("side", "wanted"), [(1 << 16, "its tiles have 4,294,967,296 bytes"), (16, "")])
def test_a_tile_larger_than_any_memory_is_refused(tmp_path, side, wanted):
    """Of a picture of 16×16 pixels."""
    packed = bytes([129, 7, 129, 7])  # PackBits: 128 times 7, twice
    tags = {256: 16, 257: 16, 258: 8, 259: 32773, 262: 1, 277: 1, 322: side, 323: side, 324: 8, 325: len(packed)}
    rows = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    data = struct.pack("<4sI", b"II*\0", 12) + packed + struct.pack("<H", len(tags)) + rows + bytes(4)
    if wanted:
        assert wanted in refused(tmp_path, data)
    else:
        assert (pixels(tmp_path, data) == 7).all()


def test_a_raw_file_is_no_picture(tmp_path):
    raw = tiff(colours(), tiffinfo={50706: b"\1\4\0\0"})
    assert "raw file" in refused(tmp_path, raw)
    assert "raw file" in refused(tmp_path, tiff(colours(), tiffinfo={254: 1, 330: 8}))


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "jpeg", "group4"])
def test_mutated_files_give_a_picture_or_one_line_and_nothing_is_printed(tmp_path, compression, capfd):
    image = Image.fromarray(smooth())
    data = tiff(image.convert("1") if compression == "group4" else image, compression=compression)
    rng, failed = random.Random(str(compression)), 0
    for _ in range(100):
        mutant = bytearray(data[: rng.choice((len(data), len(data), len(data) * 2 // 3))])
        for _ in range(rng.randint(1, 8)):
            mutant[rng.randrange(4, len(mutant))] = rng.randrange(256)
        try:
            pixels(tmp_path, bytes(mutant))
        except PictureError as error:
            failed += 1
            assert "\n" not in str(error)
    assert failed and capfd.readouterr() == ("", "")


def test_errors_that_pillow_keeps_to_itself_are_damage(tmp_path, capfd):
    """It asks libtiff for JPEG's colours at once, and is given what was read until then."""
    data = bytearray(tiff(smooth(64, 64), compression="jpeg"))
    at = data.index(b"\xff\xc0")
    data[at + 1] = 0xCE
    assert "damaged or truncated TIFF" in refused(tmp_path, bytes(data))
    assert capfd.readouterr() == ("", "")
