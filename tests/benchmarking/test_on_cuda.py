"""The benchmark of a GPU as far as it goes without one: its engines, its plan, its report, its refusals."""

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jvan import benchmark
from jvan.benchmarking import rounds
from jvan.benchmarking.arguments import parser
from jvan.benchmarking.cuda_engines import SUFFIX, ceilings_on_cuda, chosen_on_cuda
from jvan.benchmarking.engines import Engine
from jvan.benchmarking.machine import describe_gpus, describe_machine, random_weights
from jvan.benchmarking.report import document, lines
from jvan.benchmarking.rounds import Settings, begin, run
from jvan.boot.toolkit import driver
from jvan.variants import describe, parse_arch, variant_config
from tools.gpu_check import benchmark as gpu_benchmark
from tools.gpu_check import verdicts as gpu_verdicts
from tools.gpu_check.task import Task

from .fakes import CASE, SCRIPT, TINY, fake

WORKERS = Path(rounds.__file__).parent / "workers"


@pytest.mark.parametrize(
    "mode, dtypes, against, names",
    [
        ("infer", ["float16"], ["torch-graphs", "jittor"], ["jvan-fp16", "torch-graphs-fp16"]),
        ("infer", ["float32", "bfloat16"], ["torch"], ["jvan", "jvan-bf16", "torch", "torch-bf16"]),
        (
            "train",
            ["float32", "bfloat16"],
            ["torch-compile", "jittor"],
            ["jvan", "jvan-bf16", "torch-compile", "jittor", "torch-compile-bf16"],
        ),
        ("train", ["float16", "float32"], ["torch"], ["jvan", "torch"]),
    ],
)
def test_chosen_engines(mode, dtypes, against, names):
    assert [engine.name for engine in chosen_on_cuda(mode, dtypes, against)] == names


def test_each_engine_is_what_its_name_says():
    engines = {engine.name: engine for engine in chosen_on_cuda("infer", ["float32", "float16", "bfloat16"], None)}
    assert len(engines) == 3 + 5 * 3 + 1 and all(engine.script.is_file() for engine in engines.values())
    for name, engine in engines.items():
        options = engine.options
        assert engine.dtype == {"fp16": "float16", "bf16": "bfloat16"}.get(name.rpartition("-")[2], "float32")
        if name.startswith("torch"):
            assert options["graph"] is ("graphs" in name) and options["compile"] is ("compile" in name)
            assert options["channels_last"] is (name.removesuffix("-fp16").removesuffix("-bf16") != "torch")
            assert options["whole"] is ("channels-last" not in name)
        else:
            assert options == {"optimize": name != "jittor"} and engine.in_jittor
    assert not any(e.options.get("whole") for e in chosen_on_cuda("train", ["float32"], None)), "autocast in training"


def test_interpreters():
    settings = Settings(pythons={"": "/peers", "torch-graphs": "/graphs"})
    found = {e.name: settings.python(e) for e in chosen_on_cuda("infer", ["float32", "float16"], None)}
    assert found["torch-graphs"] == found["torch-graphs-fp16"] == "/graphs" and found["torch-fp16"] == "/peers"
    assert {found[name] for name in ("jvan", "jvan-fp16", "jittor")} == {sys.executable}
    assert {settings.python(e) for e in ceilings_on_cuda(["float32"])} == {sys.executable}


def test_without_a_gpu_it_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(driver, "_library", lambda: None)
    assert benchmark.main(["--device", "cuda"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("jvan benchmark: no CUDA device here: NVIDIA's driver (libcuda.so.1) is not")
    assert err.count("\n") == 1 and "--device cpu" in err


@pytest.mark.parametrize(
    ("fault", "takes", "device"),
    [("", (13, 0), "cuda"), ("the GPU computes wrong numbers (a sum)", (13, 0), "cpu"), ("", None, "cpu")],
)
def test_a_gpu_that_computes_right_numbers_is_taken(fault, takes, device, monkeypatch, tmp_path, capfd):
    """In a process of its own, in which a module says what Jittor's trial found; where there is no driver, in none."""
    stand_in = tmp_path / "sitecustomize.py"
    stand_in.write_text(
        f"""
import sys, types
jittor = sys.modules["jittor"] = types.ModuleType("jittor")
jittor.has_cuda, jittor.flags = 1, types.SimpleNamespace(use_cuda=0)
import jvan.device
jvan.device.cuda_fault = lambda: {fault!r}
"""
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.getcwd()]))
    monkeypatch.setattr(driver, "version", lambda: takes)
    monkeypatch.setattr(benchmark, "_benchmark", lambda options: ({"device": options.device}, 0))
    said = []
    monkeypatch.setattr(benchmark, "_print", lambda document, as_json: said.append(document["device"]))
    monkeypatch.setattr(benchmark, "_status", lambda document: 0)
    assert benchmark.main(["--device", "auto"]) == 0 and said == [device]
    assert ("computing on the CPU" in capfd.readouterr().err) is bool(fault)


