"""The table of commands: help at once, without Jittor; unknown names and bad usage end with status 2."""

import subprocess
import sys

import pytest

import jvan
from jvan.__main__ import COMMANDS


def run(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60)


def module(name):
    return name.replace("-", "_")


def test_help_lists_every_command():
    result = run("-m", "jvan", "--help")
    assert result.returncode == 0
    assert all(f"  {name} " in result.stdout for name in COMMANDS)
    assert run("-m", "jvan", "--version").stdout.strip() == f"jvan {jvan.__version__}"


@pytest.mark.parametrize("arguments", [(), ("surprise",), ("--surprise",)], ids=str)
def test_unknown_commands_are_bad_usage(arguments):
    result = run("-m", "jvan", *arguments)
    assert result.returncode == 2
    assert "usage: jvan COMMAND" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command_needs_no_jittor(name):
    code = (
        "import sys, importlib\n"
        f"try: importlib.import_module('jvan.{name.replace('-', '_')}').main(['--help'])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'jittor', 'jittor_utils', 'PIL'} & set(sys.modules), 'something heavy was imported'\n"
    )
    result = run("-c", code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"usage: jvan {name}")


@pytest.mark.parametrize("name", COMMANDS)
def test_unknown_options_are_bad_usage(name):
    result = run("-m", f"jvan.{module(name)}", "--surprise")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_public_names_are_found():
    for name in jvan.__all__:
        assert getattr(jvan, name) is not None
    with pytest.raises(AttributeError, match="surprise"):
        jvan.surprise  # noqa: B018
