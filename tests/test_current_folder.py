"""A folder of data that holds json.py and its like: jvan, started inside, runs none of it, and its children neither."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from jvan import _path

from .boot.machines import ROOT, fake_jittor, write
from .datasets.drawn import class_files
from .datasets.drawn import write as write_files
from .test_doctor import COMPUTES

# Modules of Python's own and of others that jvan and its children import, none of which `python -m` itself takes first.
NAMES = (
    "__future__", "argparse", "bisect", "csv", "ctypes", "decimal", "fractions", "glob", "gzip", "hashlib", "html", "http",
    "jit_utils_core", "jittor_core", "json", "logging", "lzma", "numpy", "pickle", "PIL", "platform", "queue", "random",
    "safetensors", "secrets", "select", "shutil", "signal", "socket", "subprocess", "tarfile", "tempfile", "tqdm", "urllib",
    "uuid", "zipfile",
)  # fmt: skip
TAKEN = "import os\nwith open(os.environ['MARKER'], 'a') as file:\n    file.write(__name__ + '\\n')\n"


@pytest.fixture
def planted(tmp_path):
    """A data set with a module of each name beside its classes."""
    folder = write_files(tmp_path / "data", class_files(each=4, prefix="train/", height=12, width=12))
    for name in NAMES:
        write(folder / f"{name}.py", TAKEN)
    return folder


@pytest.fixture
def start(planted, tmp_path):
    """A function that runs Python inside the data set: what it printed, and on standard error; none of the modules there ran."""

    def started(*arguments, status=0, path=(), **environment):
        surroundings = {**os.environ, "MARKER": str(tmp_path / "marker"), "PYTHONPATH": os.pathsep.join([*map(str, path), str(ROOT)])}  # fmt: skip
        surroundings.pop("JVAN_RESTARTED", None)
        surroundings.update(environment)
        done = subprocess.run(
            [sys.executable, *arguments], cwd=planted, env=surroundings, capture_output=True, text=True, timeout=120
        )
        assert not (tmp_path / "marker").exists(), (tmp_path / "marker").read_text()
        assert done.returncode == status, done.stderr
        return done

    return started


def script(tmp_path, text):
    """What a console script is to Python: a file in another folder."""
    return str(write(tmp_path / "bin" / "start", text))


def without_numpy(site):
    """The stand-ins' folder, in which numpy is the real one."""
    shutil.rmtree(site / "numpy")
    return site


LOAD = """
from jvan.data.loader import Loader
from jvan.data.source import open_split
from jvan.data.transforms import Augment
with Loader(open_split("train"), {transform}, 0, 4, workers=2) as loader:
    print(len(list(loader.epoch(0))))
"""


def test_the_plants_would_run(planted, tmp_path):
    """Python itself, told to run something in that folder, takes them: what the other tests would see."""
    command = [sys.executable, "-c", "import json, queue"]
    subprocess.run(command, cwd=planted, env={**os.environ, "MARKER": str(tmp_path / "marker")}, check=True)
    assert (tmp_path / "marker").read_text() == "json\nqueue\n"


def test_workers_of_the_loader(start, tmp_path):
    assert start(script(tmp_path, LOAD.format(transform="Augment(size=12)"))).stdout == "2\n"


def test_doctor(start, tmp_path):
    site = fake_jittor(tmp_path / "site", COMPUTES)
    code = "import sys\nfrom jvan.doctor import main\nsys.exit(main(['--json']))"
    done = start("-S", script(tmp_path, code), path=[site], HOME=str(tmp_path), use_mkl="0")
    assert "1.3.11.0 starts" in done.stdout


def test_the_question_which_device_there_is(start, tmp_path):
    body = f"{COMPUTES}\nflags.use_cuda = 0"
    code = "from jvan.boot.toolkit import driver\ndriver.version = lambda: (12, 0)\n"
    code += "from jvan.benchmarking.machine import device_of\nprint(device_of('auto'))"
    site = without_numpy(fake_jittor(tmp_path / "site", body))
    assert start(script(tmp_path, code), path=[site], HOME=str(tmp_path), use_mkl="0").stdout == "cpu\n"


def test_a_command_that_is_started_anew(start, tmp_path):
    body = (
        "import os\nif 'JVAN_RESTARTED' in os.environ:\n    raise RuntimeError('the second time')\nraise SystemExit(0)"
    )
    site = without_numpy(fake_jittor(tmp_path / "site", body))
    code = f"import sys\nfrom jvan.predict import main\nsys.exit(main([{str(ROOT / 'tests' / 'data' / 'tiny_20x31.png')!r}]))"
    done = start(script(tmp_path, code), path=[site], status=1, HOME=str(tmp_path), use_mkl="0")
    assert "must be started again" in done.stderr and "RuntimeError: the second time" in done.stderr


