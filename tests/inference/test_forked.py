"""In a process forked off one that has imported Jittor, networks raise at once, and what needs no Jittor works."""

import json
import os
import select
import signal
import sys
import warnings

import jittor as jt
import pytest
from PIL import Image

from jvan.models import VAN, load_weights
from jvan.ops import forked
from jvan.pictures.preprocess import preprocess
from jvan.pictures.read import read_picture
from jvan.tasks import Predictor
from tests.inference.networks import MeanColour

SECONDS = 60


def in_a_fork(work):
    """What `work()` returns in a forked process, through JSON; TimeoutError where that takes too long."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12, of threads and forks
        child = os.fork()
    if child == 0:
        with os.fdopen(write, "w") as pipe:
            pipe.write(json.dumps(outcome(work)))
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        ready, _, _ = select.select([pipe], [], [], SECONDS)
        if not ready:
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if not ready:
            raise TimeoutError
        return json.loads(pipe.read())


def outcome(work):
    try:
        return work()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def tiny():
    return VAN((4, 4, 4, 4), (1, 1, 1, 1), num_classes=3).eval()


@pytest.fixture(scope="module")
def networks():
    from jvan.inference.optimize import optimize_for_inference

    model = tiny()
    return {"plain": model, "fused": optimize_for_inference(model), "predictor": Predictor.from_model(MeanColour())}


@pytest.mark.parametrize(
    "use",
    [
        lambda made: made["plain"](jt.zeros((1, 3, 32, 32))),
        lambda made: made["fused"](jt.zeros((1, 3, 32, 32))),
        lambda made: made["plain"].forward_features(jt.zeros((1, 3, 32, 32))),
        lambda made: made["predictor"](Image.new("RGB", (40, 40))),
        lambda made: Predictor(),
        lambda made: Predictor.from_model(MeanColour()),
        lambda made: tiny(),
        lambda made: load_weights(made["plain"], "weights.safetensors"),
    ],
)
def test_networks_raise_and_say_what_to_do(networks, use):
    said = in_a_fork(lambda: repr(use(networks)))
    assert said.startswith("JvanError: ") and 'multiprocessing\'s "spawn"' in said


def test_decoding_transforms_and_labels_work(networks):
    predictor = networks["predictor"]

    def work():
        picture = read_picture(Image.new("L", (50, 40), 7))
        array = preprocess(picture, predictor.metadata.preprocessing)
        return [*array.shape], [label.name for label in predictor.labels], predictor.describe()[2]

    assert in_a_fork(work) == json.loads(json.dumps(work()))


def test_a_fork_before_jittor_harms_nobody(monkeypatch):
    forked.check_not_forked()
    assert in_a_fork(forked.check_not_forked).startswith("JvanError")
    monkeypatch.delitem(sys.modules, "jittor")
    assert in_a_fork(forked.check_not_forked) is None
