"""Starts every child process: Python without modules of the current folder, other programs without a shell."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from subprocess import DEVNULL, PIPE, STDOUT, CompletedProcess, SubprocessError, TimeoutExpired

__all__ = [
    "DEVNULL", "PIPE", "STDOUT", "Child", "CompletedProcess", "SubprocessError", "TimeoutExpired",
    "become_python", "jittors_question_kept_safe", "run_python", "run_tool", "search_path", "start_python", "start_script",
]  # fmt: skip

Child = subprocess.Popen

# What a child runs first. "-c" has put the current folder at the head of its path, so nothing may be imported before the
# second line (`sys` is there already). Arguments: how many folders, PYTHONPATH as it was, the folders, the user's own.
_START = """\
import sys
end = 3 + int(sys.argv[1])
variable, sys.path[:], sys.argv[1:] = sys.argv[2], sys.argv[3:end], sys.argv[end:]
if variable:
    import os
    os.environ["PYTHONPATH"] = variable
"""
_FLAGS = {"isolated": "-I", "ignore_environment": "-E", "no_user_site": "-s", "no_site": "-S"}
_QUESTION = "-m jittor_utils.query_cuda_cc"


def search_path(beside: bool = False) -> list[str]:
    """sys.path for a child of this interpreter, jvan's own folder in it.

    '', the current folder, which a notebook and `python -c` have first, is left out; or it comes last, as an absolute
    folder, if `beside`: the user's own modules beside a notebook are found there, and hide nobody else's.
    """
    entries = [entry for entry in sys.path if isinstance(entry, str)]
    path = [entry for entry in entries if not _is_current(entry)]
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if here not in path:
        path.append(here)
    if beside and any(map(_is_current, entries)):
        with contextlib.suppress(OSError):  # a folder that was removed meanwhile
            path.append(os.getcwd())
    return path


def _is_current(entry: str) -> bool:
    return not entry or (not os.path.isabs(entry) and os.path.normpath(entry) == os.curdir)


def _environment(own) -> tuple[dict[str, str], str]:
    """Variables for a child, and PYTHONPATH as it was, if it named the current folder: an empty or a relative entry does.

    The child reads PYTHONPATH before it runs a line of ours, and would take modules from there.
    """
    variables = dict(os.environ if own is None else own)
    paths = variables.get("PYTHONPATH", "")
    kept = os.pathsep.join(filter(os.path.isabs, paths.split(os.pathsep)))
    if kept == paths:
        return variables, ""
    variables["PYTHONPATH"] = kept
    return variables, paths


def _python(code: str, arguments, first, beside, environment) -> tuple[list[str], dict[str, str]]:
    variables, before = _environment(environment)
    flags = [option for name, option in _FLAGS.items() if getattr(sys.flags, name)]
    path = [*map(os.path.abspath, first), *search_path(beside)]
    command = [sys.executable, *flags, "-c", _START + code, str(len(path)), before, *path, *arguments]
    return command, variables


def start_python(code: str, *arguments: str, first=(), beside=False, environment=None, **options) -> Child:
    """A child of this interpreter that runs `code` with this one's path, `sys` imported and `arguments` in sys.argv[1:].

    `first`: folders to come before the path; `beside`: see `search_path`; `environment`: all its variables; `options`:
    Popen's. OSError where it does not start.
    """
    command, variables = _python(code, arguments, first, beside, environment)
    return subprocess.Popen(command, env=variables, **options)


def run_python(code: str, *arguments: str, first=(), environment=None, **options) -> CompletedProcess:
    """The same, waited for; `options` are subprocess.run's."""
    command, variables = _python(code, arguments, first, False, environment)
    return subprocess.run(command, env=variables, **options)


def become_python(code: str, *arguments: str) -> None:
    """The same, in this process. Returns only by OSError."""
    command, variables = _python(code, arguments, (), False, None)
    os.execve(sys.executable, command, variables)


def start_script(python: str, script, environment=None, **options) -> Child:
    """A child of any interpreter, which gets no path of ours: a script by its path has its own folder first.

    `environment`, `options`: as in `start_python`. OSError where it does not start.
    """
    variables, _ = _environment(environment)
    return subprocess.Popen([python, os.path.abspath(script)], env=variables, **options)


def run_tool(command: list[str], **options) -> CompletedProcess:
    """A program that is no Python, such as a compiler, waited for. `options`: subprocess.run's. OSError, SubprocessError."""
    return subprocess.run(command, **{"stdin": DEVNULL, **options})


@contextlib.contextmanager
def jittors_question_kept_safe():
    """While Jittor is imported, answer what it asks a child process, the architectures of the GPUs.

    It starts `python -m`, which looks for modules in the current folder first, through a shell, without quotes.
    """
    whole = subprocess.getstatusoutput

    def getstatusoutput(command, **options):
        if isinstance(command, str) and command.endswith(_QUESTION):
            return _ask_for_architectures()
        return whole(command, **options)

    subprocess.getstatusoutput = getstatusoutput
    try:
        yield
    finally:
        subprocess.getstatusoutput = whole


def _ask_for_architectures() -> tuple[int, str]:
    script = os.path.join(os.path.dirname(sys.modules["jittor_utils"].__file__), "query_cuda_cc.py")
    code = "import runpy\nrunpy.run_path(sys.argv[1], run_name='__main__')"
    done = run_python(code, script, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, text=True, errors="replace")
    return done.returncode, done.stdout.strip()
