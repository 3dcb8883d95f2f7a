"""Every kind of picture against pixels known beforehand; every bad one as one line."""

import io
import os
import random
import stat
import threading
import warnings

import numpy as np
import pytest
from PIL import Image

from jvan.errors import PictureError
from jvan.pictures.read import MAX_BYTES, read_picture

from .drawing import colours, png, smooth

# EXIF 2.3, tag 0x0112: which side of the scene the stored row 0 and column 0 show.
SIDES = {
    1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
    5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
}  # fmt: skip
LOSSLESS = [("a.png", {}), ("a.webp", {"lossless": True}), ("a.bmp", {})]


def stored_for(upright, orientation):
    """The rows and columns that a camera with this orientation writes for a scene."""
    height, width = upright.shape[:2]
    row_side, column_side = SIDES[orientation]
    turned = orientation > 4
    stored = np.zeros((width, height, 3) if turned else (height, width, 3), np.uint8)
    for y in range(height):
        for x in range(width):
            distance = {"top": y, "bottom": height - 1 - y, "left": x, "right": width - 1 - x}
            stored[distance[row_side], distance[column_side]] = upright[y, x]
    return stored


def pixels(source):
    picture = read_picture(source)
    assert picture.mode == "RGB"
    return np.asarray(picture)


def save(path, image, **options):
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return str(path)


@pytest.mark.parametrize(("name", "options"), LOSSLESS)
@pytest.mark.parametrize("renamed", ["picture", "picture.txt", "picture.jpg", "ü 图\n.x"])
def test_content_decides_and_pixels_are_kept(tmp_path, name, options, renamed):
    expected = colours()
    os.rename(save(tmp_path / name, expected, **options), tmp_path / renamed)
    assert np.array_equal(pixels(tmp_path / renamed), expected)
    assert np.array_equal(pixels(str(tmp_path / renamed)), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("name", "options"), [LOSSLESS[0], LOSSLESS[1]])
def test_exif_orientation_turns_the_picture_upright(tmp_path, name, options, orientation):
    upright = colours(7, 11)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / name, stored_for(upright, orientation), exif=exif, **options)
    assert np.array_equal(pixels(path), upright)
    with Image.open(path) as image:
        assert np.array_equal(pixels(image), upright)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_of_jpeg(tmp_path, orientation):
    upright = smooth()
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.jpg", stored_for(upright, orientation), exif=exif, quality=95)
    assert np.abs(pixels(path).astype(int) - upright).max() < 20


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_impossible_orientation_is_no_orientation(tmp_path, value):
    exif = Image.Exif()
    exif[0x0112] = value
    assert np.array_equal(pixels(save(tmp_path / "a.png", colours(), exif=exif)), colours())


def test_damaged_exif_harms_nothing(tmp_path):
    plain = save(tmp_path / "plain.jpg", smooth())
    block = b"Exif\0\0MM\0*\0\0\0\x08\0\x09\x01\x12\0\x03\xff\xff\xff\xff\0\x06"
    assert np.array_equal(pixels(save(tmp_path / "a.jpg", smooth(), exif=block)), pixels(plain))


def test_transparency_is_dropped_not_composited(tmp_path):
    alpha = np.dstack([colours(), colours(seed=1)[..., 0]])
    alpha[0, 0, 3] = 0
    assert np.array_equal(pixels(save(tmp_path / "a.png", alpha)), alpha[..., :3])
    grey = np.dstack([colours()[..., 0], colours()[..., 1]])
    expected = np.repeat(grey[..., :1], 3, axis=2)
    assert np.array_equal(pixels(save(tmp_path / "b.png", _la(grey))), expected)


def _la(array):
    return Image.merge("LA", [Image.fromarray(np.ascontiguousarray(array[..., i])) for i in range(2)])


