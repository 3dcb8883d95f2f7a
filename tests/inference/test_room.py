"""A weights file that asks for huge maps: the memory that is foretold is the memory that is taken, and no more is refused."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import jvan
from jvan.checkpoints.state import load_state
from jvan.checkpoints.writers import save_state
from jvan.errors import CheckpointError, MemoryLimitError
from jvan.inference import room
from jvan.memory_limit import Limit
from jvan.tasks import BUNDLED, Predictor

ROOT = Path(__file__).parents[2]
CAT = str(ROOT / "examples" / "cat.jpg")
# jvan predict, which may have this share of what is foretold once its network is there, and some for decoding and threads
LIMITED = """
import resource, sys
import jvan.inference.room as room
from jvan.memory_limit import _kilobytes, PROC
check = room.Room.check
def limited(self, count, more=0):
    if not self._checked:
        most = _kilobytes(PROC / "self" / "status")["VmSize"] + int(float(sys.argv[1]) * self.needed(1)) + (160 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    check(self, count, more)
room.Room.check = limited
from jvan.predict import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The bundled network, as if it wanted pictures of the size asked for."""
    folder = tmp_path_factory.mktemp("weights")

    def of(size):
        state = load_state(BUNDLED)
        metadata = replace(state.metadata, preprocessing=replace(state.metadata.preprocessing, size=size))
        save_state(replace(state, metadata=metadata), folder / f"{size}.safetensors", force=True)
        return str(folder / f"{size}.safetensors")

    return of


def predict(share, *arguments):
    # Jittor, which this process has imported, asks for stacks of 512 MiB: a child's threads would take so much each.
    command = ["sh", "-c", 'ulimit -s 8192; exec "$@"', "sh", sys.executable, "-c", LIMITED, str(share), *arguments]
    one_arena = {**os.environ, "MALLOC_ARENA_MAX": "1"}  # else each thread takes 128 MiB of addresses
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=one_arena)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the system does not say what a process has")
def test_what_is_foretold_is_enough(weights):
    done = predict(1.0, CAT, "--weights", weights(1024))
    assert done.returncode == 0 and "cat" in done.stdout, done.stderr


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the system does not say what a process has")
def test_less_is_refused_in_one_line_and_nobody_dies(weights):
    path = weights(2048)  # large beside what decoding may have
    done = predict(0.5, CAT, "--weights", path)
    assert done.returncode == 1 and not done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        f"jvan predict: {path}: the network for 1 picture of 2048×2048 pixels needs 2.84 GB of memory"
    )
    assert line.endswith(" GB more (its limit RLIMIT_AS); choose weights for smaller pictures")


def test_a_batch_too_large_is_refused_where_one_picture_is_not(weights, monkeypatch):
    predictor = Predictor(weights=weights(256), batch_size=3)
    one, three = predictor.answerer.room.needed(1), predictor.answerer.room.needed(3)
    assert one < three
    monkeypatch.setattr("jvan.memory_limit.available_memory", lambda: Limit(one, "the test"))
    assert len(predictor([CAT])) == 1
    with pytest.raises(MemoryLimitError, match=r"for 3 pictures of 256×256 pixels .* choose a smaller batch size"):
        predictor([CAT] * 3)


def test_large_pictures_do_not_wait_in_numbers(weights):
    assert Predictor(weights=weights(32)).answerer.room.ahead > 1000
    assert room.Room("", None, (3, 4096, 4096)).ahead == 1


def test_maps_that_no_operator_counts_are_refused_in_one_line(tmp_path):
    model = jvan.create_model(
        "van_b0", stem_stride=1, embed_dims=(512, 32, 32, 32), depths=(1, 1, 1, 1), mlp_ratios=(1, 1, 1, 1)
    )
    model.metadata = replace(model.metadata, preprocessing=replace(model.metadata.preprocessing, size=4096))
    with pytest.raises(
        CheckpointError, match="the given network: maps of 4096×4096 pixels are too large for one operator"
    ):
        Predictor.from_model(model)


def test_the_operator_checks_before_it_runs(monkeypatch):
    import jittor as jt

    fast = jvan.optimize_for_inference(jvan.create_model("van_b0"))
    pictures = jt.array(np.zeros((1, 3, 64, 64), np.float32))
    monkeypatch.setattr("jvan.memory_limit.available_memory", lambda: Limit(1 << 20, "the test"))
    with pytest.raises(MemoryLimitError, match=r"a forward pass over 1 × 3×64×64 pixels needs .* 0\.00 GB more"):
        fast(pictures)


@pytest.mark.parametrize("fused, measured", [(True, 158), (False, 1166)])
def test_layers_take_what_was_measured(fused, measured):
    """VAN-B0 on one picture of 2048 pixels, MiB beside the input: peaks of resident memory on Linux, 2026."""
    config = jvan.create_model("van_b0").metadata.config
    foretold = room.layers_bytes(config, (1, 3, 2048, 2048), fused) / 2**20
    assert measured <= foretold < 1.1 * measured


def test_a_model_without_metadata_is_not_refused():
    assert room.forward_bytes(object(), (1, 3, 4096, 4096)) == 0
