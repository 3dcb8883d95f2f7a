"""`python -m jvan.doctor`: findings, mending commands, exit status; with stand-ins for Jittor, and once with Jittor itself."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from jvan import doctor
from jvan.boot.probe import run_child
from jvan.boot.settings import BROKEN, Finding

from .boot.machines import ROOT, fake_jittor, python

RUN = "import sys\nfrom jvan.doctor import main\nsys.exit(main({}))"
# enough of Jittor for the doctor's question to it
COMPUTES = """
import sys, types
class no_grad:
    def __enter__(self): pass
    def __exit__(self, *_): pass
class Ones(dict):
    def sum(self): return 3
has_cuda, mpi = 0, None
ones = lambda shape: Ones()
compile_extern = types.SimpleNamespace(mkl_ops=object())
flags = types.SimpleNamespace(cc_path="g++")
nn = types.SimpleNamespace(conv2d=lambda x, w: {(0, 1, 2, 2): 27})
print("chatter on stdout")
print("chatter on stderr", file=sys.stderr)
"""


def examine(tmp_path, body=COMPUTES, arguments="['--json']", compiled=True, **environment):
    site = fake_jittor(tmp_path / "site", body, compiled=compiled)
    return python(RUN.format(arguments), site, HOME=str(tmp_path), **environment)


def findings(result):
    document = json.loads(result.stdout)
    assert document["starts"] == (result.returncode == 0)
    return {row["name"]: row for row in document["findings"]}


def test_everything_is_told(tmp_path):
    result = examine(tmp_path)
    rows = findings(result)
    assert (result.returncode, result.stderr) == (0, "")
    names = {
        "Python",
        "jittor",
        "numpy",
        "paths",
        "rights",
        "compiler",
        "headers",
        "python-config",
        "cache",
        "disk",
        "copies",
        "oneDNN",
        "CUDA",
        "GPU",
        "MPI",
        "torch",
    }
    assert set(rows) == names | {"start"}
    assert rows["jittor"]["what"].startswith("1.3.11.0 at ") and "1.3.11.0 starts" in rows["start"]["what"]
    assert rows["oneDNN"]["status"] == "slow" and rows["oneDNN"]["fix"] == "unset use_mkl"
    assert rows["torch"]["status"] == "mended"


def test_unpacked_archives_that_are_left_over_are_listed(tmp_path):
    assert findings(examine(tmp_path))["copies"]["what"] == "no unpacked archive is left over"
    left = tmp_path / ".cache" / "jvan" / "data" / "it's-0123456789abcdef.tar"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"12345")
    row = findings(examine(tmp_path))["copies"]
    assert row["status"] == "ok" and f"{left}, 0.0 GiB: it is not known which archive it is of" in row["what"]
    subprocess.run(row["fix"].partition(": ")[2], shell=True, check=True)
    assert not left.exists()


def test_table_says_the_same(tmp_path):
    result = examine(tmp_path, arguments="[]")
    assert result.returncode == 0 and result.stdout.endswith("\nJittor starts.\n")
    assert "slow    oneDNN" in result.stdout and "to mend it: unset use_mkl" in result.stdout
    assert "chatter" not in result.stdout + result.stderr


def test_compilation_is_announced(tmp_path):
    result = examine(tmp_path, compiled=False)
    assert result.stderr == "jvan: compiling Jittor's core for this machine, once: about two minutes\n"
    assert findings(result)["start"]["status"] == "ok"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (COMPUTES.replace("27", "26"), "computes wrong numbers"),
        ("raise RuntimeError('no such luck')", "RuntimeError: no such luck"),
        ("import os\nos.write(2, b'terminate called\\n')\nos.abort()", "terminate called"),
        ("import os\nos._exit(0)", "status 0"),
        ("raise SystemExit(0)", "must be started again"),
    ],
)
def test_jittor_that_does_not_start_is_status_1(tmp_path, body, expected):
    result = examine(tmp_path, body)
    row = findings(result)["start"]
    assert result.returncode == 1 and row["status"] == "broken" and expected in row["what"] and row["fix"]
    assert "\n" not in row["what"] and "Traceback" not in result.stderr


@pytest.mark.parametrize(("fault", "status"), [("", "ok"), ("the GPU computes wrong numbers (a sum)", "slow")])
def test_gpu_is_tried(tmp_path, fault, status):
    gpu = f"has_cuda = 1\nsys.modules['jvan.device'] = types.SimpleNamespace(cuda_fault=lambda: {fault!r})\n"
    row = findings(examine(tmp_path, COMPUTES + gpu))["start"]
    assert row["status"] == status and fault in row["what"] and ("and on the GPU" in row["what"]) == (not fault)


def compiler_of(version, tmp_path):
    path = tmp_path / "compiler"
    path.write_text(f"#!/bin/sh\necho '#define {version}'\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("__GNUC__ 8", "the C++ kernels are off: they need GCC 9 or newer, {} is 8"),
        ("__clang_major__ 10", "the C++ kernels are off: they need Clang 11 or newer, {} is 10"),
        ("__EDG__ 1", "the C++ kernels are off: {} is neither GCC nor Clang"),
    ],
)
def test_a_compiler_that_cannot_build_the_kernels_is_told(tmp_path, version, said):
    compiler = compiler_of(version, tmp_path)
    row = findings(examine(tmp_path, COMPUTES.replace("g++", compiler)))["start"]
    assert row["status"] == "slow" and said.format(compiler) in row["what"]
    assert "bfloat16" not in row["what"]


def test_kernels_that_are_switched_off_are_told(tmp_path):
    result = examine(tmp_path, JVAN_KERNELS="0")
    row = findings(result)["start"]
    assert result.returncode == 0 and row["status"] == "slow"
    assert "; the C++ kernels are switched off: JVAN_KERNELS is 0" in row["what"] and "bfloat16" not in row["what"]


def test_kernels_that_run_are_not_slow(tmp_path):
    row = findings(examine(tmp_path, COMPUTES.replace("g++", compiler_of("__GNUC__ 9", tmp_path))))["start"]
    assert row["status"] == "ok" and "; bfloat16 inference: values rounded to bfloat16" in row["what"]


def test_hopeless_machine_is_told_without_a_try(tmp_path):
    result = examine(tmp_path, PATH="/nowhere")
    rows = findings(result)
    assert result.returncode == 1 and "start" not in rows
    assert rows["compiler"]["status"] == "broken" and "g++" in rows["compiler"]["fix"]
    assert "Jittor cannot start." in examine(tmp_path, PATH="/nowhere", arguments="[]").stdout


def test_hanging_child_is_ended_with_its_children():
    start = time.monotonic()
    status, *_ = run_child("import subprocess; subprocess.run(['sleep', '600'])", timeout=2)
    assert status is None and time.monotonic() - start < 60


def test_last_line():
    assert doctor.last_line("Traceback\n  File\nOSError: gone\n\n") == "OSError: gone"
    assert doctor.last_line("") == "no message"


def test_table_is_aligned():
    lines = doctor.table([Finding("a", BROKEN, "what", "do this"), Finding("a longer name", "ok", "else")])
    assert [line.index(word) for line, word in zip(lines, ("what", "to mend it: do this", "else"))] == [23, 23, 23]


def test_jittor_itself_starts():
    command = [sys.executable, "-m", "jvan.doctor", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=900)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = findings(result)
    assert rows["start"]["status"] == "ok", "with oneDNN"
    assert all(line.startswith("jvan: ") for line in result.stderr.splitlines())


def test_interrupt_is_an_exception_after_the_import():
    """Jittor's own handler would end the process at once, and leave half-written files."""
    code = "import jvan, jittor, os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\nexcept KeyboardInterrupt:\n    print('caught')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=900)
    assert result.stdout.endswith("caught\n") and result.returncode == 0