@pytest.mark.parametrize("transparency", [None, 3, bytes(range(256))])
@pytest.mark.parametrize("name", ["a.png", "a.gif"])
def test_palette(tmp_path, name, transparency):
    palette = colours(16, 16, seed=2).reshape(256, 3)
    indices = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.fromarray(indices)
    image.putpalette(palette.tobytes())
    options = {} if transparency is None or (name == "a.gif" and transparency != 3) else {"transparency": transparency}
    assert np.array_equal(pixels(save(tmp_path / name, image, **options)), palette[indices])


def test_grey_and_one_bit(tmp_path):
    grey = colours()[..., 0]
    assert np.array_equal(pixels(save(tmp_path / "a.png", grey)), np.dstack([grey] * 3))
    bits = np.where(grey > 127, 255, 0).astype(np.uint8)
    image = Image.fromarray(bits).convert("1", dither=Image.Dither.NONE)
    assert np.array_equal(pixels(save(tmp_path / "b.png", image)), np.dstack([bits] * 3))
    jpeg = save(tmp_path / "c.jpg", smooth()[..., 0], quality=95)
    assert np.abs(pixels(jpeg).astype(int) - smooth()[..., :1]).max() < 8


@pytest.mark.parametrize("shape", [(9, 300), (9, 300, 3)])
def test_sixteen_bits_keep_the_high_byte(tmp_path, shape):
    deep = np.random.default_rng(0).integers(0, 65536, shape, dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(png(deep))
    high = (deep // 256).astype(np.uint8)
    assert np.array_equal(pixels(tmp_path / "a.png"), high if deep.ndim == 3 else np.dstack([high] * 3))


def test_cmyk_jpeg_shows_its_colours(tmp_path):
    colour = np.full((16, 16, 3), (200, 40, 90), np.uint8)
    path = save(tmp_path / "a.jpg", Image.fromarray(colour).convert("CMYK"), quality=95)
    with Image.open(path) as image:
        assert image.mode == "CMYK" and "adobe" in image.info
    assert np.abs(pixels(path).astype(int) - colour).max() < 12


@pytest.mark.parametrize(("name", "options"), [("a.gif", {}), ("a.webp", {"lossless": True}), ("a.png", {})])
def test_animations_give_their_first_frame(tmp_path, name, options):
    frames = [Image.new("RGB", (12, 9), colour) for colour in [(255, 0, 0), (0, 255, 0), (0, 0, 255)]]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=50, **options)
    with Image.open(tmp_path / name) as image:
        assert image.n_frames == 3
    assert np.array_equal(pixels(tmp_path / name), np.asarray(frames[0]))


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3), (5, 7, 4)])
def test_arrays(shape):
    array = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    three = array.reshape(5, 7, -1)[..., :3]
    assert np.array_equal(pixels(array), np.broadcast_to(three, (5, 7, 3)))
    assert np.array_equal(pixels(array[::-1, ::2]), np.broadcast_to(three[::-1, ::2], (5, 4, 3)))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8), np.uint16),
        np.zeros((2, 8, 8, 3), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros(8, np.uint8),
    ],
)
def test_other_arrays_are_refused(array):
    with pytest.raises(PictureError, match="is uint8 of shape"):
        read_picture(array)


@pytest.mark.parametrize("thing", [None, 3, b"a.jpg", [1]])
def test_other_things_are_refused(thing):
    with pytest.raises(PictureError, match=type(thing).__name__):
        read_picture(thing)


