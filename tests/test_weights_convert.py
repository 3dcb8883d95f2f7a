"""The tools that compare with the original code: the weights they share, and a verdict that can fail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jvan import JvanError
from jvan.variants import VARIANTS
from weights_convert.compare_training import laid_out
from weights_convert.random_state import SMALL, TINY, official_shapes, positions, random_state
from weights_convert.verify import compare, judge, table

from .datasets.drawn import class_files, tar_of

GOLDEN = Path(__file__).parent / "golden"
SUMS = {  # of the network TINY, a tensor of each kind
    "patch_embed1.proj.weight": 2.5499275,
    "block3.1.layer_scale_2": 4.3194814,
    "block3.1.norm1.weight": 10.4929577,
    "block4.0.mlp.dwconv.dwconv.weight": -6.2269729,
    "head.weight": 1.9170021,
    "head.bias": -0.2897977,
}
# learned numbers of B0 to B6: the original network's, and by arithmetic from the paper's Table 5
COUNTS = [4105800, 13861800, 26578472, 44765608, 60283176, 89967688, 199829416]


def test_random_state_is_the_recorded_one():
    """The recordings hold no weights: these must never change with NumPy's version or an edit."""
    state = random_state(official_shapes(**TINY))
    for name, total in SUMS.items():
        assert state[name].sum(dtype=np.float64) == pytest.approx(total, abs=1e-5), name
    assert positions("224x224/stage1", 100352)[:3].tolist() == [89903, 1112, 26996]


@pytest.mark.parametrize("arch, count", list(zip(VARIANTS, COUNTS)))
def test_official_shapes_have_the_published_counts(arch, count):
    embed_dims, mlp_ratios, depths = VARIANTS[arch]
    shapes = official_shapes(embed_dims, depths, mlp_ratios)
    assert sum(int(np.prod(shape)) for name, shape in shapes.items() if "running_" not in name) == count


def test_training_is_compared_on_pictures_without_parts(tmp_path):
    """One picture a class, which the official loader wants in train/ and val/: the same bytes, all of them to train on."""
    files = class_files(each=1, prefix="sample/")
    laid = Path(laid_out(str(tar_of(tmp_path / "sample.tar", files)), tmp_path / "laid"))
    train, val = (
        {path.parent.name: path.read_bytes() for path in (laid / part).rglob("*.png")} for part in ("train", "val")
    )
    assert train == {name.split("/")[1]: data for name, data in files.items()}
    assert len(val) == 1 and val.items() <= train.items()
    assert laid_out(str(laid), tmp_path / "other") == str(laid) and not (tmp_path / "other").exists()


def test_random_state_leaves_no_zeros_and_ones():
    for name, tensor in random_state(official_shapes(**SMALL)).items():
        assert np.std(tensor) > 0.02 and not np.isin(tensor, (0, 1)).any(), name


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.npz")), ids=lambda path: path.stem)
def test_recordings_are_finite(path):
    with np.load(path) as archive:
        numbers = [archive[name] for name in archive.files if archive[name].dtype.kind != "U"]
        assert numbers and all(np.isfinite(values).all() for values in numbers)


def test_verdict():
    theirs = np.random.RandomState(0).standard_normal((1, 1000)).astype(np.float32)
    key = "picture/cat/logits"
    assert compare(key, theirs, theirs)["error"] == 0
    assert compare(key, theirs, theirs)["top5"] == 5
    off = theirs.copy()
    off[0, 7] += 2e-4 * np.abs(theirs).max()
    assert compare(key, off, theirs)["error"] == pytest.approx(2e-4, rel=1e-2)
    off[0, 7] = np.nan
    assert np.isnan(compare(key, off, theirs)["error"])
    with pytest.raises(JvanError, match="shape"):
        compare(key, theirs[:, :5], theirs)


@pytest.mark.parametrize(
    "error, words", [(9e-5, "agrees with"), (2e-4, "DIFFERS from"), (float("nan"), "DIFFERS from")]
)
def test_report_fails_above_the_bar(error, words):
    rows = [
        {"picture": "cat", "output": "stage1", "shape": [1], "largest": 1.0, "error": e} for e in (0.0, error, 1e-6)
    ]
    report = judge(rows, "x.pth")
    assert report["agrees"] == (words == "agrees with")
    assert words in table(report)
