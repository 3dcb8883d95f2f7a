"""Whole cases on the fake engine: order, numbers, and what becomes of engines that fail."""

import math

import pytest

from jvan.benchmarking import rounds
from jvan.benchmarking.machine import random_weights
from jvan.benchmarking.rounds import Settings, begin, rotated, run

from .fakes import CASE, TINY, fake


@pytest.fixture
def diary(tmp_path):
    return tmp_path / "diary"


@pytest.fixture(autouse=True)
def ceiling(monkeypatch, diary):
    """The matrix product is a fake too: 2048³ multiply-adds in half a second."""
    product = fake("product", diary, 0.5)
    monkeypatch.setattr(rounds, "PRODUCT", product)


def measure(engines, tmp_path, **settings):
    result = begin(CASE, engines)
    run(result, random_weights(TINY), Settings(timeout=60, **settings), tmp_path)
    return {entry["engine"]: entry for entry in result.summary()["engines"]}, result.summary()


def test_rotated():
    assert [rotated(["a", "b", "c"], n) for n in range(4)] == [list("abc"), list("bca"), list("cab"), list("abc")]
    assert rotated([], 3) == []


def test_rounds_are_interleaved_and_begin_with_another_engine(tmp_path, diary):
    measure([fake("jvan", diary), fake("peer", diary)], tmp_path, rounds=3, seconds=0.5)
    steps = diary.read_text().split()
    # a first run each, two to warm up, then in every round one that is not counted and 0.5 s / 0.25 s = 2 that are
    # (of the product, which takes 0.5 s, one)
    turns = {"jvan": 3, "peer": 3, "product": 2}
    order = [["jvan", "peer", "product"], ["peer", "product", "jvan"], ["product", "jvan", "peer"]]
    expected = ["jvan", "peer", "product"] + [name for name in turns for _ in range(2)]
    expected += [name for names in order for name in names for _ in range(turns[name])]
    assert steps == expected


def test_numbers(tmp_path, diary):
    engines, summary = measure([fake("jvan", diary, 0.25), fake("peer", diary, 0.5)], tmp_path, rounds=3, seconds=1)
    ours, peer = engines["jvan"], engines["peer"]
    assert (ours["median_ms"], peer["median_ms"]) == (250, 500)
    assert (ours["pictures_per_s"], peer["pictures_per_s"]) == (8, 4)
    assert (ours["ratio"], peer["ratio"], peer["against"]) == (1, 0.5, "jvan")
    assert [len(times) for times in ours["rounds_ms"]] == [4, 4, 4]
    assert summary["ceiling_gflops"] == pytest.approx(2 * 2048**3 / 1e9 / 0.5)
    assert peer["gflops"] == pytest.approx(summary["gflop"] / 0.5)
    assert peer["of_ceiling"] == pytest.approx(peer["gflops"] / summary["ceiling_gflops"])
    assert peer["first_s"] == 0.5 and peer["peak_mb"] > 1
    assert (peer["status"], peer["difference"], peer["wrong"]) == ("ok", 0, False)
    assert (peer["versions"], peer["notes"]) == ({"fake": "1.0"}, ["a note"])


def test_a_drift_of_the_machine_cancels_in_the_ratio(tmp_path, diary):
    """Both become slower by a third with every step: the medians do not agree with the ratio, the rounds do."""
    both = [fake("jvan", diary, 3, drift=4 / 3), fake("peer", diary, 6, drift=4 / 3)]
    engines, _ = measure(both, tmp_path, rounds=4, seconds=1)
    assert engines["peer"]["ratio_min"] == pytest.approx(0.5) == engines["peer"]["ratio_max"]


@pytest.mark.parametrize(
    "fault, at, said, rounds_left",
    [
        ("die", 1, "ended with status 3: last words", None),
        ("fail", 1, "ValueError: no such layer", None),
        ("fail", 2, "ValueError: no such layer", None),
        ("die", 6, "ended with status 3: last words", 1),
        ("killed", 8, "signal 9", 2),
    ],
)
def test_an_engine_that_fails_leaves_the_others_alone(fault, at, said, rounds_left, tmp_path, diary):
    peers = [fake("broken", diary, fault=fault, at=at), fake("peer", diary)]
    engines, _ = measure([fake("jvan", diary), *peers], tmp_path, rounds=3, seconds=0.25)
    assert engines["broken"]["status"] == "failed" and said in engines["broken"]["reason"]
    found = engines["broken"]["rounds_ms"]
    assert (found and len(found)) == rounds_left
    assert [engines[name]["status"] for name in ("jvan", "peer")] == ["ok", "ok"]
    assert len(engines["peer"]["rounds_ms"]) == 3 and engines["peer"]["ratio"] == 1


def test_missing_package(tmp_path, diary):
    absent = fake("absent", diary, needs="a_package_that_nobody_has.inside")
    engines, _ = measure([fake("jvan", diary), absent], tmp_path, rounds=1)
    assert engines["absent"]["status"] == "missing"
    assert engines["absent"]["reason"].startswith("a_package_that_nobody_has is not installed (pip install '.[bench]'")
    assert engines["jvan"]["status"] == "ok"


def test_engines_without_jvan(tmp_path, diary):
    engines, _ = measure([fake("jvan", diary, fault="die", at=1), fake("peer", diary)], tmp_path, rounds=1)
    assert engines["peer"]["median_ms"] == 250
    assert engines["peer"]["ratio"] is None and engines["peer"]["difference"] is None


@pytest.mark.parametrize(
    "task, wrong",
    [
        ({"factor": 1 + 0.9e-4}, False),
        ({"factor": 1 + 1.2e-4}, True),
        ({"factor": 1.02, "dtype": "bfloat16"}, False),
        ({"factor": 1.04, "dtype": "bfloat16"}, True),
        ({"factor": math.nan}, True),
        ({"fault": "shape"}, True),
    ],
)
def test_wrong_outputs_are_marked(task, wrong, tmp_path, diary):
    engines, _ = measure([fake("jvan", diary), fake("peer", diary, **task)], tmp_path, rounds=1)
    assert engines["peer"]["wrong"] is wrong and engines["jvan"]["wrong"] is False


def test_each_precision_is_compared_with_its_own(tmp_path, diary):
    rows = [fake("jvan", diary, 0.5), fake("jvan-bf16", diary, 0.25, "bfloat16"), fake("peer", diary, 1.0)]
    engines, _ = measure([*rows, fake("peer-bf16", diary, 1.0, "bfloat16")], tmp_path, rounds=1)
    assert [(engines[n]["ratio"], engines[n]["against"]) for n in ("peer", "peer-bf16")] == [
        (0.5, "jvan"),
        (0.25, "jvan-bf16"),
    ]


def test_profile(tmp_path, diary):
    engines, _ = measure([fake("jvan", diary), fake("peer", diary)], tmp_path, rounds=1, profile=True)
    assert engines["jvan"]["operators"] == [["matmul", 3, 1.5], ["add", 2, 0.5]]
    assert engines["peer"]["operators"] is None


def test_interruption_keeps_what_was_measured(tmp_path, diary):
    def tell(line):
        if line.startswith("round 3"):
            raise KeyboardInterrupt

    result = begin(CASE, [fake("jvan", diary), fake("peer", diary)])
    with pytest.raises(KeyboardInterrupt):
        run(result, random_weights(TINY), Settings(rounds=5, seconds=0.25, timeout=60), tmp_path, tell)
    ours, peer = result.summary()["engines"]
    assert len(ours["rounds_ms"]) == len(peer["rounds_ms"]) == 2
    assert ours["status"] == "waiting" and peer["ratio"] == 1
