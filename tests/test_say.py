"""Lines for a terminal: what is escaped and what stays, once, in one place; the same for a spreadsheet, and JSON as it is."""

import ast
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from jvan import _say
from jvan._arguments import Parser
from jvan._text import cell, printable
from jvan.errors import DownloadError, PictureError

PACKAGE = Path(__file__).parents[1] / "jvan"
SHOWN = {
    "中文": "中文", "café": "café", "cafe\u0301": "cafe\u0301", "😀 ❤️": "😀 ❤️", "a\\x1b b": "a\\x1b b",
    "\x1b[2J": "\\x1b[2J", "\x9b2J": "\\x9b2J", "a\nb\r\tc": "a\\nb\\r\\tc", "\x7f\x00": "\\x7f\\x00",
    "\u202egnp": "\\u202egnp", "\u200b\ufeff\u2028": "\\u200b\\ufeff\\u2028", "\U000e0041": "\\U000e0041",
    # what isprintable refuses as well: the joint of an emoji, blanks other than the plain one, a byte that is no UTF-8
    "👩\u200d🔬": "👩\\u200d🔬", "a\xa0b\u3000c": "a\\xa0b\\u3000c", "gr\udcfcn": "gr\\udcfcn",
}  # fmt: skip


@pytest.mark.parametrize("text, shown", SHOWN.items(), ids=map(ascii, SHOWN))
def test_what_is_escaped_and_what_stays(text, shown, capsys):
    assert printable(text) == shown and printable(shown) == shown
    _say.show(text, "second")
    _say.tell(text)
    assert capsys.readouterr() == (f"{shown}\nsecond\n", f"{shown}\n")


def test_a_line_has_an_end(capsys):
    _say.show("x" * 10**6)
    assert capsys.readouterr().out == "x" * _say.LONGEST + "…\n"


def test_json_is_plain_names_in_ascii(capsys):
    _say.show_json({name: [name] for name in SHOWN})
    out = capsys.readouterr().out
    assert out.isascii() and out[:-1].isprintable() and out.endswith("\n")
    assert json.loads(out) == {name: [name] for name in SHOWN}


def test_a_spreadsheet_computes_nothing():
    for name in ("=1+1", "+1", "-1", "@sum", "\t=1", "\r=1", "\n=1"):
        assert cell(name) == f"'{name}"
    for name in ("a=1", "", " =1", "'=1", "中文", "\x1b["):
        assert cell(name) == name


@pytest.mark.parametrize("kind", [PictureError, DownloadError])
def test_errors_are_fit_for_a_users_own_terminal(kind):
    error = kind("中\x1b[2J\n.png: no such file")
    assert str(error) == "中\\x1b[2J\\n.png: no such file" and error.plain == "中\x1b[2J\n.png: no such file"
    assert str(kind(f"a: {error}")) == f"a: {error}"  # once
    code = "import jvan; jvan.pictures.read.read_picture('\\x1b[2Jnone.png')"
    done = run("-c", f"import jvan.pictures.read; {code}")
    assert done.returncode == 1 and b"\x1b" not in done.stderr and b"\\x1b[2Jnone.png: no such file" in done.stderr


def test_warnings_are_fit_for_a_terminal_and_name_the_caller():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _say.warn("\x1b[2J")
    assert (str(caught[0].message), caught[0].filename) == ("\\x1b[2J", __file__)


def test_bad_usage_is_fit_for_a_terminal(capsys):
    with pytest.raises(SystemExit) as ended:
        Parser(prog="x").parse_args(["--\x1b[2J\nx: all is well"])
    assert ended.value.code == 2 and "--\\x1b[2J\\nx: all" in capsys.readouterr().err


def test_a_bars_name_is_fit_for_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with _say.bar(unit="B", total=3, name="\x1b[2Jx") as bar:
        bar.update()
    assert "\\x1b[2Jx: " in capsys.readouterr().err


BY_ITSELF = {  # a worker's protocol, in any interpreter
    "benchmarking/workers/serve.py",
}


def others(tree):
    """What prints, warns, or reads arguments without _say and Parser."""
    streams = {"stdout", "stderr", "__stdout__", "__stderr__"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == "print":
            yield node
        if isinstance(node, ast.Attribute):
            owner = node.value
            on_stream = isinstance(owner, ast.Attribute) and owner.attr in streams
            if on_stream and node.attr in ("write", "writelines", "buffer"):
                yield node
            if isinstance(owner, ast.Name) and (owner.id, node.attr) in {
                ("warnings", "warn"), ("warnings", "warn_explicit"), ("argparse", "ArgumentParser"), ("traceback", "print_exc"), ("tqdm", "write"),
            }:  # fmt: skip
                yield node
        if isinstance(node, ast.ImportFrom) and node.module in ("warnings", "tqdm", "argparse", "sys"):  # noqa: SIM102
            if {each.name for each in node.names} & {"warn", "tqdm", "ArgumentParser", *streams}:
                yield node


def test_nothing_else_prints():
    found = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        text = path.read_text(encoding="utf-8")
        if name not in BY_ITSELF:
            found |= {f"{name}: {text.splitlines()[node.lineno - 1].strip()}" for node in others(ast.parse(text))}
    elsewhere = {place for place in found if not place.startswith("_say.py: ")}
    assert elsewhere == {"_arguments.py: class Parser(argparse.ArgumentParser):"} and len(found) > 3


def test_warnings_are_lines_of_a_command():
    lines = []
    with _say.warnings_told(lines.append):
        for _ in range(2):
            _say.warn("odd\x1b")
    assert lines == ["warning: odd\\x1b"] * 2
    with pytest.raises(UserWarning):  # only inside
        _say.warn("odd")


def test_whoever_knows_no_command_begins_a_line_with_jvans_name():
    """`tell` is for commands, which name themselves; `say` for all below them."""
    for path in PACKAGE.glob("*/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            from_say = isinstance(node, ast.ImportFrom) and (node.module or "").endswith("_say")
            assert not from_say or "tell" not in {each.name for each in node.names}, path


def run(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, timeout=60, cwd=PACKAGE.parent)