QUESTION = """
import subprocess, sys
print(subprocess.getstatusoutput(f"log_v=0 {sys.executable} -m jittor_utils.query_cuda_cc"), subprocess.getstatusoutput("echo $((1 + 1))"))
"""


def test_what_jittor_asks_a_child_of_its_own(start, tmp_path, planted):
    """Its exact command, by a stand-in for Jittor: the architectures of the GPUs."""
    write(planted / "runpy.py", TAKEN)
    site = fake_jittor(tmp_path / "site", QUESTION)
    write(site / "jittor_utils" / "query_cuda_cc.py", "import ctypes, json\nprint(90)\nprint(80)\n")
    code = "import subprocess\nbefore = subprocess.getstatusoutput\nimport jvan, jittor\nassert subprocess.getstatusoutput is before"
    done = start("-S", script(tmp_path, code), path=[site], HOME=str(tmp_path), use_mkl="0")
    assert done.stdout == "(0, '90\\n80') (0, '2')\n"


def test_another_interpreter_gets_a_script_and_no_path(start, tmp_path):
    """As the peers of the benchmark do."""
    peer = write(tmp_path / "peers" / "peer.py", "import json, queue, sys\nprint(sys.path[0], 'ours' in sys.path)")
    code = f"import sys\nfrom jvan import children\nsys.path.append('ours')\nchildren.start_script(sys.executable, {str(peer)!r}).wait()"
    assert start(script(tmp_path, code)).stdout == f"{peer.parent} False\n"


def test_python_m_drops_the_folder(start, planted, tmp_path):
    for module in ("jvan", "jvan.train", "jvan.validate"):
        assert start("-m", module, "--help").stdout.startswith("usage: ")
    assert "train" in start("-m", "jvan", "--help").stdout


@pytest.mark.parametrize(
    ("first", "here", "kept"), [("here", "elsewhere", False), ("here", ROOT, True), ("/a", "elsewhere", True)]
)
def test_what_python_m_keeps(monkeypatch, tmp_path, first, here, kept):
    """jvan's own folder, and a path that does not begin with the current folder."""
    folder = tmp_path if here == "elsewhere" else here
    monkeypatch.chdir(folder)
    path = [os.getcwd() if first == "here" else first, "/b"]
    monkeypatch.setattr(sys, "path", list(path))
    monkeypatch.setattr(_path, "_named_by_m", lambda: True)
    _path.leave_current_folder()
    assert sys.path == path[not kept :]


def test_python_m_of_the_users_own_package_keeps_its_folder(tmp_path):
    write(tmp_path / "mine" / "__init__.py", "import jvan")
    write(tmp_path / "mine" / "run.py", "import sys\nprint(sys.path[0])")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mine.run"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{os.path.realpath(tmp_path)}\n"


BESIDE = """
import numpy as np
class Mine:
    shape = (3, 2, 2)
    def __call__(self, picture, rng):
        return np.zeros(self.shape, np.float32)
"""


def test_a_transform_beside_a_notebook_is_found(tmp_path):
    """A notebook has '' at the head of its path, and so has `python -c`."""
    folder = write_files(tmp_path, {"mine.py": BESIDE.encode(), **class_files(each=4, prefix="train/")})
    code = "import sys, mine\nassert sys.path[0] == ''\n" + LOAD.format(transform="mine.Mine()")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "2\n", done.stderr


def test_a_notebook_amid_planted_modules_starts_clean_workers(start, tmp_path):
    """A notebook's own Python has imported json and queue before the folder came on its path; its workers have not."""
    code = "import sys\nsys.path.insert(0, '')\n"
    load = LOAD.format(transform="Augment(size=12)").partition("with")
    assert start(script(tmp_path, load[0] + code + load[1] + load[2])).stdout == "2\n"


AWAY = """
import os, sys
from jvan import children
os.environ["PYTHONPATH"] = os.pathsep + os.environ["PYTHONPATH"]
os.chdir(sys.argv[1])
show = "import os, json, queue; print(os.environ['PYTHONPATH'])"
print(children.run_python(show, stdout=children.PIPE, text=True).stdout, end="")
"""


def test_a_variable_that_names_the_current_folder_reaches_no_child(start, tmp_path, planted):
    """PYTHONPATH with an empty entry. sitecustomize is what Python imports before any line of ours."""
    write(planted / "sitecustomize.py", TAKEN)
    done = subprocess.run(
        [sys.executable, script(tmp_path, AWAY), str(planted)], cwd="/", capture_output=True, text=True, timeout=60,
        env={**os.environ, "MARKER": str(tmp_path / "marker"), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout == f"{os.pathsep}{ROOT}\n", done.stderr
    assert not (tmp_path / "marker").exists()
