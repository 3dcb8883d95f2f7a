"""`python -m tools.gpu_check` without a GPU: what it makes of a step, and that it goes on past a failure."""

import json

import numpy as np
import pytest

from jvan import children
from tools.gpu_check import gpu_check
from tools.gpu_check.training import resumed


@pytest.mark.parametrize(
    ("parts", "same", "differs"),
    [([4.0, 8.0], True, 0.0), ([4.0, 7.9], False, 0.02), ([1.0, 4.0], False, 1.0), ([np.nan, 8.0], False, np.inf)],
)
def test_a_resumed_run_is_judged_by_how_far_the_weights_moved(parts, same, differs):
    """From (1, 4) in the middle to (4, 8); running statistics do not weigh."""
    whole, half, parts = (
        {"weight": np.float32(values), "bn.running_var": np.float32([1e9 * same])}
        for values in ([4.0, 8.0], [1.0, 4.0], parts)
    )
    found = resumed(whole, half, parts)
    assert found["same bits"] is same and found["resumed differs"] == pytest.approx(differs, abs=1e-6)


def test_steps_without_their_data_are_left_out(tmp_path, capsys):
    assert gpu_check.main(["--out", str(tmp_path), "--steps", "accuracy", "learning"]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[1:] == ["accuracy: left out: no --data", "learning: left out: no --data"]


def test_a_step_that_fails_does_not_end_the_run(out, capfd, monkeypatch):
    monkeypatch.setattr(children, "run_python", fails_once(children.run_python))
    assert gpu_check.main(["--dry-run", "--limit", "900", "--out", str(out), "--steps", "kernels", "environment"]) == 1
    printed = capfd.readouterr().out
    assert "kernels: stopped after 900 s" in printed and "environment: ok" in printed


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        ({"left": ["a case"], "dry_run": True}, True),
        ({"left": [], "dry_run": True}, False),
        ({"left": ["a case"], "dry_run": False}, False),  # a GPU's
        ({"rows": []}, False),
    ],
)
def test_a_step_that_was_not_finished_finds_what_it_had(tmp_path, monkeypatch, found, kept):
    file, seen = tmp_path / "speed.json", []
    file.write_text(json.dumps(found))

    def run(*command, **options):
        seen.append(gpu_check._read(file))
        return children.CompletedProcess(command, 1)

    monkeypatch.setattr(children, "run_python", run)
    assert gpu_check.main(["--dry-run", "--out", str(tmp_path), "--steps", "speed"]) == 1
    assert seen == [{**found, "earlier": True} if kept else {}]


@pytest.mark.parametrize(
    ("status", "found", "said"),
    [
        (0, '{"ok": true}', "ok"),
        (-6, '{"ok": true}', "ok, but its process ended with status -6"),
        (1, '{"ok": false}', "failed with status 1"),
        (-11, None, "failed with status -11"),
        (1, '{"ok": false, "left": ["a case", "another"]}', "not finished: 2 cases left"),
        (1, '{"ok": false, "left": ["a case"], "earlier": true}', "failed with status 1"),  # before it saved anything
        (1, '{"ok": false, "left": []}', "failed with status 1"),
        (1, "{", "failed with status 1"),
        (None, '{"ok": true}', "stopped after 9 s"),
    ],
)
def test_a_step_is_judged_by_what_it_found(tmp_path, status, found, said):
    if found is not None:
        (tmp_path / "a.json").write_text(found)
    outcome = gpu_check._judged(status, tmp_path / "a.json", 9.0, tmp_path / "a.log")
    assert outcome.text.partition(";")[0] == said
    assert outcome.status == (gpu_check.OK if said.startswith("ok") else gpu_check.FAILED)


def fails_once(run):
    def replaced(*command, **options):
        if "kernels" in command:
            raise children.TimeoutExpired(command, options["timeout"])
        return run(*command, **options)

    return replaced