def reason(path):
    with pytest.raises(PictureError) as caught:
        read_picture(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message.removeprefix(f"{path}: ")


def encoded(kind):
    file = io.BytesIO()
    Image.fromarray(smooth()).save(file, kind)
    return file.getvalue()


KINDS = ["JPEG", "PNG", "WEBP", "BMP", "GIF"]


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_files_are_named(tmp_path, kind):
    data, path = encoded(kind), tmp_path / "a.jpg"
    for length in sorted({20, 40, len(data) // 3, len(data) // 2, len(data) * 3 // 4}):
        path.write_bytes(data[:length])
        assert kind in reason(path)


def test_what_is_no_picture_is_named(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"")
    assert reason(path) == "this file is empty"
    for content in [
        b"\0",
        b"hello",
        b"BM is how this text begins, and no more than that",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
    ]:
        path.write_bytes(content)
        assert reason(path) == "not a JPEG, PNG, WebP, BMP, GIF or TIFF picture"
    assert reason(tmp_path / "none.png") == "no such file or directory"
    assert "folder" in reason(tmp_path)
    with pytest.raises(PictureError, match="null"):
        read_picture("a\0b.jpg")


FOREIGN = {
    "HEIC": b"\0\0\0\x24ftypheic\0\0\0\0mif1heic",
    "HEIC ": b"\0\0\0\x24ftypmif1\0\0\0\0mif1heic",
    "AVIF": b"\0\0\0\x20ftypavif\0\0\0\0avifmif1",
    "AVIF ": b"\0\0\0\x20ftypmif1\0\0\0\0avifmif1",
    "JPEG XL": b"\xff\x0a" + bytes(30),
    "JPEG XL ": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(20),
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(20),
    "camera's raw (CR2)": b"II*\0\x10\0\0\0CR\2\0" + bytes(20),
    "camera's raw (CR3)": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
    "PDF": b"%PDF-1.7\n",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_other_formats_are_named(tmp_path, kind):
    (tmp_path / "a.jpg").write_bytes(FOREIGN[kind])
    assert reason(tmp_path / "a.jpg") == f"a {kind.strip()} file, which is not read; convert it to JPEG or PNG"


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_a_picture_without_pixels(size):
    with pytest.raises(PictureError, match=f"{size[0]}×{size[1]} pixels"):
        read_picture(Image.new("RGB", (9, 9)).crop((3, 3, 3 + size[0], 3 + size[1])))


def test_a_png_of_sixteen_bits_in_the_mode_of_older_pillows():
    grey = Image.fromarray(np.array([[0, 255, 256, 65535]], np.int32))
    grey.format = "PNG"
    assert pixels(grey)[0, :, 0].tolist() == [0, 0, 1, 255]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    assert reason(tmp_path / "a.jpg") == "not a regular file"


def test_unreadable_file(tmp_path):
    path = tmp_path / "a.png"
    save(path, colours())
    path.chmod(stat.S_IWUSR)
    if os.access(path, os.R_OK):
        pytest.skip("root may read everything")
    assert reason(path) == "permission denied"


@pytest.mark.parametrize("side", [14_000, 20_000, 2**31 - 1])
def test_decompression_bombs_are_refused(tmp_path, side):
    path = tmp_path / "a.png"
    path.write_bytes(png(colours(), claim=(side, side)))
    assert "too large" in reason(path)


def test_enormous_files_are_refused_unread(tmp_path):
    path = tmp_path / "a.webp"
    with open(path, "wb") as file:
        file.write(encoded("WEBP"))
        file.truncate(MAX_BYTES + 1)
    assert "too many" in reason(path)


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files_give_a_picture_or_one_line(tmp_path, kind):
    data, rng, path = encoded(kind), random.Random(kind), tmp_path / "mutant"
    failed = 0
    for _ in range(150):
        mutant = bytearray(data)
        for _ in range(rng.randint(1, 8)):
            mutant[rng.randrange(len(mutant) if rng.random() < 0.5 else 60)] = rng.randrange(256)
        path.write_bytes(mutant)
        try:
            assert read_picture(path).mode == "RGB"
        except PictureError as error:
            failed += 1
            assert str(error).startswith(str(path)) and "\n" not in str(error)
    assert failed


def test_pillow_s_warnings_stay_in_and_filters_are_restored(tmp_path):
    image = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    image.putpalette(colours(16, 16).tobytes())
    path = save(tmp_path / "a.png", image, transparency=bytes(range(256)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="Transparency"), Image.open(path) as opened:
            opened.convert("RGB")
        before, errors = list(warnings.filters), []

        def read_many():
            try:
                for _ in range(20):
                    read_picture(path)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=read_many) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors and warnings.filters == before
