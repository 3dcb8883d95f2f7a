"""One worker: asked, suspended, and gone whatever happens."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jvan.benchmarking.process import Worker, WorkerLost

ECHO = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"


def worker(code, tmp_path, **environment):
    return Worker(sys.executable, script(code, tmp_path), tmp_path / "log", environment)


def script(code, tmp_path):
    path = tmp_path / "worker.py"
    path.write_text(code)
    return str(path)


def state(pid):
    """R, S, T (stopped) …, or an empty string where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_answers_in_turn_with_its_environment(tmp_path):
    code = "import os, json\nfor number in range(2): input(); print(json.dumps({'n': number, 'x': os.environ['X']}))"
    with worker("import sys; sys.stdout.reconfigure(line_buffering=True)\n" + code, tmp_path, X="y") as asked:
        assert [asked.ask({}, 20) for _ in range(2)] == [{"n": 0, "x": "y"}, {"n": 1, "x": "y"}]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_is_stopped_between_answers_and_gone_after(tmp_path):
    with worker(ECHO, tmp_path) as asked:
        asked.ask({"n": 1}, 20)
        until(lambda: state(asked.process.pid) == "T")
        assert asked.ask({"n": 2}, 20) == {"n": 2}
    assert state(asked.process.pid) == ""


@pytest.mark.parametrize(
    "code, said",
    [
        ("import sys; sys.exit('cause\\n\\n')", "ended with status 1: cause"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed (signal 9): out of memory?"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "ended by signal 15"),
        ("print('no JSON')", "answered b'no JSON'"),
        ("print('[1]')", "instead of a JSON object"),
        ('print(\'{"error": "told"}\')', "told"),
        ("import time; time.sleep(60)", "no answer within 0.3 s"),
        ("import time; print('half a line', end='', flush=True); time.sleep(60)", "no answer within 0.3 s"),
    ],
)
def test_lost(code, said, tmp_path):
    with worker(code, tmp_path) as asked:
        with pytest.raises(WorkerLost) as caught:
            asked.ask({}, 0.3 if "sleep" in code else 20)
        assert said in str(caught.value)
        assert asked.process.returncode is not None


def test_a_process_with_jittor_survives_stopped_and_killed_workers(tmp_path):
    """Jittor's handler of SIGCHLD would end it."""
    code = (
        "import sys; from pathlib import Path; import jvan, jittor; from jvan.benchmarking.process import Worker\n"
        f"with Worker(sys.executable, {script(ECHO, tmp_path)!r}, Path({str(tmp_path / 'log')!r}), {{}}) as w: w.ask({{}}, 60)\n"
        "import time; time.sleep(0.2); print('alive')"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=600)
    assert done.stdout == "alive\n", done.stderr


def test_no_interpreter(tmp_path):
    with pytest.raises(WorkerLost, match=r"/no/python: No such file"):
        Worker("/no/python", "worker.py", tmp_path / "log", {})


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_its_children_end_with_it(tmp_path):
    code = "import subprocess, sys; c = subprocess.Popen(['sleep', '60']); print('{\"pid\": %d}' % c.pid, flush=True); input()"
    with worker(code, tmp_path) as asked:
        child = asked.ask({}, 20)["pid"]
        assert state(child)
    until(lambda: state(child) in ("", "Z"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_killed_benchmark_leaves_no_worker(tmp_path):
    """The worker is stopped when its parent dies by SIGKILL, so that it cannot see the end of its input."""
    parent = (
        "import sys, time; from pathlib import Path; from jvan.benchmarking.process import Worker\n"
        f"w = Worker(sys.executable, {script(ECHO, tmp_path)!r}, Path({str(tmp_path / 'log')!r}), {{}}); w.ask({{}}, 60)\n"
        "print(w.process.pid, flush=True); time.sleep(60)"
    )
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", parent], cwd=root, stdout=subprocess.PIPE, text=True) as process:
        pid = int(process.stdout.readline())
        until(lambda: state(pid) == "T")
        os.kill(process.pid, signal.SIGKILL)
    until(lambda: state(pid) in ("", "Z"))
