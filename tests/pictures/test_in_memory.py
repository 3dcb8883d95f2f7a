"""Pictures as bytes and open files; weights, counts and stages as other code has them at hand."""

import io
import tempfile

import numpy as np
import pytest
from PIL import Image

from jvan.errors import CheckpointError, PictureError
from jvan.models import VANFeatures, create_model, load_weights
from jvan.tasks import Predictor
from tests.inference.networks import MeanColour


@pytest.fixture(scope="module")
def predictor():
    return Predictor.from_model(MeanColour(), batch_size=np.int64(2))


@pytest.fixture
def png():
    file = io.BytesIO()
    Image.new("RGB", (40, 33), (0, 255, 0)).save(file, "PNG")
    return file.getvalue()


def test_bytes_and_open_files(predictor, png, tmp_path):
    (tmp_path / "green.png").write_bytes(png)
    expected = predictor(tmp_path / "green.png")
    written = io.BytesIO()
    written.write(png)  # its position is the end
    with (tmp_path / "green.png").open("rb") as file, tempfile.NamedTemporaryFile() as other:
        other.write(png)
        for given in (
            png,
            bytearray(png),
            memoryview(png),
            file,
            other,
            written,
            [png],
            [written, file][:1],
            OnlyRead(png),
        ):
            assert predictor(given) == expected
        assert len(predictor([png, file, file, written])) == 4
        assert [image for image, _ in predictor.stream([file, png])] == [file, png]


class OnlyRead:
    """As urllib's answers: it cannot be wound back."""

    def __init__(self, data):
        self.read = io.BytesIO(data).read


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (b"", "these bytes: this file is empty"),
        (b"text", "these bytes: not a JPEG"),
        (io.BytesIO(b"text"), "this open file: not a JPEG"),
        (io.StringIO("text"), "gives str, not bytes; open it in binary mode"),
    ],
)
def test_what_holds_no_picture(predictor, png, given, says):
    with pytest.raises(PictureError, match=says):
        predictor(given)
    results = [result for _, result in predictor.stream([png, given, png])]
    assert [isinstance(result, PictureError) for result in results] == [False, True, False]


def test_damaged_and_closed_files_are_named(predictor, png, tmp_path):
    path = tmp_path / "half.png"
    path.write_bytes(png[: len(png) // 2])
    with path.open("rb") as file, pytest.raises(PictureError, match=r"half\.png: damaged"):
        predictor(file)
    with pytest.raises(PictureError, match=r"half\.png: .*closed"):
        predictor(file)


def test_numpy_s_integers(predictor, png):
    assert len(predictor(png, topk=np.int64(2))[0]) == 2
    with pytest.raises(ValueError, match=r"topk is 2\.0"):
        predictor(png, topk=np.float64(2))
    for given in (np.array([3, 1]), [np.int64(3), np.int32(1)], np.int64(3)):
        chosen = tiny(given).out_indices
        assert chosen in ((3, 1), (3,)) and all(type(index) is int for index in chosen)
    for given in ([1.0], np.array([0.0]), np.array([4]), [], "0"):
        with pytest.raises(ValueError, match="out_indices"):
            tiny(given)


def tiny(out_indices):
    return VANFeatures((4, 4, 4, 4), (1, 1, 1, 1), out_indices=out_indices)


@pytest.mark.parametrize("weights", [{"head.bias": np.zeros(3)}, b"weights.pth", io.BytesIO(), [1]])
def test_weights_that_are_no_file_are_refused_in_one_line(weights):
    for take in (
        lambda: create_model(weights=weights),
        lambda: create_model("van_b0", weights=weights),
        lambda: Predictor(weights=weights),
        lambda: load_weights(MeanColour(), weights),
    ):
        with pytest.raises(CheckpointError, match=f"weights is a {type(weights).__name__}.*save tensors") as caught:
            take()
        assert "\n" not in str(caught.value)
