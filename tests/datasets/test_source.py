"""Datasets in folders and tar files: which pictures, which labels, and one line for what cannot be used."""

import io
import os
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

from jvan.data.source import open_split, open_train_and_val
from jvan.errors import DataError, PictureError

from .drawn import class_files, encoded, pixels, tar_of, write

CONTAINERS = ["folder", "tar", "gnu", "gz", "xz", "bz2"]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """The one that JVAN_CACHE names; the user's own lies beside it."""
    folder = tmp_path_factory.mktemp("caches")
    monkeypatch.setenv("JVAN_CACHE", str(folder / "shared"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "shared"


def put(tmp_path, files, container="folder"):
    """The files as a dataset of this kind; its path."""
    if container == "folder":
        return write(tmp_path / "data", files)
    options = {"tar": {"format": 2}, "gnu": {"format": 1}}.get(container, {})
    mode = f"w:{container}" if container in ("gz", "xz", "bz2") else "w"
    return tar_of(tmp_path / f"data.tar{'.' + container if ':' in mode else ''}", files, mode, **options)


def one_line(excinfo) -> str:
    text = str(excinfo.value)
    assert "\n" not in text and len(text) < 400
    return text


@pytest.mark.parametrize("container", CONTAINERS)
def test_class_folders(tmp_path, container):
    files = class_files(("zebra", "ant", "größe", "猫"))
    files.update({"ant/notes.txt": b"x", "ant/deep/er/last.png": encoded(99), ".hidden/a.png": encoded(1), "ant/.b.png": b"", "list.txt": b""})  # fmt: skip
    split = open_split(put(tmp_path, files, container))
    wanted = sorted(name for name in files if name.endswith(".png") and "/." not in f"/{name}")
    assert split.classes == ("ant", "größe", "zebra", "猫")
    assert [split.name(i)[-len(name) :] for i, name in enumerate(wanted)] == wanted
    assert split.labels.dtype == np.int32
    assert [split.classes[label] for label in split.labels] == [name.split("/")[0] for name in wanted]
    for index in (0, 3, len(split) - 1):
        with Image.open(io.BytesIO(files[wanted[index]])) as picture:
            assert np.array_equal(np.asarray(split.picture(index)), np.asarray(picture))


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("above", ["", "cifar10/", "a/b/"])
@pytest.mark.parametrize("names", [("train", "val"), ("train", "test"), ("Training", "validation")])
def test_parts_are_found(tmp_path, container, above, names):
    files = {**class_files(each=4, prefix=f"{above}{names[0]}/"), **class_files(each=2, prefix=f"{above}{names[1]}/")}
    train, val, said = open_train_and_val(put(tmp_path, files, container))
    assert (len(train), len(val)) == (8, 4) and train.classes == val.classes == ("ant", "bee")
    assert all(names[0] in train.name(i) for i in range(8)) and all(names[1] in val.name(i) for i in range(4))
    assert names[1] in said


def test_val_comes_before_test(tmp_path):
    files = {
        **class_files(prefix="train/"),
        **class_files(each=2, prefix="val/"),
        **class_files(each=1, prefix="test/"),
    }
    data = put(tmp_path, files)
    assert len(open_split(data, "val")) == 4 and len(open_split(data)) == 6 and len(open_split(data, "train")) == 6


def test_a_class_may_be_called_train(tmp_path):
    split = open_split(put(tmp_path, class_files(("bus", "train", "tram"))))
    assert split.classes == ("bus", "train", "tram")


def test_one_folder_of_pictures_alone_is_a_class(tmp_path):
    assert open_split(put(tmp_path, class_files(("only",)))).classes == ("only",)


@pytest.mark.parametrize("container", ["folder", "tar"])
def test_the_challenges_own_layout(tmp_path, container):
    """ImageNet as Kaggle packs it: val/ is flat, its classes stand in a list."""
    above = "ILSVRC/Data/CLS-LOC/"
    files = {**class_files(("n01", "n02"), prefix=f"{above}train/"), "ILSVRC/Annotations/x.xml": b""}
    files.update({f"{above}val/V_{n}.JPEG": encoded(n, "JPEG") for n in range(3)})
    answers = "ImageId,PredictionString\nV_0,n02 1 2 3 4\nV_1,n01 1 2 3 4 n01 5 6 7 8\nV_2,n02 0 0 1 1\n"
    files["LOC_val_solution.csv"] = answers.encode()
    train, val, _ = open_train_and_val(put(tmp_path, files, container))
    assert train.classes == val.classes == ("n01", "n02") and val.labels.tolist() == [1, 0, 1]


def test_tiny_imagenets_layout(tmp_path):
    files = {f"train/n0{label}/images/n0{label}_{n}.JPEG": encoded(n, "JPEG") for label in (1, 2) for n in range(2)}
    files.update({f"val/images/val_{n}.JPEG": encoded(n, "JPEG") for n in range(2)})
    files["val/val_annotations.txt"] = b"val_0.JPEG\tn02\t0\t0\t1\t1\nval_1.JPEG\tn01\t0\t0\t1\t1\n"
    train, val, _ = open_train_and_val(put(tmp_path, files))
    assert len(train) == 4 and val.labels.tolist() == [1, 0]


def test_a_val_of_its_own(tmp_path):
    data, other = (
        write(tmp_path / "a", class_files(("ant", "bee", "cow"))),
        write(tmp_path / "b", class_files(("cow", "bee"))),
    )
    train, val, said = open_train_and_val(data, other)
    assert val.classes == train.classes and sorted(val.labels) == [1, 1, 1, 2, 2, 2] and str(other) in said
    with pytest.raises(DataError) as error:
        open_train_and_val(other, data)
    assert "ant" in one_line(error)


def test_a_val_beside_one_inside_is_said_to_be_unused(tmp_path):
    data = put(tmp_path, {**class_files(prefix="train/"), **class_files(prefix="val/")})
    other = write(tmp_path / "other", class_files())
    assert "not used" in open_train_and_val(data, other)[2]


def test_a_tenth_is_held_out(tmp_path):
    data = write(tmp_path, {**class_files(("a",), each=40), **class_files(("b",), each=20), **class_files(("c",), each=2), **class_files(("d",), each=1)})  # fmt: skip
    train, val, said = open_train_and_val(data, seed=3)
    again, _, _ = open_train_and_val(data, seed=3)
    other, _, _ = open_train_and_val(data, seed=4)
    assert np.bincount(val.labels, minlength=4).tolist() == [4, 2, 1, 0] and "7 of 63" in said
    names = [split.name(i) for split in (train, val) for i in range(len(split))]
    assert len(names) == len(set(names)) == 63
    assert train.rows.tolist() == again.rows.tolist() != other.rows.tolist()


def test_classes_of_one_picture_each(tmp_path):
    train, val, said = open_train_and_val(write(tmp_path, class_files([f"c{n:02}" for n in range(20)], each=1)))
    assert len(train) == 20 and len(val) == 2 and "repeats" in said


@pytest.mark.parametrize("container", ["folder", "tar"])
@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"ant/a.txt": b"", "bee/b.txt": b""}, "none of its 2 folders"),
        ({"a.png": encoded(), "b.png": encoded()}, "no folders"),
        ({"a.txt": b"x"}, "holds no pictures"),
        ({**class_files(), "cow/a.txt": b""}, "class cow"),
        ({**class_files(), **{f"e{n}/a.txt": b"" for n in range(9)}}, "e0, e1, e2 and 6 more"),
        ({**class_files(prefix="train/"), "val/readme": b""}, "val"),
        ({"train/a.png": encoded(), "val/a.png": encoded(), "labels/a.png": encoded()}, "no folders"),
        ({**class_files(prefix="train/"), "val/a.png": encoded()}, "no folders"),
        ({**class_files(prefix="train/"), **class_files(("cow",), prefix="val/")}, "class cow"),
    ],
)
def test_what_cannot_be_used_is_one_line(tmp_path, container, files, words):
    with pytest.raises(DataError) as error:
        open_train_and_val(put(tmp_path, files, container))
    assert words in one_line(error) and "data" in str(error.value)


