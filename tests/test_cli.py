"""What every command shares: closed streams, pipes that end, unforeseen errors, Jittor's wish for a new start."""

import subprocess
import sys

import pytest

SCRIPT = """
import os, sys
from jvan._cli import command
from jvan.errors import JittorRebuilt, JvanError
@command
def main(argv):
    os.write(2, b"compiler noise\\n")
    print("a warning", file=sys.stderr)
    print("a result")
    if argv == ["job"]: raise JvanError("one\\n  line")
    if argv == ["bug"]: raise ZeroDivisionError("unforeseen")
    if argv == ["interrupt"]: raise KeyboardInterrupt
    if argv == ["rebuilt"]: raise JittorRebuilt("anew")
sys.exit(main(sys.argv[1:]))
"""


def shell(redirection, argument="", **environment):
    import os

    command = f'"{sys.executable}" -c "$SCRIPT" {argument} {redirection}'
    return subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "SCRIPT": SCRIPT, **environment},
    )


@pytest.mark.parametrize(
    "argument, status, message",
    [("", 0, ""), ("job", 1, "jvan <string>: one\\n  line\n"), ("interrupt", 130, "jvan <string>: interrupted\n")],
)
def test_streams_and_statuses(argument, status, message):
    result = shell("", argument, log_silent="1")
    assert (result.returncode, result.stdout, result.stderr) == (status, "a result\n", f"a warning\n{message}")


def test_noise_is_shown_when_asked_for_and_when_something_breaks():
    assert "compiler noise" in shell("", log_silent="0").stderr
    broken = shell("", "bug", log_silent="1")
    assert broken.returncode == 1
    assert broken.stderr.index("compiler noise") < broken.stderr.index("ZeroDivisionError: unforeseen")


def test_closed_streams():
    result = shell("2>&-", "job", log_silent="1")
    assert (result.returncode, result.stdout) == (1, "a result\n")
    result = shell(">&-", "job", log_silent="1")
    assert (result.returncode, result.stderr) == (1, "a warning\njvan <string>: one\\n  line\n")


def test_a_reader_that_has_gone_is_no_error():
    result = shell("| true; exit ${PIPESTATUS[0]}", log_silent="1")
    assert (result.returncode, result.stderr) == (0, "a warning\n")
    result = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" -m jvan --help | true; exit ${{PIPESTATUS[0]}}'],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_a_rebuilt_jittor_is_started_anew_once(monkeypatch):
    import jvan._cli as cli
    from jvan import children
    from jvan.errors import JittorRebuilt

    started = []
    monkeypatch.setattr(children, "become_python", lambda *arguments: started.append(arguments))
    monkeypatch.setenv("JVAN_RESTARTED", "")  # so that what `_restart` sets is undone at the end
    monkeypatch.delenv("JVAN_RESTARTED")

    @cli.command
    def main(argv):
        raise JittorRebuilt("anew")

    assert main(["--json", "a b.jpg"]) == 1
    monkeypatch.setenv("JVAN_RESTARTED", "1")
    assert main(["--json", "a b.jpg"]) == 1
    assert started == [("from tests.test_cli import main\nsys.exit(main(sys.argv[1:]))", "--json", "a b.jpg")]
