"""oneDNN from the wheel, where Jittor looks for it."""

# ruff: noqa: SIM112  (Jittor's variables are lower case)

from __future__ import annotations

import os
import pathlib
import platform
import struct
import subprocess
import sys
import threading

import pytest

from jvan.boot import cache as boot_cache
from jvan.boot import onednn as boot_onednn
from jvan.boot import settings as boot_settings
from jvan.boot.settings import BROKEN, MENDED, OK, SLOW

from .machines import PLACE, ROOT, bare_path, elf, fake_wheel, write

linux = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"), reason="oneDNN's wheel is for Linux x86-64"
)


def check_place(home, environment):
    """The place holds what the wheel holds, under every name that Jittor, the linker and the loader ask for."""
    place = home / PLACE
    for name in ("libmkldnn.so", "libdnnl.so.2", "libdnnl.so"):
        assert (place / "lib" / name).read_bytes() == (environment / "lib" / "libdnnl.so.2").read_bytes()
    for header in (environment / "include").rglob("*.h*"):
        name = header.relative_to(environment)
        assert (place / name).is_file() == (header.name != "unrelated.h")
    assert [path.name for path in place.parent.iterdir() if not path.name.startswith(".jvan-lock")] == [place.name]


@linux
@pytest.mark.parametrize("layout", ["venv", "target", "stale list", "prefix"])
def test_wheel_is_found_and_linked(home, tmp_path, monkeypatch, layout):
    environment = tmp_path / "env"
    site = environment if layout in ("target", "stale list") else environment / "lib" / "python3.11" / "site-packages"
    fake_wheel(environment, site)
    if layout == "stale list":  # pip --target writes the list for another place
        for record in site.glob("*.dist-info/RECORD"):
            record.write_text("\n".join(f"../{line}" for line in record.read_text().splitlines()))
    monkeypatch.setattr(sys, "path", bare_path() if layout == "prefix" else [str(site), *bare_path()])
    for prefix in ("prefix", "base_prefix"):
        monkeypatch.setattr(sys, prefix, str(environment if layout == "prefix" else tmp_path / "nowhere"))
    assert boot_onednn.check_onednn().status == MENDED
    check_place(home, environment)
    assert "use_mkl" not in os.environ
    assert boot_onednn.check_onednn().status == OK


@linux
@pytest.mark.parametrize("broken", ["dangling links", "dangling place", "truncated", "half an archive", "a file"])
def test_broken_place_is_mended(home, wheel, broken):
    place = home / PLACE
    if broken == "dangling place":
        place.parent.mkdir(parents=True)
        place.symlink_to(home / "gone")
    elif broken == "a file":
        write(place, "what?")
    else:
        assert boot_onednn.check_onednn().status == MENDED
        library = place / "lib" / "libdnnl.so.2"
        if broken == "dangling links":
            library.unlink()
            library.symlink_to(home / "gone")
        elif broken == "truncated":
            library.unlink()
            write(library, elf()[:-1])
        else:
            (place / "include" / "dnnl.hpp").unlink()
    assert boot_onednn.check_onednn().status == MENDED
    check_place(home, wheel)


@linux
def test_working_place_is_left_alone_and_outlives_the_environment(home, wheel):
    place = home / PLACE
    for name in ("include/dnnl.hpp", "include/oneapi/dnnl/dnnl.hpp"):
        write(place / name)
    for name in ("lib/libmkldnn.so", "lib/libdnnl.so.2"):
        write(place / name, elf(b"the user's own"))
    before = {path: path.lstat() for path in place.rglob("*")}
    assert boot_onednn.check_onednn().status == OK
    assert {path: path.lstat()[:2] for path in place.rglob("*")} == {path: stat[:2] for path, stat in before.items()}
    assert b"the user's own" in (place / "lib" / "libmkldnn.so").read_bytes()


@linux
def test_linked_place_outlives_the_environment(home, wheel):
    import shutil

    assert boot_onednn.check_onednn().status == MENDED
    shutil.rmtree(wheel)
    assert boot_onednn.check_onednn().status == OK


