"""Ctrl-C, SIGTERM, errors and want of memory in the middle of `jvan predict`: what was printed is whole. Without Jittor."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jvan import predict
from jvan._cli import command
from jvan._say import show_json
from jvan._stop import Stopped
from jvan.errors import JvanError
from jvan.tasks import Prediction, task_named

ROOT = Path(__file__).parents[1]
# `jvan predict` around a stand-in for the network; `met(number)` is called before each picture
STAND_IN = """
import os, resource, signal, sys, time
from jvan import predict
from jvan.errors import JittorRebuilt, JvanError
from jvan import tasks
from jvan.tasks import Prediction
class StandIn:
    task = tasks.task_named("classification")
    def __init__(self, *given, **options): met(-1)
    def describe(self): return ["ready"]
    def stream(self, images):
        try:
            for number, image in enumerate(images):
                met(number)
                yield image, [Prediction(0, "l" * SIZE, 1.0)]
        finally:
            at_end()
tasks.Predictor = StandIn
SIZE = 10
def at_end(): pass
def met(number): pass
{changes}
os.execve = lambda *given: os._exit(1)
sys.exit(predict.main(sys.argv[1:]))
"""
FILES = [f"nothing-{number}.png" for number in range(9)]


def start(changes, *argv, **options):
    program = STAND_IN.replace("{changes}", changes)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", program, *argv], cwd=ROOT, **pipes, **options)


@pytest.fixture
def files(tmp_path):
    """Paths that exist."""
    paths = [str(tmp_path / name) for name in FILES]
    for path in paths:
        Path(path).touch()
    return paths


def ended(process, files):
    out, err = process.communicate(timeout=30)
    entries = json.loads(out)
    assert [entry["file"] for entry in entries] == files[: len(entries)]
    assert b"Traceback" not in err
    return process.returncode, len(entries), err.decode().splitlines()[1:]


FAULTS = {
    "error": (lambda: raised(JvanError("broken")), 1, "broken"),
    "disk": (lambda: raised(OSError(28, "No space", "x")), 1, "x: No space"),
    "memory": (lambda: raised(MemoryError()), 1, "not enough memory; close other programs"),
    "array": (lambda: np.empty(1 << 60, np.uint8), 1, "not enough memory (Unable to allocate"),
    "ctrl-c": (lambda: signal.raise_signal(signal.SIGINT), 130, "interrupted"),
    "sigterm": (lambda: signal.raise_signal(signal.SIGTERM), 143, "terminated"),
}


def raised(error):
    raise error


@pytest.fixture
def classify(monkeypatch, capsys, files):
    """`jvan predict --json` where `fault()` comes at the picture number `at`, -1 when the weights are read."""

    def run(fault, at, *more):
        class StandIn:
            task = task_named("classification")

            def __init__(self, *given, **options):
                if at == -1:
                    fault()

            def describe(self):
                return ["ready"]

            def stream(self, images):
                for number, image in enumerate(images):
                    if number == at:
                        fault()
                    yield image, [Prediction(0, "label", 1.0)]

        monkeypatch.setattr("jvan.tasks.Predictor", StandIn)
        status = predict.main([*files, "--json", *more])
        return status, *capsys.readouterr()

    return run


@pytest.mark.parametrize("at", [-1, 0, 3])
@pytest.mark.parametrize("name", FAULTS)
def test_the_list_is_whole(name, at, classify, files):
    fault, status, line = FAULTS[name]
    found, out, err = classify(fault, at)
    assert (found, [entry["file"] for entry in json.loads(out)]) == (status, files[: max(at, 0)])
    assert err.splitlines()[-1].startswith(f"jvan predict: {line}") and err.count("\n") == 1 + (at >= 0)


@pytest.mark.parametrize("name", ["memory", "ctrl-c", "sigterm"])
@pytest.mark.parametrize("at", [0, 2])
def test_an_entry_is_whole_or_not_there(name, at, classify, monkeypatch):
    """The fault comes while an entry is being written."""
    printed, count = predict.show_ascii, itertools.count()

    def show_ascii(text, **how):
        if "label" in text and next(count) == at:
            FAULTS[name][0]()
        printed(text, **how)

    monkeypatch.setattr(predict, "show_ascii", show_ascii)
    status, out, _ = classify(None, None)
    assert (status, len(json.loads(out))) == (FAULTS[name][1], at + (name != "memory"))


def test_a_fault_of_ours_leaves_a_whole_list_too_and_an_escaped_traceback(files):
    process = start("def met(number):\n    if number == 2: raise ZeroDivisionError('\\x1b[31m中')", *files, "--json")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 1 and len(json.loads(out)) == 2
    assert b"\x1b" not in err and "ZeroDivisionError: \\x1b[31m中".encode() in err.splitlines()[-1]


@pytest.mark.parametrize("again, printed", [("", b""), ("1", b"[]\n")])
def test_a_command_that_is_started_anew_prints_its_list_then(files, again, printed):
    """It is started anew once; where that was of no use the list ends here."""
    surroundings = {**os.environ, "JVAN_RESTARTED": again} if again else None
    process = start("def met(number): raise JittorRebuilt('anew')", *files, "--json", env=surroundings)
    assert process.communicate(timeout=30)[0] == printed and process.returncode == 1


@pytest.mark.parametrize("number, status, unbuffered", [(signal.SIGTERM, 143, ""), (signal.SIGINT, 130, "1")])
def test_a_signal_does_not_cut_an_entry(number, status, unbuffered, files):
    """It comes while an entry of 3 MB waits for its reader."""
    process = start("SIZE = 3 << 20", *files, "--json", env={**os.environ, "PYTHONUNBUFFERED": unbuffered})
    begun = os.read(process.stdout.fileno(), 1000)  # a pipe holds 64 KiB: the entry is being written
    time.sleep(0.3)
    process.send_signal(number)
    time.sleep(0.3)
    assert process.poll() is None
    out, err = process.communicate(timeout=30)
    assert process.returncode == status and 1 <= len(json.loads(begun + out)) < len(files)
    assert err.splitlines()[1:] == [b"jvan predict: " + (b"terminated" if status == 143 else b"interrupted")]


def test_a_second_signal_ends_it_at_once(files):
    process = start(
        "def met(number):\n"
        "    try: print('begun', file=sys.stderr, flush=True); time.sleep(60)\n"
        "    finally: print('ending', file=sys.stderr, flush=True); time.sleep(60)",
        *files, "--json",
    )  # fmt: skip
    assert process.stderr.readline() == b"begun\n"
    process.send_signal(signal.SIGTERM)
    assert process.stderr.readline() == b"ending\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == -signal.SIGTERM
    process.communicate()


@pytest.mark.parametrize("module, name", [("__main__", "jvan"), ("validate", "jvan validate")])
def test_the_line_names_the_command(module, name, capsys):
    """Ctrl-C may come before `jvan` knows which command is asked for."""

    def main(argv):
        signal.raise_signal(signal.SIGINT)

    main.__code__ = main.__code__.replace(co_filename=f"jvan/{module}.py")
    assert command(main)([]) == 130
    assert capsys.readouterr().err == f"{name}: interrupted\n"


def test_what_nohup_ignores_stays_ignored(files):
    process = start(
        "def met(number): signal.raise_signal(signal.SIGINT)", *files, "--json",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )  # fmt: skip
    assert ended(process, files)[:2] == (0, len(files))


def test_a_forked_child_ends_by_sigterm_alone(files):
    """As Jittor's compilers: at Ctrl-C the parent ends them."""
    process = start(
        "def met(number):\n"
        "    if (child := os.fork()) == 0:\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "        signal.raise_signal(signal.SIGTERM)\n"
        "    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM",
        *files[:1], "--json",
    )  # fmt: skip
    assert ended(process, files)[:2] == (0, 1)


