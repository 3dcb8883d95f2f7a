"""Names that would drive a terminal, in whatever holds names: each command prints them as escapes, and good ones as they are."""

import json
import socket
import subprocess
import threading

import numpy as np
import pytest

from jvan import convert, doctor, inspect, predict, train
from jvan.boot.settings import BROKEN, Finding
from jvan.checkpoints.metadata import Metadata
from jvan.checkpoints.state import State
from jvan.checkpoints.writers import save_state
from jvan.cuda_home import _quoted
from jvan.tasks import Prediction, task_named
from jvan.variants import VANConfig
from weights_convert.random_state import official_shapes, random_state

from .checkpoints.crafted import ARRAY, ROW, safetensors
from .checkpoints.download_help import quick_and_clean

# title and screen of a terminal, C1, the direction of writing, a forged line; and what is to stay
EVIL = "\x1b]0;x\x07\x1b[2J\x9b1m\u202e\r\njvan: all is well"
SHOWN = "\\x1b]0;x\\x07\\x1b[2J\\x9b1m\\u202e\\r\\njvan: all is well"
GOOD = "中é😀"
SIZES = {"embed_dims": (8, 8, 8, 8), "depths": (1, 1, 1, 1), "num_classes": 2}


def run(capsys, main, *arguments, status=0):
    """What a command prints, seen to be fit for a terminal and whole lines."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == status
    out, err = capsys.readouterr()
    for text in (out, err):
        assert all(line.isprintable() for line in text.split("\n")), ascii(text)
        assert "\njvan: all is well" not in text
    return out, err


@pytest.fixture
def weights(tmp_path):
    """Of a network, with such words wherever it has words."""
    shapes = official_shapes(**SIZES)
    tensors = {**{name: np.ones(shape, np.float32) for name, shape in shapes.items()}, **random_state(shapes)}
    tensors = {name: tensors[name] for name in shapes}
    metadata = Metadata(VANConfig(**SIZES), labels=(EVIL, GOOD), source=EVIL, note=f"{GOOD} {EVIL}")
    path = tmp_path / f"{GOOD} \x1b[31m.safetensors"
    save_state(State(tensors, metadata), path)
    return path


def test_inspect(weights, capsys):
    out, _ = run(capsys, inspect.main, weights)
    assert f"note: {GOOD} {SHOWN}" in out and f"{GOOD} \\x1b[31m.safetensors: safetensors" in out
    found = json.loads(run(capsys, inspect.main, weights, "--json")[0])
    assert found["metadata"]["labels"] == [EVIL, GOOD] and found["file"] == str(weights)


def test_inspect_of_names_in_a_header(tmp_path, capsys):
    header = {"__metadata__": {EVIL: EVIL, GOOD: GOOD}, EVIL: ROW, GOOD: {**ROW, "data_offsets": [8, 16]}}
    path = safetensors(tmp_path / "x", json.dumps(header), data=ARRAY + ARRAY)
    out, _ = run(capsys, inspect.main, path)
    assert f"header {SHOWN}: {SHOWN}" in out and f"\n{SHOWN}  float32" in out and f"\n{GOOD} " in out
    found = json.loads(run(capsys, inspect.main, path, "--json")[0])
    assert list(found["tensors"]) == [EVIL, GOOD] and found["header"] == {EVIL: EVIL, GOOD: GOOD}


def test_inspect_of_a_shards_name(tmp_path, capsys):
    index = {"weight_map": {"w": f"{GOOD}{EVIL}.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    _, err = run(capsys, inspect.main, tmp_path, status=1)
    assert err.count("\n") == 1 and f'"{GOOD}{SHOWN}.safetensors", which is missing' in err


def test_convert(weights, tmp_path, capsys):
    out, _ = run(capsys, convert.main, weights, tmp_path / f"{GOOD}\x1b.npz")
    assert f"note      {GOOD} {SHOWN}" in out and f"{GOOD}\\x1b.npz: " in out
    out, _ = run(capsys, convert.main, weights, tmp_path / f"{GOOD}\x1b.pkl", "--json")
    found = json.loads(out)
    assert found["file"] == str(tmp_path / f"{GOOD}\x1b.pkl") and f"{GOOD} {EVIL}" in found["notes"]


class StandIn:
    """Of the network."""

    task = task_named("classification")

    def __init__(self, *given, **options):
        pass

    def describe(self):
        return [f"weights: {EVIL}", f"note: {GOOD}"]

    def stream(self, images):
        yield from ((image, [Prediction(0, EVIL, 0.5, EVIL), Prediction(1, GOOD, 0.5)]) for image in images)


def test_predict(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("jvan.tasks.Predictor", StandIn)
    picture = tmp_path / f"{GOOD}{EVIL}.png"
    picture.touch()
    out, err = run(capsys, predict.main, picture)
    name, first, second = out.splitlines()
    assert name == f"{tmp_path}/{GOOD}{SHOWN}.png" and f"%  {SHOWN}  {SHOWN}" in first and second.endswith(GOOD)
    assert err == f"jvan predict: weights: {SHOWN}\njvan predict: note: {GOOD}\n"
    for form in ("--json", "--json-lines"):
        found = json.loads(run(capsys, predict.main, picture, form)[0])
        entry = found[0] if form == "--json" else found
        assert (entry["file"], entry["predictions"][0]["label"]) == (str(picture), EVIL)


def test_a_pattern_that_becomes_an_option(capsys):
    """`jvan predict *` beside a file with such a name."""
    with pytest.raises(SystemExit) as ended:
        predict.main(["a.png", f"--{GOOD}\x1b[2J\njvan:"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(f" --{GOOD}\\x1b[2J\\njvan:")


def test_train(capsys):
    train._tell(f"{GOOD}{EVIL}: damaged")
    assert capsys.readouterr().err == f"jvan train: {GOOD}{SHOWN}: damaged\n"


def test_doctor(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "examine", lambda timeout: [Finding("cache", BROKEN, f"{GOOD}{EVIL}", EVIL)])
    out, _ = run(capsys, doctor.main, status=1)
    assert out.splitlines()[0].endswith(f"{GOOD}{SHOWN}") and out.splitlines()[1].endswith(f"mend it: {SHOWN}")
    assert json.loads(run(capsys, doctor.main, "--json", status=1)[0])["findings"][0]["fix"] == EVIL


@pytest.mark.parametrize("answer", [f"HTTP/1.1 404 {EVIL[:-20]}", f"{EVIL[:-20]}", f"HTTP/1.1 200 OK\r\n{EVIL[:3]}: x"])
def test_a_servers_status_line(answer, tmp_path, capsys, monkeypatch):
    quick_and_clean(monkeypatch, tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        threading.Thread(target=_answer, args=(server, answer.encode("latin-1", "replace")), daemon=True).start()
        _, err = run(capsys, convert.main, "van_b0.in1k", tmp_path / "x.npz", status=1)
        server.shutdown(socket.SHUT_RDWR)
    assert err.splitlines()[-1].startswith("jvan convert: cannot download van_b0.in1k: ")


def _answer(server, line):
    while True:
        try:
            client, _ = server.accept()
        except OSError:  # it is closed
            return
        with client:
            client.recv(10000)
            client.sendall(line + b"\r\n\r\n")


def test_a_shell_gets_the_path_that_is_meant():
    for path in ("/opt/cuda", "/opt/my cuda's", f"/opt/{GOOD}", f"/opt/{EVIL}%d\\n", "/opt/\udcff"):
        assert _quoted(path).isprintable()
        done = subprocess.run(["sh", "-c", f'x={_quoted(path)}; printf %s "$x"'], capture_output=True, check=True)
        assert done.stdout == path.encode("utf-8", "surrogateescape")
