"""Which files the user's words mean."""

import os
import shutil

import pytest
from PIL import Image

from jvan.pictures.find import SUFFIXES, Found, find_pictures

from .drawing import colours


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """photos/ with pictures, other files, hidden names and subfolders; the working directory is above it."""
    monkeypatch.chdir(tmp_path)
    names = [
        "b.jpg",
        "a.PNG",
        "c/2.webp",
        "c/10.gif",
        "c/d/x",
        "a[1].bmp",
        "notes.txt",
        "z.npy",
        ".hidden.jpg",
        ".trash/y.jpg",
    ]
    for name in names:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not looked into")
    Image.fromarray(colours()).save(tmp_path / "photos/c/d/x", "PNG")
    (tmp_path / "photos/broken.jpg").symlink_to("nowhere")
    (tmp_path / "nothing").mkdir()
    return tmp_path


WHOLE = [
    "photos/a.PNG", "photos/a[1].bmp", "photos/b.jpg", "photos/broken.jpg",
    "photos/c/10.gif", "photos/c/2.webp", "photos/c/d/x",
]  # fmt: skip


def find(*arguments, stdin=()):
    return [f"{file} ! {error}" if error else file for file, error in find_pictures(arguments, stdin)]


def test_folder_is_searched_recursively_in_order(folder):
    assert find("photos") == WHOLE
    assert find("photos/") == WHOLE
    assert find(str(folder / "photos")) == [str(folder / name) for name in WHOLE]


def test_arguments_keep_their_order_and_repeat(folder):
    assert find("photos/notes.txt", "photos/c", "photos/b.jpg", "photos/b.jpg") == [
        "photos/notes.txt", "photos/c/10.gif", "photos/c/2.webp", "photos/c/d/x", "photos/b.jpg", "photos/b.jpg",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("photos/*.jpg", ["photos/b.jpg", "photos/broken.jpg"]),
        ("photos/?.*", ["photos/a.PNG", "photos/b.jpg", "photos/z.npy"]),
        ("photos/a[1].bmp", ["photos/a[1].bmp"]),
        ("photos/**/*.gif", ["photos/c/10.gif"]),
        ("photos/c*", ["photos/c/10.gif", "photos/c/2.webp", "photos/c/d/x"]),
        ("photos/*.tif", ["photos/*.tif ! no file matches this pattern"]),
        ("missing.jpg", ["missing.jpg ! no such file"]),
        ("nothing", ["nothing ! this folder holds no pictures"]),
    ],
)
def test_patterns_and_what_is_not_there(folder, pattern, expected):
    assert find(pattern) == expected


@pytest.mark.parametrize("name", ["photos [2024]", "a*b", "[2024]", "what?"])
def test_a_pattern_below_a_folder_that_looks_like_one(folder, name):
    shutil.copytree(folder / "photos/c", folder / name / "sub[1]")
    assert find(f"{name}/sub[1]/*.gif") == [f"{name}/sub[1]/10.gif"]
    assert find(f"{name}/*/*.gif") == find(f"{name}/**/*.gif") == [f"{name}/sub[1]/10.gif"]
    assert find(f"{folder}/{name}/sub*/2.*") == [f"{folder}/{name}/sub[1]/2.webp"]
    assert find(f"{name}/*.tif") == [f"{name}/*.tif ! no file matches this pattern"]


def test_a_folder_s_name_that_is_a_pattern_still_is_one(folder):
    assert find("photo[s]/b.jpg") == ["photos/b.jpg"]


def test_double_star_names_each_picture_once(folder):
    found = find("photos/**")
    assert len(found) == len(set(found)) and set(WHOLE) - {"photos/broken.jpg"} <= set(found)


def test_dash_reads_paths_and_streams_them(folder):
    lines = [b"photos/b.jpg\n", b"\n", b"photos/c\r\n", b"photos/*.jpg\n", b"photos/\xff.jpg\n", b"photos/a.PNG"]
    assert find("-", "photos/b.jpg", stdin=lines) == [
        "photos/b.jpg", "photos/c/10.gif", "photos/c/2.webp", "photos/c/d/x", "photos/*.jpg ! no such file",
        os.fsdecode(b"photos/\xff.jpg") + " ! no such file", "photos/a.PNG", "photos/b.jpg",
    ]  # fmt: skip

    def endless():
        while True:
            yield b"photos/b.jpg\n"

    assert next(find_pictures(["-"], endless())) == Found("photos/b.jpg")
    assert find("-") == []


def test_links_are_followed_but_not_for_ever(folder):
    (folder / "photos/c/loop").symlink_to(folder / "photos", target_is_directory=True)
    shutil.copytree(folder / "photos/c/d", folder / "elsewhere")
    (folder / "photos/e").symlink_to(folder / "elsewhere", target_is_directory=True)
    assert find("photos") == [*WHOLE, "photos/e/x"]


def test_unreadable_folder_is_named(folder):
    (folder / "photos/c").chmod(0)
    try:
        if os.access(folder / "photos/c", os.R_OK):
            pytest.skip("root may read everything")
        assert "photos/c ! this folder cannot be read: permission denied" in find("photos")
    finally:
        (folder / "photos/c").chmod(0o700)


def test_every_suffix_is_found_in_any_case(tmp_path):
    for suffix in SUFFIXES:
        for name in (f"a{suffix}", f"b{suffix.upper()}"):
            (tmp_path / name).touch()
    assert len(find(str(tmp_path))) == 2 * len(SUFFIXES)


def test_what_systems_leave_behind_is_passed_over(tmp_path):
    for name in ("@eaDir", "__MACOSX", "lost+found", "$RECYCLE.BIN", "System Volume Information", "ok/@eaDir"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.jpg").touch()
    (tmp_path / "ok" / "a.jpg").touch()
    assert find(str(tmp_path)) == [str(tmp_path / "ok" / "a.jpg")]


def test_formats_that_are_not_read_are_counted(tmp_path):
    """Whether a folder holds only such or others, too; documents are no pictures."""
    for name in ("a.heic", "b.HEIC", "c"):
        (tmp_path / name).write_bytes(b"\0\0\0\x24ftypheic\0\0\0\0mif1heic")
    (tmp_path / "d.jxl").write_bytes(b"\xff\x0a" + bytes(30))
    (tmp_path / "e.pdf").write_bytes(b"%PDF-1.7")
    wanted = (
        f"{tmp_path} ! holds pictures of formats that are not read (3 HEIC, 1 JPEG XL); convert them to JPEG or PNG"
    )
    assert find(str(tmp_path)) == [wanted]
    (tmp_path / "z.png").touch()
    assert find(str(tmp_path)) == [str(tmp_path / "z.png"), wanted]
