"""The first `import jittor` after `import jvan`, with stand-ins for Jittor: refused in one line, announced, tidied up."""

from __future__ import annotations

import pytest

from .machines import fake_jittor, python, write

IMPORT = "import jvan\nimport jittor"
STATE = """
import signal, ssl, sys
before = ssl._create_default_https_context, sys.getrecursionlimit(), signal.getsignal(signal.SIGINT)
import jvan
{imports}
assert sys.modules["jittor_utils"].ssl is ssl
after = ssl._create_default_https_context, sys.getrecursionlimit(), signal.getsignal(signal.SIGINT)
print(before == after, [type(finder).__name__ for finder in sys.meta_path if type(finder).__name__ == "Gate"])
print(type(jittor.__loader__).__name__, jittor.__spec__.loader is jittor.__loader__)
import importlib
print(importlib.reload(jittor) is jittor)
"""


@pytest.fixture
def stand_ins(tmp_path):
    return fake_jittor(tmp_path / "site")


def run(tmp_path, code=IMPORT, **environment):
    return python(code, tmp_path / "site", **{"HOME": str(tmp_path), **environment})


def refusal(result):
    """The last line on stderr, of a run that failed with JittorUnavailable."""
    assert result.returncode == 1, result
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith(("jvan.errors.JittorUnavailable: ", "jvan.errors.JittorRebuilt: ")), result.stderr
    return line


@pytest.mark.parametrize(
    "imports", ["import jittor", "import jittor_utils\nimport jittor", "from jittor import *\nimport jittor"]
)
def test_process_is_kept_and_gate_gone(tmp_path, stand_ins, imports):
    result = run(tmp_path, STATE.format(imports=imports))
    assert (result.stdout, result.stderr) == ("True []\nSourceFileLoader True\nTrue\n", "")


def test_compilation_is_announced_once(tmp_path):
    fake_jittor(tmp_path / "site", compiled=False)
    result = run(tmp_path)
    assert result.stderr == "jvan: compiling Jittor's core for this machine, once: about two minutes\n"
    assert run(tmp_path, OMPI_COMM_WORLD_RANK="1").stderr == ""
    fake_jittor(tmp_path / "site", compiled=True)
    assert run(tmp_path).stderr == ""


@pytest.mark.parametrize(("version", "found"), [("13.6.0", "imported\n"), ("14.1.0", "hidden\n")])
def test_a_cupy_that_needs_numpy_2_is_hidden(tmp_path, version, found):
    try_it = "try:\n    import cupy\n    print('imported')\nexcept ImportError:\n    print('hidden')"
    site = fake_jittor(tmp_path / "site", try_it)
    write(site / "cupy" / "__init__.py", "")
    write(site / "cupy" / "_version.py", f"__version__ = '{version}'\n")
    result = run(tmp_path)
    assert (result.stdout, result.returncode) == (found, 0), result.stderr


@pytest.mark.parametrize("version", ["2.0.0", "2.4.0rc1"])
def test_numpy_2_is_refused_whatever_its_metadata_says(tmp_path, version):
    site = fake_jittor(tmp_path / "site", "raise SystemExit('imported all the same')", numpy=version)
    write(site / "numpy-1.26.4.dist-info" / "METADATA", "Metadata-Version: 2.1\nName: numpy\nVersion: 1.26.4\n")
    line = refusal(run(tmp_path))
    assert version in line and 'pip install "numpy<2"' in line


def test_old_numpy_keeps_its_version_elsewhere(tmp_path, stand_ins):
    write(
        stand_ins / "numpy" / "version.py",
        'from ._version import get_versions\nversion: str = get_versions()["version"]\n',
    )
    write(stand_ins / "numpy" / "_version.py", 'version_json = """\n{\n "version": "2.1.0"\n}\n"""\n')
    assert "2.1.0" in refusal(run(tmp_path))


def test_no_compiler_is_refused(tmp_path, stand_ins):
    line = refusal(run(tmp_path, PATH="/nowhere"))
    assert "g++" in line and "apt-get install g++" in line
    assert "/nowhere/g++" in refusal(run(tmp_path, cc_path="/nowhere/g++"))
    compiler = write(tmp_path / "my g++", "#!/bin/sh\n", 0o755)
    assert run(tmp_path, PATH="/nowhere", cc_path=str(compiler)).returncode == 0