def test_what_auto_chose_is_what_the_other_arguments_must_fit(monkeypatch, capsys):
    monkeypatch.setattr(driver, "version", lambda: None)
    with pytest.raises(SystemExit):
        benchmark.main(["--device", "auto", "--dtype", "float16"])
    assert "--dtype float16 needs --device cuda" in capsys.readouterr().err


def test_gpus_are_described(monkeypatch):
    monkeypatch.setattr(driver, "version", lambda: (13, 0))
    monkeypatch.setattr(driver, "gpus", lambda: [driver.Gpu("a GPU", 90)])
    assert describe_gpus() == {"gpus": ["a GPU (sm_90)"], "cuda": "13.0"}


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """A function: rows and settings -> (entries by engine, the report), with fakes for what the device gives at most."""
    diary = tmp_path / "diary"

    def ceilings(dtypes):
        options = {"name": "copy", "diary": str(diary), "seconds": 0.5, "what": "copy", "size": 1 << 30}
        sizes = {"float32": 1000, "float16": 2000}  # 4 and 32 GFLOP/s
        products = [fake(f"product-{dtype}", diary, 0.5, dtype, size=sizes[dtype]) for dtype in dtypes]
        return [*products, Engine("copy", SCRIPT, options=options)]

    monkeypatch.setattr(rounds, "ceilings_on_cuda", ceilings)

    def measured(rows, tell=lambda line: None, **settings):
        engines = [fake(row.pop("name"), diary, **row) for row in rows]
        settings = Settings(rounds=2, timeout=60, device="cuda", **settings)
        result = begin(CASE, engines, settings)
        run(result, random_weights(TINY), settings, tmp_path, tell)
        machine = {
            "cpu": "a CPU",
            "cores": 2,
            "extensions": [],
            "memory_gb": 1,
            "system": "S",
            "python": "3",
            "load": 0,
        }
        made = document([result], {**machine, "gpus": ["a GPU (sm_90)"]}, settings)
        return {entry["engine"]: entry for entry in made["cases"][0]["engines"]}, "\n".join(lines(made)), diary

    return measured


def test_all_start_at_once(measure):
    meeting = {"fault": "meet", "at": 1, "others": 1}
    engines, _, _ = measure([{"name": "jvan", **meeting}, {"name": "peer", **meeting}], seconds=0.25)
    assert [engines[name]["status"] for name in ("jvan", "peer")] == ["ok", "ok"]


def test_the_clock_is_read_around_batches(measure):
    """0.002 s: ten iterations make the 0.02 s of a batch, and five batches a round of 0.1 s."""
    engines, _, diary = measure([{"name": "jvan", "seconds": 0.002}, {"name": "peer", "seconds": 1.0}], seconds=0.1)
    assert [len(times) for times in engines["jvan"]["rounds_ms"]] == [5, 5]
    assert engines["jvan"]["median_ms"] == pytest.approx(2) and engines["peer"]["ratio"] == pytest.approx(0.002)
    # the first one, two and ten to warm up, in each round six batches of ten of which the first is not counted
    assert diary.read_text().split().count("jvan") == 1 + 2 + 10 + 2 * 60
    assert diary.read_text().split().count("peer") == 1 + 2 + 1 + 2 * 2  # of one at a time, as slow as a round


