"""`jvan cuda-home`: the variables for a shell, a home in a folder of one's own; with toolkits of empty files."""

from __future__ import annotations

import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from jvan.boot import settings as boot_settings
from jvan.boot.toolkit import assemble, driver, swap
from jvan.cuda_home import main

from .boot.conftest import gpu, home  # noqa: F401
from .boot.machines import fake_toolkit, write


@pytest.fixture
def toolkit(home):  # noqa: F811
    """A toolkit of CUDA 13 on PATH."""
    nvcc = fake_toolkit(home / "cuda", "13.0", cudnn=0)
    os.environ["PATH"] = str(nvcc.parent)
    return home / "cuda"


def variables(text):
    """What a shell makes of the lines."""
    script = (
        text + '\nfor name in nvcc_path use_cutt cutt_lib_path conv_opt FIX_TORCH_ERROR; do eval "echo \\$$name"; done'
    )
    result = subprocess.run(["/bin/sh", "-euc", script], capture_output=True, text=True, env={}, check=True)
    return result.stdout.splitlines()


def test_lines_are_for_a_shell(home, gpu, toolkit, capsys):  # noqa: F811
    boot_settings.set_default("FIX_TORCH_ERROR", "0")
    assert main([]) == 0
    output = capsys.readouterr()
    nvcc, use_cutt, cutt, conv_opt, torch = variables(output.out)
    made = os.path.dirname(os.path.dirname(nvcc))
    assert os.access(nvcc, os.X_OK) and made.startswith(str(home / ".cache")) and cutt == f"{made}/cutt/lib"
    assert (use_cutt, conv_opt, torch) == ("1", "1", "0")
    assert "jvan cuda-home: CUDA 13.0" in output.err and "without cuDNN" in output.err
    assert "nvcc_path" not in os.environ, "printed, not set"


@pytest.mark.parametrize("before", ["nothing", "an empty folder", "an earlier home"])
def test_install_needs_no_gpu(home, toolkit, capsys, tmp_path, monkeypatch, before):  # noqa: F811
    target = tmp_path / "opt" / "cuda"
    if before != "nothing":
        target.mkdir(parents=True)
    if before == "an earlier home":
        write(target / assemble.MANIFEST, "{}")
        write(target / "left over")
    monkeypatch.chdir(tmp_path)
    assert main(["--install", "opt/cuda", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["home"] == str(target) and document["archs"] == [] and document["toolkit"]["version"] == [13, 0]
    assert document["variables"]["nvcc_path"] == str(target / "bin" / "nvcc") and document["why"]
    assert sorted(os.listdir(target)) == ["bin", "cutt", "include", assemble.MANIFEST, "lib64"]
    assert "-arch=all-major" in (toolkit / "calls").read_text()
    assert sorted(os.listdir(tmp_path / "opt")) == ["cuda"]


def test_architectures_can_be_named(home, toolkit, tmp_path, capsys):  # noqa: F811
    assert main(["--install", str(tmp_path / "it"), "--arch", "80", "sm_120", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["archs"] == [80, 120]
    compiled = (toolkit / "calls").read_text()
    assert "code=sm_80" in compiled and "code=sm_90" in compiled and "code=compute_90" in compiled
    with pytest.raises(SystemExit) as end:
        main(["--arch", "hopper"])
    assert end.value.code == 2


@pytest.mark.parametrize("name", ["holds something", "a file", "with a space"])
def test_folder_that_does_not_suit_is_refused(home, toolkit, tmp_path, capsys, name):  # noqa: F811
    target = tmp_path / name.replace(" ", "_" if name != "with a space" else " ")
    if name != "with a space":
        write(target / "mine" if name == "holds something" else target, "precious")
    assert main(["--install", str(target)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"jvan cuda-home: {target}") and error.count("\n") == 1
    assert name == "with a space" or "precious" in (target / "mine" if target.is_dir() else target).read_text()
    assert not (toolkit / "calls").exists()


def test_failing_compiler_leaves_the_earlier_home(home, toolkit, tmp_path, capsys):  # noqa: F811
    target = tmp_path / "it"
    assert main(["--install", str(target)]) == 0
    before = sorted(target.rglob("*"))
    nvcc = toolkit / "bin" / "nvcc"
    write(nvcc, nvcc.read_text().replace("*)\n", "*)\n    echo 'fatal: no luck'; exit 1\n"), 0o755)
    capsys.readouterr()
    assert main(["--install", str(target)]) == 1
    assert "does not compile: fatal: no luck" in capsys.readouterr().err
    assert sorted(target.rglob("*")) == before and os.listdir(tmp_path).count("it") == 1
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".jvan")]


@pytest.fixture
def renames(monkeypatch):
    """The renames that were made, each by a process that another one may disturb."""
    calls, rename = [], os.rename

    def noted(source, target):
        calls.append((os.path.basename(source), os.path.basename(target)))
        time.sleep(0.01)  # another process may come in between
        rename(source, target)

    monkeypatch.setattr(os, "rename", noted)
    return calls


def folders_to_put(folder, count):
    return [write(folder / f".jvan-{i}" / "new" / "mark", str(i)).parent for i in range(count)]


def test_a_home_that_cannot_be_put_leaves_the_earlier_one(tmp_path, renames):
    (new,) = folders_to_put(tmp_path, 1)
    write(tmp_path / "it" / "mark", "earlier")
    swap.put(str(new), str(tmp_path / "it"), str(new.parent))
    assert renames == [("it", "old"), ("new", "it")] and (tmp_path / "it" / "mark").read_text() == "0"
    with pytest.raises(OSError):
        swap.put(str(tmp_path / "absent"), str(tmp_path / "it"), str(write(tmp_path / "more" / "x").parent))
    assert (tmp_path / "it" / "mark").read_text() == "0" and renames[-1] == ("old", "it")


def test_homes_put_at_once_do_not_disturb_each_other(tmp_path, renames):
    new = folders_to_put(tmp_path, 6)
    with ThreadPoolExecutor(len(new)) as pool:
        jobs = [pool.submit(swap.put, str(one), str(tmp_path / "it"), str(one.parent)) for one in new]
    assert [job.exception() for job in jobs] == [None] * len(new)
    assert (tmp_path / "it" / "mark").read_text() in map(str, range(len(new)))


def test_named_compiler_overrides(home, toolkit, capsys, monkeypatch):  # noqa: F811
    other = fake_toolkit(home / "older", "12.4")
    monkeypatch.setattr(driver, "version", lambda: (13, 0))
    assert main(["--nvcc", str(other), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["variables"]["nvcc_path"] == str(other) and document["why"] == []
    assert main(["--nvcc", str(home / "absent")]) == 1
    assert "no nvcc that runs" in capsys.readouterr().err


def test_nothing_to_take_is_one_line(home, capsys):  # noqa: F811
    assert main([]) == 1
    assert (
        capsys.readouterr().err
        == "jvan cuda-home: no nvcc is here; to mend it: install a CUDA toolkit, or its wheels: docs/gpu.md\n"
    )
