"""A cache that others can write, or have written, is refused or closed; what people do with caches otherwise goes on."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from jvan.boot import cache as boot_cache
from jvan.boot import onednn as boot_onednn
from jvan.boot.settings import BROKEN, MENDED, OK, SLOW

from .machines import ROOT, fake_jittor, fake_wheel, python, write

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="this system has no owners of files")
ROOT_USER = hasattr(os, "getuid") and os.getuid() == 0
needs_root = pytest.mark.skipif(not ROOT_USER, reason="only root gives files to others")
ALICE, MALLORY, STAFF = 4321, 4322, 4399
CORE = "jt1.3.11/g++12/default"


@pytest.fixture
def cache(home, monkeypatch):
    """A cache as Jittor leaves it under umask 022, of a user who is not root: under root the check is told another number."""
    top = home / ".cache" / "jittor"
    for name in ("jittor_core.cpython-311-x86_64-linux-gnu.so", "jit/op.so", "jit/op.cc", "obj_files/a.o"):
        write(top / CORE / name, "code")
    write(top / "mkl" / "lib" / "libdnnl.so.2")
    write(top / "jvan" / "cuda-12" / "bin" / "nvcc", "#!/bin/sh\n", 0o755)
    (top / "mkl" / "lib" / "libmkldnn.so").symlink_to("libdnnl.so.2")
    for folder, _, _ in os.walk(home):
        os.chmod(folder, 0o755)
    if ROOT_USER:
        monkeypatch.setattr(os, "getuid", lambda: ALICE)
        give(home, ALICE)
    before = os.umask(0o022)
    yield top
    os.umask(before)


def give(place, user):
    for folder, folders, files in os.walk(place):
        for name in (".", *folders, *files):
            os.lchown(os.path.join(folder, name), user, user)


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def check(capsys, status, *said):
    found = boot_cache.check_rights()
    assert found.status == status, found
    printed = capsys.readouterr().err
    assert all(word in (found.what + found.fix) for word in said), found
    assert printed == (f"jvan: {found.what}\n" if status == MENDED else "")
    return found


def test_the_usual_cache_is_left_as_it_is(cache, capsys):
    check(capsys, OK, "nobody but its owner and root")
    assert mode(cache) == 0o755
    os.chmod(cache, 0o700)
    check(capsys, OK, "nobody but its owner and root")
    shutil.rmtree(cache)
    check(capsys, OK, "no cache there yet")


@pytest.mark.parametrize("name", [".", CORE, f"{CORE}/jit", f"{CORE}/jit/op.so", "mkl/lib/libdnnl.so.2", "jvan/cuda-12/bin/nvcc"])  # fmt: skip
def test_ones_own_cache_that_was_open_is_closed_and_told_once(cache, capsys, name):
    os.chmod(cache / name, 0o777)
    check(capsys, MENDED, "could be written by everybody", f"chmod o-rwx {cache}")
    assert mode(cache) & 0o007 == 0
    check(capsys, OK)


def test_what_jittor_would_compile_under_an_open_umask_is_behind_a_closed_door(cache, capsys):
    os.umask(0)
    check(capsys, MENDED, "the umask")
    assert mode(cache) == 0o750
    check(capsys, OK)


def test_a_new_cache_under_an_open_umask_is_closed_from_the_start(home, capsys):
    before = os.umask(0)
    try:
        boot_cache.make(str(home / ".cache" / "jittor" / "jvan"))
    finally:
        os.umask(before)
    assert [mode(home / name) for name in (".cache", ".cache/jittor", ".cache/jittor/jvan")] == [0o775, 0o770, 0o775]


@pytest.mark.parametrize(("umask", "wanted"), [(0o022, 0o755), (0o002, 0o775), (0o077, 0o700)])
def test_other_umasks_decide_as_ever(home, umask, wanted):
    before = os.umask(umask)
    try:
        boot_cache.make(str(home / ".cache" / "jittor"))
    finally:
        os.umask(before)
    assert {mode(home / name) for name in (".cache", ".cache/jittor")} == {wanted}


def test_a_groups_right_is_told_and_not_refused(cache, capsys):
    """umask 002, the usual one where everybody has a group."""
    for folder, _, files in os.walk(cache):
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            os.chmod(path, 0o775)
    check(capsys, OK, "the group ", "can write", str(cache))
    assert mode(cache) == 0o775


@pytest.mark.parametrize("system", ["chmod does nothing", "chmod fails"])
def test_where_rights_cannot_be_taken_away_it_warns(cache, capsys, monkeypatch, system):
    def chmod(*_):
        if system == "chmod fails":
            raise PermissionError

    os.chmod(cache, 0o777)
    monkeypatch.setattr(os, "chmod", chmod)
    with pytest.warns(UserWarning, match="lets nobody take that right away.*JVAN_TRUST_CACHE=1"):
        check(capsys, SLOW, "lets nobody take that right away")
    os.environ["JVAN_TRUST_CACHE"] = "1"
    check(capsys, OK)


def test_a_folder_above_in_which_everybody_may_rename(cache, capsys):
    os.chmod(cache.parent, 0o777)
    check(capsys, MENDED, f"chmod o-w {cache.parent}")
    assert mode(cache.parent) == 0o775 and mode(cache) == 0o755
    check(capsys, OK)


@needs_root
@pytest.mark.parametrize(
    "name", [".", CORE, f"{CORE}/jit/op.so", "mkl/lib/libmkldnn.so", "jvan/cuda-12/bin/nvcc", "jvan"]
)
def test_what_belongs_to_somebody_else_is_refused(cache, capsys, name, monkeypatch):
    os.lchown(cache / name, MALLORY, -1)
    os.chmod(cache, 0o700)  # closed, but too late
    said = check(
        capsys, BROKEN, f"{cache / name} belongs to uid {MALLORY}" if name != "." else str(cache), "JVAN_TRUST_CACHE=1"
    )
    assert "\n" not in said.what + said.fix
    os.environ["JVAN_TRUST_CACHE"] = "1"
    check(capsys, OK, "JVAN_TRUST_CACHE=1")
    os.environ["JVAN_TRUST_CACHE"] = "0"
    check(capsys, BROKEN)
    monkeypatch.setattr(os, "getuid", lambda: 0)  # root over a foreign home
    check(capsys, OK)


@needs_root
def test_a_link_to_what_somebody_else_can_change(cache, capsys, tmp_path):
    scratch = write(tmp_path / "scratch" / "jit" / "op.so").parents[1]
    give(scratch, ALICE)
    (cache / "jt2").symlink_to(scratch)
    os.lchown(cache / "jt2", ALICE, -1)
    check(capsys, OK)
    (scratch / "loop").symlink_to(cache)
    os.lchown(scratch / "loop", ALICE, -1)
    check(capsys, OK)
    os.chown(scratch / "jit" / "op.so", MALLORY, -1)
    check(capsys, BROKEN, "op.so belongs to")
    (cache / "jt2").unlink()
    (cache / "jvan" / "cuda-12" / "include").symlink_to(scratch)  # the machine's own CUDA, whoever installed it
    os.lchown(cache / "jvan" / "cuda-12" / "include", ALICE, -1)
    check(capsys, OK)


@needs_root
def test_a_cache_that_root_made_for_somebody_else(cache, capsys):
    """As in an image of a container: root's files; the user may write the folder by its group, or owns it."""
    give(cache, 0)
    os.chown(cache, 0, STAFF)
    os.chmod(cache, 0o775)
    check(capsys, OK, "the group ")
    os.chown(cache, ALICE, ALICE)
    check(capsys, OK)
    os.chown(cache, 0, STAFF)
    os.chmod(cache, 0o777)
    check(capsys, BROKEN, f"{cache} can be written by everybody", "JVAN_TRUST_CACHE=1")
    os.chmod(cache, 0o755)
    os.chmod(cache / CORE / "jit" / "op.so", 0o666)
    check(capsys, BROKEN, "op.so can be written by everybody")
    os.chmod(cache, 0o770)  # nobody but the group comes near it
    check(capsys, OK)


