"""What reading costs: no more than the model is read, and long arrays stay in the file."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jvan.checkpoints.reader import open_checkpoint

from .crafted import bounded, numpy_array, pickled, read, sealed, state, torch_storage, torch_tensor, torch_zip

MEASURE = """
import resource, sys
from jvan.checkpoints.reader import read_checkpoint
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
tensors = read_checkpoint(sys.argv[1])
print(len(tensors), sum(t.nbytes for t in tensors.values()), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10)
"""


@pytest.mark.parametrize("kind", ["torch", "jittor"])
def test_only_the_model_is_read(kind, tmp_path):
    """128 MB of optimiser state beside a model of 1 MB: the process grows by no more than what one piece needs."""
    path, model, rest = tmp_path / "x", np.arange(1 << 18, dtype=np.float32).tobytes(), bytes(128 << 20)
    if kind == "torch":
        tensor = torch_tensor(shape=(1 << 18,), storage=torch_storage(count=1 << 18))
        other = torch_tensor((32 << 20,), storage=torch_storage("1", 32 << 20))
        torch_zip(path, state(state_dict=state(w=tensor), optimizer=state(m=other)), {"0": model, "1": rest})
    else:
        arrays = [numpy_array(shape=(len(data) // 4,), data=data) for data in (model, rest)]
        path.write_bytes(sealed(pickled(state(model=state(w=arrays[0]), optimizer=state(m=arrays[1])))))
    root = Path(__file__).parent.parent.parent
    command = [sys.executable, "-c", MEASURE, str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root, timeout=120)
    count, size, grown = map(int, ran.stdout.split())
    assert (count, size) == (1, 1 << 20)
    assert grown < 64 << 20


def test_long_arrays_of_a_pickle_stay_in_the_file(tmp_path):
    """Bytes, and the text that protocol 2 makes of them, are not read with the tree."""
    import pickle

    arrays = {f"w{i}": np.full(1 << 20, i, np.float32) for i in range(8)}
    for protocol in (2, 4, 5):
        path = tmp_path / f"{protocol}.pkl"
        path.write_bytes(pickle.dumps({"model": {"w0": arrays["w0"]}, "optimizer": arrays}, protocol))
        with bounded(8 << 20), open_checkpoint(path) as checkpoint:
            tensors = checkpoint.tensors()
        with open_checkpoint(path) as checkpoint:
            assert checkpoint.tree["optimizer"]["w3"].numpy().tolist()[:2] == [3, 3]
        assert list(tensors) == ["w0"]


def test_a_file_of_many_tensors_is_opened_quickly(tmp_path):
    body = state(**{f"layer{i}.weight": numpy_array() for i in range(5000)})
    (tmp_path / "x.pkl").write_bytes(pickled(body))
    begin = time.perf_counter()
    assert len(read(tmp_path / "x.pkl")) == 5000
    assert time.perf_counter() - begin < 30