def test_doctor_ends_its_child_and_prints_a_whole_document():
    program = (
        "import sys\n"
        "from jvan import doctor\n"
        "doctor.PROBE = 'import os, sys, time; print(\"jvan: up\", os.getpid(), file=sys.stderr, flush=True); time.sleep(60)'\n"
        "doctor.examine = lambda timeout: [doctor.check_start(timeout)]\n"
        "sys.exit(doctor.main(['--json']))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    child = int(process.stderr.readline().split()[-1])
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert (json.loads(out), err) == (
        {"error": "terminated"},
        b"jvan doctor: terminated\n",
    ) and process.returncode == 143
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_handlers_are_as_before_afterwards():
    from jvan._stop import Stopped, stops_in_order, whole

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Stopped) as stopped, stops_in_order(), whole, whole:
        signal.raise_signal(signal.SIGTERM)
        seen = True
    assert seen and stopped.value.number == signal.SIGTERM
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_lines_outlast_a_kill(files):
    """Each is there as soon as its picture is done."""
    process = start("", "-", "--json-lines")
    for path in files[:2]:
        process.stdin.write(path.encode() + b"\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["file"] == path
    process.kill()
    assert process.communicate()[0] == b"" and process.returncode == -signal.SIGKILL


def test_a_line_is_an_entry_of_the_list(files):
    out = [start("", *files, "none.png", form).communicate(timeout=30)[0] for form in ("--json", "--json-lines")]
    assert json.loads(out[0]) == [json.loads(line) for line in out[1].splitlines()] and len(json.loads(out[0])) == 10


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is Linux's")
def test_want_of_memory_is_one_line_also_when_nothing_is_left():
    program = (
        "import resource, sys\n"
        "from jvan._cli import command\n"
        "@command\n"
        "def main(argv):\n"
        "    taken = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (taken + (30 << 20),) * 2)\n"
        "    kept = None\n"
        "    while True: kept = {0: kept}\n"
        "sys.exit(main([]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("jvan <string>: not enough memory; close other programs")


def test_want_of_memory_in_a_loaders_worker_is_the_same_error():
    from jvan.data.worker import _answer

    class Work:
        def make(self, *given):
            raise MemoryError("a GiB")

    made, error = _answer(Work(), 0, 0, None, 0, 1)
    assert not made.bad and not made.targets and error == (MemoryError, "in a loader's worker: a GiB")


@pytest.mark.parametrize(
    ("fault", "status"),
    [(JvanError("a \x1b fault"), 1), (MemoryError("no room"), 1), (KeyboardInterrupt(), 130), (Stopped(15), 143)],
)
def test_json_of_a_job_that_fails_is_one_document(fault, status, capsys):
    def main(argv):
        raise fault

    assert command(main)(["--json"]) == status
    out, err = capsys.readouterr()
    ((key, line),) = json.loads(out).items()
    assert key == "error" and line.isprintable() and line in err
    assert command(main)(["a", "b"]) == status and capsys.readouterr().out == ""


def test_a_document_that_is_there_is_not_followed_by_another(capsys):
    def main(argv):
        show_json({"found": 1})
        raise JvanError("and something is wrong with it")

    assert command(main)(["--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"found": 1}


@pytest.mark.parametrize("call", ["inspect missing.pth", "convert missing.pth b.npz", "validate missing"])
def test_commands_answer_in_json_that_they_failed(call, tmp_path):
    call = [sys.executable, "-m", "jvan", *call.split(), "--json"]
    done = subprocess.run(
        call, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr.endswith(f": {json.loads(done.stdout)['error']}\n")


def test_a_child_that_ends_while_a_command_is_stopped_goes_unheeded():
    """Python prints a traceback for a signal that has come and finds SIG_DFL in the place of its handler."""
    program = (
        "import os, signal\n"
        "from jvan import _stop\n"
        "with _stop.stops_in_order():\n"
        "    _stop.listen_again()\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD, signal.SIGTERM])\n"
        "    for number in (signal.SIGCHLD, signal.SIGTERM): os.kill(os.getpid(), number)\n"
        "    try: signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD, signal.SIGTERM])\n"
        "    except _stop.Stopped: print('stopped')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "stopped\n", "")