@needs_root
def test_root_is_refused_nothing_and_changes_nothing(cache, capsys, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 0)
    for owner in (ALICE, 0):
        give(cache, owner)
        os.chmod(cache, 0o777)
        os.umask(0)
        check(capsys, OK, "root is refused nothing")
        assert mode(cache) == 0o777
    os.chmod(cache, 0o755)
    check(capsys, MENDED, "the umask")  # what root itself would leave open to everybody
    assert mode(cache) == 0o750


def test_only_ones_own_library_is_linked(tmp_path, monkeypatch):
    """A hard link keeps its owner: a library from somebody else's environment would not be trusted at the next start."""
    library = write(tmp_path / "lib.so", "code")
    boot_onednn._link(library, tmp_path / "linked.so")
    assert os.path.samefile(library, tmp_path / "linked.so")
    if ROOT_USER:
        os.chown(library, ALICE, ALICE)
    monkeypatch.setattr(os, "getuid", lambda: MALLORY)
    boot_onednn._link(library, tmp_path / "copied.so")
    assert not os.path.samefile(library, tmp_path / "copied.so")


# Jittor under umask 0: folders and libraries that everybody may write.
COMPILES = """
import os
top = os.path.join(os.environ["HOME"], ".cache", "jittor", "jt1", "jit")
os.makedirs(top, exist_ok=True)
library = os.path.join(top, "op.so")
if not os.path.exists(library):
    os.close(os.open(library, os.O_CREAT | os.O_WRONLY, 0o777))
with open(library, encoding="utf-8") as file:
    print(file.read())
"""
# What is imported comes first, and nothing else is checked: another user may not read root's Python.
AS_ALICE = """
import os, re, sys, tempfile, pwd, grp, ssl, signal, sysconfig, importlib.util, jvan
from jvan.boot import import_hook
from jvan import children
import_hook.FATAL = (import_hook.check_cache, import_hook.check_rights)
os.umask(0)
if "USER_ID" in os.environ:
    os.setgid(int(os.environ["USER_ID"]))
    os.setuid(int(os.environ["USER_ID"]))
os.environ["HOME"] = os.environ["ALICES"]
import jittor
"""


