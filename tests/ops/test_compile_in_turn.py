"""Jittor's compiler threads: one at a time builds an operator's source, which is where they share the graph."""

import fcntl
import subprocess
import sys
import time
from pathlib import Path

import jittor as jt

from jvan.ops import _jit

# Jittor calls every OpByType's post_pass while an operator's source is built. This one stays there long enough to be met.
PROBE = r"""
#include <atomic>
#include <chrono>
#include <thread>
#include <op_compiler.h>
#include <ops/op_register.h>
struct Probe : jittor::OpByType {
    std::atomic<int> here{0}, most{0}, calls{0};
    jittor::string expand_op(const jittor::vector<jittor::string>&) override { return ""; }
    void post_pass(jittor::OpCompiler*) override {
        int now = ++here;
        if (now > most) most = now;
        calls++;
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        here--;
    }
};
"""
PROGRAM = """
import sys
import jvan
import jittor as jt
import numpy as np
import jvan.ops.pointwise
header, source = sys.argv[1], "static Probe probe; static int once = jittor::registe_op_type(&probe);"
count = source + "out0_p[0] = probe.most; out0_p[1] = probe.calls;"
ask = lambda: jt.code((2,), "float32", [], cpu_header=header, cpu_src=count).numpy()
ask()
x, w = np.random.rand(5, 7).astype("float32"), np.random.rand(7, 7).astype("float32")
a, b = jt.array(x), jt.array(w)
# products that share their variables, and their gradients: new operators enough for every thread
out = [jt.matmul(a, b) * 2, jt.matmul(a, b.transpose()) + 3, jt.matmul(a.transpose(), a) - 4]
gradients = jt.grad(sum((o * o).sum() for o in out), [a, b])
jt.sync([*out, *gradients])
assert np.allclose(out[0].numpy(), x @ w * 2, rtol=1e-5)
two, three, four = x @ w * 2, x @ w.T + 3, x.T @ x - 4
assert np.allclose(gradients[1].numpy(), 4 * x.T @ two + 2 * three.T @ x, rtol=1e-4)
assert np.allclose(gradients[0].numpy(), 4 * two @ w.T + 2 * three @ w + 2 * x @ (four + four.T), rtol=1e-4)
print(*map(int, ask()))
"""


def test_sources_are_built_one_at_a_time():
    result = subprocess.run([sys.executable, "-c", PROGRAM, PROBE], capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    most, calls = map(int, result.stdout.split()[-2:])
    assert most == 1 and calls > 5  # 2 or more without jvan's hook


def test_half_of_an_operator_is_compiled_anew():
    """As a killed linker leaves it: beside the key of the library before it."""
    program = (
        "import jvan.ops.pointwise, jittor as jt\n"
        "print(jt.code((1,), 'float32', [], cpu_header='#define HALF 2', cpu_src='out0_p[0] = HALF;').numpy()[0])"
    )
    run = [sys.executable, "-c", program]
    assert subprocess.run(run, capture_output=True, text=True, timeout=600).stdout.split()[-1] == "2.0"
    (library,) = Path(jt.flags.cache_path, "jit").glob("code_*HEADER__define_HALF_2*_op.so")
    whole = library.read_bytes()
    for left in (b"", bytes(len(whole) // 2)):  # the header is written last
        library.unlink()
        library.write_bytes(left)
        done = subprocess.run(run, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split()[-1] == "2.0" and len(library.read_bytes()) == len(whole)


SLOW_COMPILER = """#!/bin/sh
touch "{folder}/begun"
while [ ! -e "{folder}/go" ]; do sleep 0.05; done
exec {compiler} "$@"
"""


def is_locked(path) -> bool:
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def wait_until(condition) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_compilers_of_a_killed_process_are_waited_for(tmp_path):
    """They hold the lock that the next process asks for, until they have ended."""
    compiler, lock = tmp_path / "compiler", Path(jt.flags.cache_path, "jvan-compilers.lock")
    compiler.write_text(SLOW_COMPILER.format(folder=tmp_path, compiler=jt.flags.cc_path))
    compiler.chmod(0o755)
    program = (
        "import jvan.ops.pointwise, jittor as jt\n"
        f"jt.flags.cc_path = {str(compiler)!r}\n"
        "jt.code((1,), 'float32', [], cpu_header='#define ORPHAN 2', cpu_src='out0_p[0] = ORPHAN;').sync()"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    try:
        wait_until((tmp_path / "begun").exists)
        process.kill()
        process.wait()
        assert is_locked(lock)
    finally:
        (tmp_path / "go").touch()
        process.kill()
    wait_until(lambda: not is_locked(lock))


def test_where_it_cannot_be_done_one_thread_compiles(monkeypatch):
    def refused(*_):
        raise RuntimeError("no compiler")

    before = jt.flags.use_parallel_op_compiler
    monkeypatch.setattr(_jit, "run_kernel", refused)
    try:
        assert not _jit.compile_in_turn()
        assert jt.flags.use_parallel_op_compiler == 0
    finally:
        jt.flags.use_parallel_op_compiler = before
