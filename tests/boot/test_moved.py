"""Old names of modules that moved: the same module, a warning that tells the new name, nothing left in the old place."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from jvan.boot.moved import MOVED, MovedModules

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_is_the_new_module(old):
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} is {MOVED[old]} now") as caught:
        module = importlib.import_module(old)
    assert module is importlib.import_module(MOVED[old]) and module.__name__ == MOVED[old]
    assert len(caught) == 1
    assert not (ROOT / f"{old.replace('.', '/')}.py").exists()


def test_from_a_users_file(tmp_path):
    """The warning is of the user's line, and is seen there without any option; what is imported is one class."""
    script = tmp_path / "mine.py"
    script.write_text(
        "import jvan, pickle\n"
        "from jvan.engine.recipes import Recipe\n"
        "import jvan.engine.recipes\n"
        "from jvan.classification import recipes\n"
        "assert jvan.engine.recipes is recipes and Recipe is recipes.Recipe\n"
        "print(pickle.loads(pickle.dumps(recipes.RECIPES[0])) == recipes.RECIPES[0])\n"
    )
    done = subprocess.run(
        [sys.executable, script], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.stdout == "True\n", done.stderr
    assert done.stderr.count("DeprecationWarning") == 1 and "mine.py:2" in done.stderr


def test_other_names_are_not_found():
    assert MovedModules().find_spec("jvan.engine.recipe") is None
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("jvan.engine.recipe")