@pytest.fixture
def open_machine():
    """A folder that every user of this machine may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="jvan-test-"))
    os.chmod(folder, 0o755)
    yield folder
    shutil.rmtree(folder)


def test_two_starts_under_an_open_umask(open_machine):
    """The second is neither refused nor open: what somebody else wrote between them is not run, as it cannot be written."""
    site = fake_jittor(open_machine / "site", COMPILES)
    alices = open_machine / "alice"
    alices.mkdir(mode=0o755)
    users = {"USER_ID": str(ALICE)} if ROOT_USER else {}
    if ROOT_USER:
        os.chown(alices, ALICE, ALICE)
    first = python(AS_ALICE, site, HOME=str(open_machine / "nobody"), ALICES=str(alices), **users)
    assert (first.returncode, first.stdout.strip(), first.stderr) == (0, "", "")
    library = alices / ".cache" / "jittor" / "jt1" / "jit" / "op.so"
    assert mode(library) == 0o777 and mode(alices / ".cache" / "jittor") & 0o007 == 0
    if ROOT_USER:
        plant = f"import os\nos.setuid({MALLORY})\nopen({str(library)!r}, 'a').write('planted')"
        planted = subprocess.run([sys.executable, "-c", plant], capture_output=True, text=True)
        assert "PermissionError" in planted.stderr
    second = python(AS_ALICE, site, HOME=str(open_machine / "nobody"), ALICES=str(alices), **users)
    assert (second.returncode, second.stdout.strip(), second.stderr) == (0, "", "")


@needs_root
def test_a_planted_library_is_not_loaded(open_machine):
    """Alice's cache lay open, and Mallory replaced a library."""
    site = fake_jittor(open_machine / "site", COMPILES)
    library = write(open_machine / "alice" / ".cache" / "jittor" / "jt1" / "jit" / "op.so", "planted")
    give(open_machine / "alice", ALICE)
    os.chown(library, MALLORY, MALLORY)
    users = {"USER_ID": str(ALICE), "HOME": str(open_machine / "nobody"), "ALICES": str(open_machine / "alice")}
    done = python(AS_ALICE, site, **users)
    assert done.returncode == 1 and "planted" not in done.stdout
    assert f"rights: {library} belongs to uid {MALLORY}" in done.stderr.splitlines()[-1]
    assert "planted" in python(AS_ALICE, site, **users, JVAN_TRUST_CACHE="1").stdout


@needs_root
def test_a_cache_of_another_user_that_can_only_be_read_is_refused_as_ever(open_machine):
    """Jittor writes into its cache at every start."""
    site = fake_jittor(open_machine / "site", COMPILES)
    write(open_machine / "bob" / ".cache" / "jittor" / "jt1" / "jit" / "op.so", "bob's")
    give(open_machine / "bob", MALLORY)
    users = {"USER_ID": str(ALICE), "HOME": str(open_machine / "nobody"), "ALICES": str(open_machine / "bob")}
    done = python(AS_ALICE, site, **users)
    assert done.returncode == 1 and "cache: " in done.stderr and "cannot be written" in done.stderr.splitlines()[-1]


def test_the_wheels_library_is_put_into_a_closed_cache(home, tmp_path, monkeypatch):
    """oneDNN is put there by `import jvan`, before Jittor is imported."""
    environment = tmp_path / "venv"
    fake_wheel(environment, environment / "site")
    monkeypatch.setattr(sys, "path", [str(environment / "site"), str(ROOT)])
    before = os.umask(0)
    try:
        boot_onednn.check_onednn()
    finally:
        os.umask(before)
    if boot_onednn._wheel_fits():
        assert mode(home / ".cache" / "jittor") == 0o770 and (home / ".cache" / "jittor" / "mkl").is_dir()
