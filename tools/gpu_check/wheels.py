"""The wheels that a machine without a network is given for `python -m tools.gpu_check`: unpacked where its steps find them first."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from pathlib import Path

from jvan import children
from jvan.boot.settings import defaults_set
from jvan.errors import JvanError
from jvan.files import cache_dir
from jvan.ownership import is_trusted, make_private_folder

PIP = "import runpy\nrunpy.run_module('pip', run_name='__main__', alter_sys=True)"


def install(wheels: Path) -> Path:
    """A folder with the packages of all `wheels`/*.whl and nothing that they require, made once for the same files.

    pip works without a network. Raises JvanError where there are none, pip refuses one, or others could change them.
    """
    files = sorted(wheels.glob("*.whl"))
    if not files:
        raise JvanError(f"{wheels}: no wheels (*.whl) in there")
    place = cache_dir() / f"wheels-{_digest(files)}"
    if not place.is_dir():
        _unpack(wheels, files, place)
    if not is_trusted(place):
        raise JvanError(f"{place}: others can write there, and what lies there would be run; choose another JVAN_CACHE")
    return place


def _unpack(wheels: Path, files: list[Path], place: Path) -> None:
    part = place.with_name(f".{place.name}.{secrets.token_hex(6)}.part")
    make_private_folder(part)
    options = ["--disable-pip-version-check", "install", "-q", "--no-index", "--no-deps", "--no-compile"]
    done = children.run_python(PIP, *options, "--target", str(part), *map(str, files), capture_output=True, text=True)
    if done.returncode:
        shutil.rmtree(part, ignore_errors=True)
        # pip has no other sign for the lines that say why; without any, its first line is shown
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise JvanError(f"{wheels}: pip cannot install these wheels: {said[0] if said else 'it does not say why'}")
    part.rename(place)


def environment(site: Path | None) -> dict[str, str]:
    """The variables of a step's process, to which `site` comes before what is installed.

    Without those that `import jvan` set in this one: a step may find a Jittor and a numpy that are not here.
    """
    kept = {name: value for name, value in os.environ.items() if name not in defaults_set()}
    paths = [str(site.resolve())] if site else []
    before = [path for path in kept.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths + before)}


def _digest(files) -> str:
    parts = [part for file in files for part in (file.name.encode(), file.read_bytes())]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