def test_nvcc_that_cannot_work_is_refused(tmp_path, stand_ins):
    line = refusal(run(tmp_path, nvcc_path="/nowhere/nvcc"))
    assert "nvcc_path is set to /nowhere/nvcc" in line and line.endswith("to mend it: unset nvcc_path")


def test_unwritable_cache_is_refused(tmp_path, stand_ins):
    home = write(tmp_path / "home", "no folder")
    line = refusal(run(tmp_path, HOME=str(home)))
    assert f"{home}/.cache/jittor cannot be written" in line
    assert "config.json" in refusal(
        run(tmp_path, HOME=str(write(tmp_path / "h/.cache/jittor/config.json", "{").parents[2]))
    )


def test_unsupported_python_is_refused(tmp_path, stand_ins):
    code = "import jvan\nfrom jvan.boot import python as boot_python\nboot_python.sys = type('', (), {{'version_info': {}, 'executable': 'x'}})\nimport jittor"
    assert "3.9 to 3.12" in refusal(run(tmp_path, code.format("(3, 13, 0)")))


def test_missing_jittor_is_told(tmp_path):
    (tmp_path / "site").mkdir()
    assert "pip install jittor" in refusal(run(tmp_path))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("raise RuntimeError('first line\\n  second line')", "RuntimeError: first line second line"),
        ("import absent_module", "No module named 'absent_module'"),
        ("raise SystemExit(0)", "must be started again"),
    ],
)
def test_failing_import_is_one_line(tmp_path, body, expected):
    fake_jittor(tmp_path / "site", body)
    result = run(
        tmp_path, "import jvan\ntry:\n    import jittor\nexcept ImportError as error:\n    print(error)\nimport jittor"
    )
    line = refusal(result)
    assert expected in line and line.endswith(result.stdout.splitlines()[-1]), "the second try says the same"


def test_jittor_imported_first_is_warned_of(tmp_path, stand_ins):
    result = run(tmp_path, "import jittor\nimport jvan")
    assert result.returncode == 0 and "jittor was imported before jvan" in result.stderr
    assert "<string>:2: UserWarning" in result.stderr, "the warning points at the line to change"


def test_looking_for_jittor_refuses_nothing(tmp_path, stand_ins):
    code = "import jvan, importlib.util\nprint(importlib.util.find_spec('jittor').origin)"
    assert run(tmp_path, code, PATH="/nowhere").stdout == f"{stand_ins}/jittor/__init__.py\n"


def test_jittors_own_warnings_do_not_stop_it(tmp_path):
    fake_jittor(tmp_path / "site", "import warnings\nwarnings.warn('old', DeprecationWarning)\npattern = '\\d'")
    result = run(tmp_path, "import warnings\nwarnings.simplefilter('error')\n" + IMPORT)
    assert (result.returncode, result.stderr) == (0, "")


def test_missing_onednn_is_warned_of_once(tmp_path, stand_ins):
    bare = "import sys; sys.prefix = sys.base_prefix = '/nowhere'\n"  # oneDNN may be installed beside this Python
    command = f"[sys.executable, '-S', '-W', 'always', '-c', {bare + IMPORT!r}]"
    code = (
        f"import jvan, os, subprocess\nprint(os.environ['use_mkl'], flush=True)\nsubprocess.run({command}, check=True)"
    )
    result = run(tmp_path, bare + code, use_mkl=None)
    assert result.stdout == "0\n"
    assert result.stderr.count("40 times slower") == 1 and "to mend it:" in result.stderr
    assert "<string>:2: UserWarning" in result.stderr


def test_rest_of_jvan_works_without_jittor(tmp_path):
    (tmp_path / "site").mkdir()
    result = run(
        tmp_path, "import jvan\nprint(len(jvan.list_models()))", PATH="/nowhere", HOME=str(write(tmp_path / "file"))
    )
    assert (result.stdout, result.stderr) == ("7\n", "")
