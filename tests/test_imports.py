"""Imports point one way: the floors of the house as a table, and every import held to it, those inside functions too."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).parents[1]
# From the top down. A file imports from floors below its own and from its own folder; loose files of one floor may import
# one another. `jvan/*.py` are the loose files that no other floor names. A room that moves changes one line.
FLOORS = (
    ("tools", "weights_convert"),
    ("jvan/*.py",),  # the commands and their shell
    ("jvan/benchmarking", "jvan/classification"),
    ("jvan/engine",),
    ("jvan/data",),
    ("jvan/inference",),
    ("jvan/models",),
    ("jvan/ops", "jvan/checkpoints"),
    (
        "jvan/boot", "jvan/pictures", "jvan/__init__.py", "jvan/_path.py", "jvan/_arguments.py", "jvan/_say.py", "jvan/_stop.py",
        "jvan/_text.py", "jvan/children.py", "jvan/device.py", "jvan/errors.py", "jvan/files.py", "jvan/memory_limit.py",
        "jvan/ownership.py", "jvan/preprocessing.py", "jvan/structure.py", "jvan/variants.py",
    ),
)  # fmt: skip
MOST_FLOORS = 9
MOST_LOOSE = 26  # files of jvan/ outside a folder, none of them bootstrapping


@functools.cache
def modules() -> dict[str, str]:
    """{dotted name: path from the checkout's root}"""
    paths = [
        path.relative_to(ROOT) for top in ("jvan", "tools", "weights_convert") for path in ROOT.glob(f"{top}/**/*.py")
    ]
    return {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path.as_posix() for path in paths}


@functools.cache
def imports() -> dict[str, set[str]]:
    """{path: the paths that it imports}"""
    known = modules()
    return {path: {known[n] for n in named(name, path) if n in known} - {path} for name, path in known.items()}


def named(name: str, path: str):
    """What a module's import statements name, wherever they stand in it."""
    package = name.split(".") if path.endswith("__init__.py") else name.split(".")[:-1]
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in modules() else base


def room(path: str) -> str:
    """The folder on the map that a file stands in, or the file itself where it is loose."""
    parts = path.split("/")
    return parts[0] if parts[0] != "jvan" else "/".join(parts[:2])


def floor(path: str) -> int:
    """Counted from the top."""
    found = [i for i, rooms in enumerate(FLOORS) if room(path) in rooms]
    loose = room(path).endswith(".py")
    assert found or loose, f"{room(path)} has no floor"
    return found[0] if found else next(i for i, rooms in enumerate(FLOORS) if "jvan/*.py" in rooms)


def may_import(path: str, other: str) -> bool:
    if room(path) == room(other) or floor(path) < floor(other):
        return True
    return floor(path) == floor(other) and (room(path) + room(other)).count(".py") > 0


def circles(graph: dict[str, set[str]]) -> set[tuple[str, ...]]:
    """The sets of nodes that reach one another."""
    reached = {node: reachable(graph, node) for node in graph}
    found = {tuple(sorted(b for b in reached[a] if a in reached.get(b, ()))) for a in graph}
    return {circle for circle in found if len(circle) > 1}


def reachable(graph, start) -> set[str]:
    seen, left = set(), [start]
    while left:
        for node in graph.get(left.pop(), ()):
            if node not in seen:
                seen.add(node)
                left.append(node)
    return seen


def test_nothing_points_upward():
    upward = {(a, b) for a, others in imports().items() for b in others if not may_import(a, b)}
    assert not upward


def test_no_circle_of_files():
    assert not circles(imports())


def test_no_circle_of_folders():
    rooms: dict[str, set[str]] = {}
    for path, others in imports().items():
        rooms.setdefault(room(path), set()).update(room(other) for other in others if room(other) != room(path))
    assert not circles(rooms)


def test_the_map_is_of_this_house_and_small_enough():
    assert len(FLOORS) <= MOST_FLOORS
    assert all((ROOT / name).exists() for rooms in FLOORS for name in rooms if "*" not in name)
    assert len(list((ROOT / "jvan").glob("*.py"))) <= MOST_LOOSE


def test_the_package_imports_no_tool():
    assert not [
        (a, b) for a, others in imports().items() for b in others if a.startswith("jvan/") and not b.startswith("jvan/")
    ]


def test_circles_are_seen():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == {("a", "b", "c")}