@linux
def test_files_are_copied_where_there_are_no_hard_links(home, wheel, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    assert boot_onednn.check_onednn().status == MENDED
    check_place(home, wheel)


@pytest.mark.parametrize("case", ["no wheel", "oneDNN 3", "library left out", "other platform"])
def test_without_onednn_jittor_is_told_to_do_without_and_the_user_what_it_costs(home, wheel, monkeypatch, case):
    if case == "no wheel":
        monkeypatch.setattr(sys, "path", bare_path())
    elif case == "other platform":
        monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    else:
        library = wheel / "lib" / "libdnnl.so.2"
        library.rename(library.with_suffix(".3")) if case == "oneDNN 3" else library.unlink()
    finding = boot_onednn.check_onednn()
    assert (finding.status, finding.aloud) == (SLOW, True) and "40 times slower" in finding.what
    if (platform.system(), platform.machine()) == ("Linux", "x86_64"):
        assert "pip install onednn-devel-cpu-gomp==2022.2.1" in finding.fix
    assert os.environ["use_mkl"] == "0"
    assert not (home / PLACE).exists()


@linux
def test_jittors_own_download_is_offered_where_there_is_no_wheel(home, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert "use_mkl=1" in boot_onednn.check_onednn().fix
    place = pathlib.Path(boot_onednn.onednn_place())
    assert place.name == "dnnl_lnx_2.2.0_cpu_gomp_aarch64"
    for name in ("include/dnnl.hpp", "include/oneapi/dnnl/dnnl.hpp"):
        write(place / name)
    for name in ("lib/libmkldnn.so", "lib/libdnnl.so.2"):
        write(place / name, elf())
    assert boot_onednn.check_onednn().status == OK and "use_mkl" not in os.environ


@pytest.mark.parametrize("value", ["0", "1"])
def test_users_own_use_mkl_is_kept(home, monkeypatch, value):
    monkeypatch.setattr(sys, "path", bare_path())
    for prefix in ("prefix", "base_prefix"):
        monkeypatch.setattr(sys, prefix, str(home / "nowhere"))
    os.environ["use_mkl"] = value
    finding = boot_onednn.check_onednn()
    assert os.environ["use_mkl"] == value and not finding.aloud
    assert finding.status == (OK if value == "1" else SLOW)


@linux
def test_unwritable_cache_is_told_and_raises_nothing(home, wheel):
    write(home / ".cache", "a file where a folder should be")
    finding = boot_onednn.check_onednn()
    assert finding.status == BROKEN and str(home) in finding.what and "HOME" in finding.fix
    assert boot_cache.check_cache().status == BROKEN


@linux
def test_jittor_home_is_where_it_is_put(home, wheel, tmp_path):
    os.environ["JITTOR_HOME"] = str(tmp_path / "other")
    assert boot_onednn.check_onednn().status == MENDED
    check_place(tmp_path / "other", wheel)
    assert not (home / ".cache").exists()


@linux
def test_nothing_unfinished_can_be_taken_for_onednn(home, wheel, monkeypatch):
    """Jittor takes the first folder whose name begins with dnnl."""
    seen, fill = [], boot_onednn._fill

    def watched(source, folder):
        fill(source, folder)
        seen.extend(path.name for path in (home / PLACE).parent.iterdir())

    monkeypatch.setattr(boot_onednn, "_fill", watched)
    assert boot_onednn.check_onednn().status == MENDED
    assert seen and not any(name.startswith("dnnl") for name in seen)


@linux
def test_second_process_waits_and_then_has_nothing_to_do(home, wheel):
    place = home / PLACE
    place.parent.mkdir(parents=True)
    waiting = threading.Thread(target=boot_onednn.check_onednn)
    with boot_settings.locked(str(place.parent / ".jvan-lock")):
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive() and not place.exists()
        for name in ("include/dnnl.hpp", "include/oneapi/dnnl/dnnl.hpp"):
            write(place / name)
        for name in ("lib/libmkldnn.so", "lib/libdnnl.so.2"):
            write(place / name, elf(b"the first one's"))
    waiting.join(60)
    assert b"the first one's" in (place / "lib" / "libmkldnn.so").read_bytes()


@linux
def test_processes_at_once_do_no_harm(tmp_path):
    environment, home = tmp_path / "env", tmp_path / "home"
    site = environment / "lib" / "python3" / "site-packages"
    fake_wheel(environment, site)
    broken = write(home / PLACE / "lib" / "libmkldnn.so", "half a download")
    code = (
        f"import sys, os\nsys.path.insert(0, {str(site)!r})\n"
        "from jvan.boot import onednn as boot_onednn\nfrom jvan.boot.settings import OK, MENDED\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "del os.environ['use_mkl']\n"
        "print(*[boot_onednn.check_onednn().status for _ in range(3)])"
    )
    surroundings = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT), "use_mkl": "0"}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    children = [
        subprocess.Popen([sys.executable, "-S", "-c", code], text=True, env=surroundings, **pipes) for _ in range(4)
    ]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    answers = [child.communicate("go\n", timeout=60) for child in children]
    assert {error for _, error in answers} == {""}
    assert {word for answer, _ in answers for word in answer.split()} == {OK, MENDED}
    assert broken.read_bytes() == elf(b"the wheel's")
    check_place(home, environment)


@linux
def test_whole_library_is_told_from_a_truncated_one(tmp_path):
    real = next(pathlib.Path(boot_settings.package_folder("numpy")).rglob("_multiarray_umath*.so"))
    content = real.read_bytes()
    assert boot_onednn.is_whole_library(str(real))
    for size in (0, 10, 64, len(content) // 2, len(content) * 99 // 100):
        assert not boot_onednn.is_whole_library(str(write(tmp_path / "cut.so", content[:size]))), size
    assert not boot_onednn.is_whole_library(str(write(tmp_path / "page.so", "<html>" * 100)))


@linux
def test_section_behind_the_table_counts_too(tmp_path):
    section = struct.pack("<IIQQQQ", 1, 1, 0, 0, 128, 32) + bytes(24)
    whole = elf()[:64] + section + b"x" * 32
    assert boot_onednn.is_whole_library(str(write(tmp_path / "whole.so", whole)))
    assert not boot_onednn.is_whole_library(str(write(tmp_path / "cut.so", whole[:-1])))
