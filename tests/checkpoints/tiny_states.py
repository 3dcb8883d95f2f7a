"""The network of tests/golden's small checkpoint files, and states made of nothing but numpy's random numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jvan.checkpoints.metadata import Metadata
from jvan.checkpoints.names.architecture import parameter_shapes
from jvan.checkpoints.state import State
from jvan.preprocessing import Preprocessing
from jvan.variants import VANConfig
from weights_convert.random_state import TINY, faint, official_shapes, random_state

from .recorded_names import recorded

GOLDEN = Path(__file__).parents[1] / "golden"
CONFIG = VANConfig(**TINY)
LABELS = ("tench", "poisson rouge", "大白鲨", "a,b", 'quo"te', "", "x")
METADATA = Metadata(
    config=VANConfig(**TINY, norm_eps=1e-5, stem_stride=2, gate="add"),
    preprocessing=Preprocessing(128, 0.75, "lanczos", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
    origin="mmpretrain",
    labels=LABELS,
    source="somewhere.pth",
    source_sha256="0" * 64,
    note="not trained",
)


def random_tensors(dtype: str = "float32", config: VANConfig = CONFIG) -> dict[str, np.ndarray]:
    """Every tensor full of random bits that are no NaN, in the official order."""
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in parameter_shapes(config).items()}


def tiny_state(dtype: str = "float32") -> State:
    return State(random_tensors(dtype), METADATA)


def golden_tensors(name: str) -> dict[str, np.ndarray]:
    """What a checkpoint in tests/golden must hold under official names, from the recipe that made it."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        statistics = {k[len("statistics/") :]: file[k] for k in file.files if k.startswith("statistics/")}
    if name == "hf_tiny":
        pairs = recorded("van_b0")["huggingface_to_official"]
        shapes = official_shapes(**TINY)
        theirs = {name: shapes[ours] for name, ours in pairs.items() if ours in shapes}
        return {pairs[n]: array for n, array in {**faint(random_state(theirs)), **statistics}.items()}
    if name == "mmseg_tiny":
        return {**faint(random_state(official_shapes(**{**TINY, "num_classes": 0}))), **statistics}
    return {**random_state(official_shapes(**TINY)), **statistics}


def assert_same(found: dict, wanted: dict) -> None:
    """The same names, types, shapes and bits."""
    assert sorted(found) == sorted(wanted)
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name