@pytest.mark.parametrize(
    "dtype, factor, tf32, wrong",
    [
        ("float32", 1 + 0.9e-3, False, False),
        ("float32", 1 + 1.2e-3, False, True),
        ("float32", 1.015, True, False),
        ("float16", 1.018, False, False),
        ("float16", 1.022, False, True),
        ("bfloat16", 1.028, False, False),
        ("bfloat16", 1.032, False, True),
    ],
)
def test_each_precision_has_its_tolerance(dtype, factor, tf32, wrong, measure):
    rows = [{"name": "jvan"}, {"name": "peer", "dtype": dtype, "factor": factor}]
    engines, _, _ = measure(rows, tf32=tf32, seconds=0.25)
    assert engines["peer"]["wrong"] is wrong


def test_report(measure):
    rows = [{"name": "jvan"}, {"name": "jvan-fp16", "dtype": "float16", "seconds": 0.125}, {"name": "torch", "needs": "no_torch"}]  # fmt: skip
    engines, report, _ = measure(rows, seconds=0.25)
    assert report.startswith("a GPU (sm_90); no TF32 in float32 products\n")
    assert "cuBLAS, 8192×8192 matrices: float32 0.0 TFLOP/s, float16 0.0 TFLOP/s\n" in report
    assert "copy of 1 GiB, read and written: 4 GB/s\n" in report
    assert "torch: no_torch is not installed" in report and "what the engine's allocator has taken" in report
    gflops = engines["jvan-fp16"]["gflops"]
    assert engines["jvan-fp16"]["of_ceiling"] == pytest.approx(gflops / 32)


PLANS = {plan: getattr(gpu_benchmark, plan)() for plan in ("inference", "training", "compiled")}


def test_the_goals_come_first():
    planned = {plan: [(case.config.arch, case.batch_size, case.mode) for case, _ in PLANS[plan]] for plan in PLANS}
    assert planned["inference"] == [(arch, n, "infer") for n in (64, 1, 256) for arch in ("van_b0", "van_b2")]
    assert planned["training"][:2] == [("van_b0", 128, "train"), ("van_b2", 128, "train")]
    assert planned["compiled"][:4] == planned["inference"][:2] + planned["training"][:2]
    assert set(planned["compiled"]) == set(planned["inference"] + planned["training"][:2])
    assert all(
        len(engines) <= 3 for cases in PLANS.values() for case, engines in cases if case.mode == "train"
    )  # or memory ends


def test_the_steps_together_have_every_mode_that_the_verdicts_ask_for():
    measured = {}
    for case, engines in [row for cases in PLANS.values() for row in cases]:
        measured.setdefault((case.config.arch, case.mode, case.batch_size), set()).update(e.name for e in engines)
    for arch, mode, batch, dtypes in gpu_verdicts.SPEED:
        names = {f"{name}{SUFFIX[dtype]}" for name in ("jvan", *gpu_verdicts.MODES[mode]) for dtype in dtypes}
        assert names <= measured[arch, mode, batch]


def test_what_was_measured_of_the_device_is_not_measured_again():
    settings = Settings(device="cuda")
    engines = chosen_on_cuda("infer", ("float32", "float16"), ())
    first, second = (begin(CASE, engines[: 1 + number], settings) for number in range(2))
    first.ceilings[0].rounds = [[1.0]]  # the product in float32; the copy failed
    gpu_benchmark._take_ceilings([first, second])
    assert [row.engine.name for row in second.ceilings] == ["product", "product-fp16", "copy"]
    assert second.ceilings[0] is first.ceilings[0] and not any(row.measured for row in second.ceilings[1:])


@pytest.fixture
def steps(monkeypatch, tmp_path):
    """A function: seconds of time, what an earlier run found, faults of the first case -> (what a speed step found, what it
    kept on its way), with fakes."""
    diary = tmp_path / "diary"
    cases = [(replace(CASE, batch_size=n), [fake("jvan", diary), fake("torch", diary)]) for n in (1, 2, 3)]
    monkeypatch.setattr(gpu_benchmark, "random_weights", lambda config: random_weights(TINY))

    def measured(seconds, earlier=None, **fault):
        plan = [(cases[0][0], [fake("jvan", diary, **fault), cases[0][1][1]]), *cases[1:]]
        kept = []
        settings = Settings(1, 0.25, 1, timeout=60, deadline=time.monotonic() + seconds)
        monkeypatch.setattr(gpu_benchmark, "_setting", lambda task, plan: (plan, settings, describe_machine()))
        task = Task(True, save=lambda found: kept.append(json.dumps(found)), earlier=earlier or {})
        return gpu_benchmark._measured(task, plan), kept

    return measured