def test_an_empty_folder_inside_is_a_class_without_pictures(tmp_path):
    data = put(tmp_path, class_files())
    (data / "cow").mkdir()
    with pytest.raises(DataError, match="class cow"):
        open_split(data)


@pytest.mark.parametrize("kind", ["absent", "empty folder", "text", "zero bytes", "picture", "pipe-less"])
def test_what_is_no_dataset(tmp_path, kind):
    path = tmp_path / "x"
    if kind == "empty folder":
        path.mkdir()
    elif kind != "absent":
        path.write_bytes({"text": b"hello", "zero bytes": b"", "picture": encoded(), "pipe-less": b"\0" * 2000}[kind])
    with pytest.raises(DataError) as error:
        open_split(path)
    assert str(path) in one_line(error)


def test_a_missing_part_is_named(tmp_path):
    data = put(tmp_path, class_files(prefix="train/"))
    with pytest.raises(DataError, match="no val/ beside train/"):
        open_split(data, "val")
    train, val, said = open_train_and_val(data)
    assert (len(train), len(val)) == (4, 2) and "tenth" in said


def test_links(tmp_path):
    data = put(tmp_path, class_files())
    (data / "ant" / "again").symlink_to(data)
    (data / "bee" / "self").symlink_to("self")
    (data / "bee" / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.png").write_bytes(encoded(4))
    (data / "cow").symlink_to(tmp_path / "elsewhere")
    split = open_split(data)
    assert split.classes == ("ant", "bee", "cow") and len(split) == 8
    with pytest.raises(PictureError, match=r"gone\.png"):
        split.picture([split.name(i).endswith("gone.png") for i in range(8)].index(True))


def test_a_pipe_is_no_picture(tmp_path):
    data = put(tmp_path, class_files())
    os.mkfifo(data / "ant" / "pipe.png")
    split = open_split(data)
    with pytest.raises(PictureError, match="regular file"):
        split.picture([split.name(i).endswith("pipe.png") for i in range(len(split))].index(True))


def test_a_closed_folder_is_named(tmp_path, monkeypatch):
    data = put(tmp_path, class_files())
    scandir = os.scandir

    def refuse(path):  # the tests may run as root, to whom nothing is closed
        if str(path).endswith("bee"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="bee: this folder cannot be read: permission denied"):
        open_split(data)


def test_names_that_are_no_text(tmp_path):
    data = put(tmp_path, class_files())
    strange = os.fsencode(data) + b"/ant/\xff\xfe.png"
    with open(strange, "wb") as file:
        file.write(encoded(5))
    split = open_split(data)
    index = next(i for i in range(len(split)) if os.fsencode(split.name(i)) == strange)
    assert np.array_equal(np.asarray(split.picture(index)), pixels(seed=5))


GBK = {name: name.encode("gbk").decode("utf-8", "surrogateescape") for name in ("狗", "马", "鸟")}


@pytest.mark.parametrize("container", CONTAINERS)
def test_classes_whose_names_are_no_text_stay_apart(tmp_path, container):
    """Of these three, and of any one of them, 0.1.0 made the class �� twice and more."""
    files = {
        f"{part}/{name}/{n}.png": encoded(n) for part in ("train", "val") for name in GBK.values() for n in range(3)
    }
    train, val, _ = open_train_and_val(put(tmp_path, files, container))
    assert train.classes == val.classes == tuple(sorted(GBK.values()))
    assert np.bincount(val.labels).tolist() == np.bincount(train.labels).tolist() == [3, 3, 3]
    one, other = (write(tmp_path / name, class_files((GBK[name],))) for name in ("马", "狗"))
    with pytest.raises(DataError) as error:
        open_train_and_val(one, other)
    assert r"\udcb9\udcb7" in one_line(error)


@pytest.mark.parametrize("container", ["folder", "tar"])
def test_two_forms_of_one_name_are_one_class(tmp_path, container):
    """As a Mac and another system write é into an archive, one after the other."""
    files = {f"{name}/{n}.png": encoded(n) for n, name in enumerate(["cafe\u0301", "caf\xe9", "caf\xe9", "tea"])}
    train, val, said = open_train_and_val(put(tmp_path, files, container))
    assert train.classes == val.classes == ("caf\xe9", "tea") and len(train) + len(val) == 4
    split = open_split(put(tmp_path, files, container))
    assert np.bincount(split.labels).tolist() == [3, 1] and split.folders == ("cafe\u0301", "tea")
    assert len(split.notes) == 1 and "caf\xe9" in split.notes[0] and said.endswith(split.notes[0])
    (tmp_path / "alone").mkdir()
    alone = open_split(put(tmp_path / "alone", class_files(("cafe\u0301",)), container))
    assert alone.classes == ("caf\xe9",) and not alone.notes


def test_a_list_of_answers_in_another_form(tmp_path):
    files = class_files(("cafe\u0301", GBK["狗"]), prefix="train/")
    files.update({f"val/images/{n}e\u0301.JPEG": encoded(n, "JPEG") for n in range(2)})
    rows = f"0\xe9.JPEG\tcaf\xe9\n1\xe9.JPEG\t{GBK['狗']}\n"
    files["val/val_annotations.txt"] = rows.encode("utf-8", "surrogateescape")
    train, val, _ = open_train_and_val(put(tmp_path, files))
    assert train.classes == ("caf\xe9", GBK["狗"]) and val.labels.tolist() == [0, 1]


LEFT = ("@eaDir", "__MACOSX", "lost+found", "$RECYCLE.BIN", "System Volume Information")


@pytest.mark.parametrize("container", ["folder", "tar"])
def test_what_systems_leave_behind_is_passed_over(tmp_path, container):
    files = class_files()
    files.update({f"{above}{name}/x.png/S.png": encoded() for name in LEFT for above in ("", "ant/", "bee/deep/")})
    split = open_split(put(tmp_path, files, container))
    assert split.classes == ("ant", "bee") and len(split) == 6 and not split.notes


@pytest.mark.parametrize("container", ["folder", "tar"])
def test_tiff_is_read_and_other_formats_are_counted(tmp_path, container):
    files = {**class_files(), "ant/a.tif": encoded(3, "TIFF"), "ant/b.TIFF": encoded(4, "TIFF")}
    files.update({**{f"bee/{n}.HEIC": b"" for n in range(4)}, "bee/deep/x.txt": b"", "ant/y": b"", "list.csv": b""})
    data = put(tmp_path, files, container)
    split = open_split(data)
    assert np.bincount(split.labels).tolist() == [5, 3] and np.array_equal(np.asarray(split.picture(4)), pixels(seed=4))
    assert split.notes == ("files of other formats are not read: 4 .heic, 1 without a suffix, 1 .txt",)
    assert open_train_and_val(data)[2].endswith(split.notes[0])


def test_a_class_of_pictures_that_are_not_read_is_named(tmp_path):
    """Also in a tar file without entries for its folders."""
    files = {**class_files(), "cow/a.heic": b"", "cow/b.heic": b""}
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    for path in (tmp_path / "a.tar", write(tmp_path / "data", files)):
        with pytest.raises(DataError) as error:
            open_split(path)
        assert "class cow" in one_line(error) and "2 .heic" in one_line(error)


MODES = {
    "grey": ("L", "PNG"),
    "palette": ("P", "GIF"),
    "rgba": ("RGBA", "PNG"),
    "cmyk": ("CMYK", "JPEG"),
    "bits": ("1", "PNG"),
}


@pytest.mark.parametrize("container", ["folder", "tar"])
@pytest.mark.parametrize("mode", MODES)
def test_every_kind_of_picture_is_rgb_as_inference_reads_it(tmp_path, mode, container):
    from jvan.pictures.read import read_picture

    colours, kind = MODES[mode]
    data = encoded(3, kind, colours)
    split = open_split(put(tmp_path, {**class_files(), "ant/0.png": data}, container))
    (tmp_path / "alone").write_bytes(data)
    picture = split.picture(0)
    assert picture.mode == "RGB"
    assert np.array_equal(np.asarray(picture), np.asarray(read_picture(tmp_path / "alone")))


@pytest.mark.parametrize("container", ["folder", "tar"])
@pytest.mark.parametrize(
    "bad", [b"", b"no picture", encoded()[:200], encoded(kind="JPEG")[:300], b"\x89PNG\r\n\x1a\n" * 9]
)
def test_a_damaged_picture_is_named(tmp_path, bad, container):
    split = open_split(put(tmp_path, {**class_files(), "ant/0.png": bad}, container))
    with pytest.raises(PictureError) as error:
        split.picture(0)
    assert one_line(error).startswith(f"{split.name(0)}: ") and str(error.value).count("0.png") == 1


def test_a_picture_that_vanished(tmp_path):
    data = put(tmp_path, class_files())
    split = open_split(data)
    (data / "ant" / "0.png").unlink()
    with pytest.raises(PictureError, match="no such file"):
        split.picture(0)


def test_a_split_is_cheap_to_send(tmp_path):
    split = open_split(put(tmp_path, class_files(each=30), "tar"))
    split.picture(0)  # an open file must not go along
    data = pickle.dumps(split)
    copy = pickle.loads(data)
    assert len(data) < 6000 and np.array_equal(np.asarray(copy.picture(7)), np.asarray(split.picture(7)))


def test_a_subset_keeps_classes_and_order(tmp_path):
    split = open_split(put(tmp_path, class_files(each=5)))
    part = split.subset([7, 2])
    assert part.classes == split.classes and [part.name(0), part.name(1)] == [split.name(7), split.name(2)]
    assert part.labels.tolist() == [1, 0] and len(part) == 2
