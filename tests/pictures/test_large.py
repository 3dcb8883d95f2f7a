"""Pictures of very many pixels, with the limits lowered so that they need not have so many."""

import contextlib
import fcntl
import os
import select
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from jvan.errors import PictureError
from jvan.pictures import large
from jvan.pictures.large import Reading
from jvan.pictures.preprocess import preprocess, short_side
from jvan.pictures.read import read_picture
from jvan.preprocessing import Preprocessing

from .drawing import smooth

SMALL = Preprocessing(size=32, crop_pct=0.9)
KINDS = [("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "I;16"),
         ("WEBP", "RGB"), ("TIFF", "CMYK"), ("GIF", "P"), ("BMP", "RGB")]  # fmt: skip


@pytest.fixture
def lowered(monkeypatch):
    monkeypatch.setattr(large, "LARGE", 100_000)
    monkeypatch.setattr(large, "STRIP", 30_000)


def saved(path, kind, mode="RGB", size=(701, 503), **options):
    image = Image.fromarray(smooth(size[1], size[0]))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    image = image if image.mode == mode else image.convert(mode)
    image.save(path, kind, **options)
    return path


@pytest.mark.parametrize(("kind", "mode"), KINDS)
def test_fewer_pixels_are_enough_and_look_the_same(tmp_path, kind, mode, lowered, monkeypatch):
    path = saved(tmp_path / "a", kind, mode)
    reading = Reading(short=short_side(SMALL))
    found = read_picture(path, reading)
    assert found.mode == "RGB" and 3 * 35 <= min(found.size) < 503 / 3
    with Image.open(path) as opened:
        assert read_picture(opened, reading).size[0] < 701 / 3
    monkeypatch.setattr(large, "LARGE", 1 << 30)
    whole = read_picture(path, reading)
    assert whole.size == (701, 503)
    assert np.abs(preprocess(found, SMALL) - preprocess(whole, SMALL)).max() < 0.1  # of values from -1 to 1


def test_usual_pictures_are_read_whole(tmp_path):
    """30 million pixels are what a good camera has; recorded results were made of whole pictures."""
    assert large.LARGE == 30_000_000
    path = saved(tmp_path / "a", "JPEG")
    assert np.array_equal(np.asarray(read_picture(path, Reading(short=8))), np.asarray(read_picture(path)))


@pytest.mark.parametrize("orientation", [3, 6])
def test_it_is_turned_as_well(tmp_path, orientation, lowered):
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = read_picture(saved(tmp_path / "a", "PNG", exif=exif), Reading(short=35))
    plain = read_picture(saved(tmp_path / "b", "PNG"), Reading(short=35))
    turn = Image.Transpose.ROTATE_180 if orientation == 3 else Image.Transpose.ROTATE_270
    assert np.array_equal(np.asarray(found), np.asarray(plain.transpose(turn)))


def test_a_large_network_has_all_the_pixels(tmp_path, lowered):
    assert read_picture(saved(tmp_path / "a", "JPEG"), Reading(short=200)).size == (701, 503)


def test_one_at_a_time_until_it_is_used(tmp_path, lowered):
    path, inside, most = saved(tmp_path / "a", "PNG"), [], []

    def use():
        with contextlib.ExitStack() as held:
            read_picture(path, Reading(short=35, held=held))
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.02)
            inside.pop()

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 4


def test_workers_take_turns(tmp_path):
    code = "import sys; from jvan.pictures.large import share_turn, turn; share_turn(int(sys.argv[1])); print('waits', flush=True)\nwith turn(): print('has it', flush=True)"
    with open(tmp_path / "shared", "w+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        command = [sys.executable, "-c", code, str(file.fileno())]
        with subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=(file.fileno(),), bufsize=0) as process:
            assert process.stdout.readline() == b"waits\n"
            assert not select.select([process.stdout], [], [], 0.3)[0]
            fcntl.lockf(file, fcntl.LOCK_UN)
            assert process.stdout.readline() == b"has it\n"


@pytest.mark.parametrize("kind", ["array", "image", "file"])
def test_the_users_own_limit(tmp_path, kind):
    path = saved(tmp_path / "a.png", "PNG", size=(40, 30))
    source = {"array": np.zeros((30, 40, 3), np.uint8), "image": Image.new("RGB", (40, 30)), "file": path}[kind]
    assert read_picture(source, Reading(1200)).size == (40, 30)
    with pytest.raises(PictureError, match="40×30 are more than 1,199 pixels") as caught:
        read_picture(source, Reading(1199))
    assert "--max-pixels" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_pillows_limit_is_the_usual_one_and_can_be_raised(tmp_path, kind, monkeypatch):
    path = saved(tmp_path / "a", kind, size=(40, 30))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)
    read_picture(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 599)
    with pytest.raises(PictureError, match="more than 1,198 pixels"):
        read_picture(path)
    assert read_picture(path, Reading(1200)).size == (40, 30) and Image.MAX_IMAGE_PIXELS == 599
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read_picture(path).size == (40, 30) and Reading().limit == 178_956_970


@pytest.mark.parametrize(
    ("kind", "options", "each"),
    [
        ("PNG", {}, 4),
        ("JPEG", {"quality": 60}, 1 / 16),
        ("JPEG", {"progressive": True, "subsampling": 0}, 6),
        ("WEBP", {}, 16),
    ],
)
def test_memory_is_known_beforehand(tmp_path, kind, options, each, lowered, monkeypatch):
    path, pixels = saved(tmp_path / "a", kind, **options), 701 * 503
    monkeypatch.setattr(large, "MOST_MEMORY", int(each * pixels * 0.99))
    with pytest.raises(PictureError, match="of memory to decode, and at most"):
        read_picture(path, Reading(short=35))
    monkeypatch.setattr(large, "MOST_MEMORY", int((each * 1.1 + 1) * pixels))
    read_picture(path, Reading(short=35))
    monkeypatch.setattr(large, "MOST_MEMORY", 0)
    assert read_picture(path, Reading(1 << 20, short=35))  # who names a number has the memory


def test_memory_that_is_not_there_is_one_line(tmp_path, lowered, monkeypatch):
    from jvan.memory_limit import Limit

    monkeypatch.setattr("jvan.memory_limit.available_memory", lambda: Limit(1000, "a test"))
    with pytest.raises(PictureError, match="a test"):
        read_picture(saved(tmp_path / "a", "PNG"))


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no /proc")
def test_what_it_takes_at_most(tmp_path):
    """Of a real one, more than what was allowed before: 90 million pixels of a palette, which would be 360 MB as RGB."""
    Image.new("P", (10_000, 9_000)).save(tmp_path / "a.png")
    code = (
        "import re, sys; from jvan.pictures.read import read_picture; from jvan.pictures.large import Reading\n"
        "most = lambda: int(re.search('VmHWM:(.*)kB', open('/proc/self/status').read())[1])\n"
        "before = most(); read_picture(sys.argv[1], Reading(short=248)); print(most() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.png"], stdout=subprocess.PIPE, check=True)
    assert 80_000 < int(done.stdout) < 200_000  # kB