def test_what_a_speed_step_found_is_kept_after_each_case(steps):
    found, kept = steps(60)
    assert found["ok"] and found["left"] == [] and len(found["cases"]) == 3
    assert [len(json.loads(text)["cases"]) for text in kept] == [1, 2, 3]
    assert [len(json.loads(text)["left"]) for text in kept] == [2, 1, 0] and not json.loads(kept[0])["ok"]


def test_a_speed_step_ends_in_time(steps, capsys):
    found, kept = steps(-1)
    assert found["ok"] is False and len(found["left"]) == 3 and not found["cases"] and not kept
    assert capsys.readouterr().out.startswith("no time for: custom, 32×48, batch 1, inference; custom")


def test_no_engine_is_waited_for_past_the_deadline(steps):
    """The first case hangs; it ends at the deadline, is left for another run, and as it took all the time, no other is begun."""
    start = time.monotonic()
    found, _ = steps(3, fault="meet", at=1, others=9)  # it waits for nine others, 20 s
    assert time.monotonic() - start < 15 and not found["ok"] and len(found["left"]) == 3
    ours = found["cases"][0]["engines"][0]
    assert ours["status"] == "failed" and "no answer within" in ours["reason"]


def test_a_speed_step_goes_on_with_what_is_left(steps):
    _, kept = steps(60)
    earlier = json.loads(kept[1])
    found, kept = steps(60, earlier)
    assert found["cases"][:2] == earlier["cases"] and len(kept) == 1, "those that were whole are not measured again"
    assert found["ok"] and found["left"] == [] and len(found["cases"]) == 3
    found["cases"][0]["engines"][1]["wrong"] = True
    assert steps(60, found)[0]["ok"] is False, "wrong outputs of an earlier run count"


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({}, ["one"]),
        ({"machine": {"gpus": ["a GPU"], "load": 3}}, ["one"]),
        ({"machine": {"gpus": ["another"]}}, []),
        ({"settings": {"rounds": 9}}, []),
        ({"left": ["one", "two"]}, []),  # it was cut off
        ({"cases": [{"title": "gone"}]}, []),
    ],
)
def test_of_an_earlier_run_whole_cases_of_the_same_gpu_are_kept(change, kept):
    now = {"machine": {"gpus": ["a GPU"]}, "settings": {"rounds": 3}, "cases": []}
    earlier = {**now, "left": ["two"], "cases": [{"title": "one"}, {"title": "two"}], **change}
    found = gpu_benchmark._known(json.loads(json.dumps(earlier)), now, ["one", "two"])
    assert [case["title"] for case in found] == kept
    assert gpu_benchmark._known({}, now, ["one", "two"]) == []


def test_what_the_device_gives_at_most(monkeypatch):
    """The worker that measures it, on the CPU: right products, and whole copies."""
    monkeypatch.syspath_prepend(str(WORKERS))
    import cuda_ceiling_worker as worker

    task = {"device": "cpu", "tf32": False, "dtype": "float32"}
    product = worker.build({**task, "what": "product", "size": 33})
    product.step()
    product.finish()
    expected = product.left.numpy().astype(np.float64) @ product.right.numpy().astype(np.float64)
    assert np.abs(product.result.numpy() - expected).max() < 1e-4 * np.abs(expected).max()
    copy = worker.build({**task, "what": "copy", "size": 4 * 1001})
    copy.step()
    copy.finish()
    assert np.array_equal(copy.result.numpy(), copy.numbers.numpy()) and copy.result.numpy().std() > 0.5


def test_architectures():
    config = parse_arch("van_b0:stem_stride=1:lka_parts=dw,pw:gate=add:norm_eps=1e-5", num_classes=10)
    assert (config.stem_stride, config.lka_parts, config.gate, config.norm_eps) == (1, ("dw", "pw"), "add", 1e-5)
    assert config.embed_dims == variant_config("van_b0").embed_dims and config.num_classes == 10
    assert describe(config) == "van_b0:stem_stride=1:norm_eps=1e-05:lka_parts=dw,pw:gate=add"
    assert parse_arch(describe(config), num_classes=10) == config
    options = parser().parse_args(["--arch", "van_b1", "van_b0:embed_dims=8,16,32,64"])
    assert [describe(arch) for arch in options.arch] == ["van_b1", "custom"]
