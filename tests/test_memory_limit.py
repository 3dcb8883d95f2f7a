"""The memory that a process may still have, from a /proc and control groups made for the test."""

import resource

import pytest

from jvan import memory_limit
from jvan.errors import JvanError, MemoryLimitError
from jvan.memory_limit import available_memory, check_memory

GIB = 1 << 30


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Writes files of a system with 8 GiB available, no swap and no limits; `machine(path, text)` adds one."""
    monkeypatch.setattr(memory_limit, "PROC", tmp_path / "proc")
    monkeypatch.setattr(memory_limit, "CGROUPS", tmp_path / "cgroup")
    limits = {resource.RLIMIT_AS: resource.RLIM_INFINITY, resource.RLIMIT_DATA: resource.RLIM_INFINITY}
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limits[which], limits[which]))

    def add(path, text):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    add("proc/meminfo", f"MemTotal: {16 << 20} kB\nMemAvailable: {8 << 20} kB\nSwapFree: 0 kB\n")
    add("proc/self/status", f"Name: python\nVmSize:\t {2 << 20} kB\nVmData:\t {1 << 20} kB\n")
    add.limits = limits
    return add


def test_what_the_machine_has_free(machine):
    assert available_memory() == (8 * GIB, "what this machine has free")
    machine("proc/meminfo", f"MemAvailable: {8 << 20} kB\nSwapFree: {4 << 20} kB\n")
    assert available_memory().free == 12 * GIB


@pytest.mark.parametrize("name, free", [("RLIMIT_AS", 3), ("RLIMIT_DATA", 4)])
def test_the_limits_of_the_process(machine, name, free):
    machine.limits[getattr(resource, name)] = 5 * GIB
    assert available_memory() == (free * GIB, f"its limit {name}")


def test_a_control_group_of_version_2_and_those_above(machine):
    machine("proc/self/cgroup", "0::/system/job/step\n")
    machine("cgroup/system/job/step/memory.max", "max\n")
    machine("cgroup/system/job/step/memory.current", "1\n")
    assert available_memory().free == 8 * GIB
    machine("cgroup/system/job/memory.max", f"{4 * GIB}\n")
    machine("cgroup/system/job/memory.current", f"{3 * GIB}\n")
    assert available_memory() == (1 * GIB, "its control group's limit")
    machine("cgroup/system/job/memory.stat", f"anon {GIB}\nactive_file {GIB // 2}\ninactive_file {GIB // 2}\n")
    assert available_memory().free == 2 * GIB  # the kernel gives cached files back


def test_a_container_that_sees_its_own_group_as_the_root(machine):
    machine("proc/self/cgroup", "0::/../../elsewhere\n")
    machine("cgroup/memory.max", f"{2 * GIB}\n")
    machine("cgroup/memory.current", "0\n")
    assert available_memory().free == 2 * GIB


def test_a_control_group_of_version_1(machine):
    machine("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:hugetlb,memory:/job\n0::/\n")
    machine("cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    machine("cgroup/memory/memory.usage_in_bytes", f"{9 * GIB}\n")
    assert available_memory().free == 8 * GIB
    machine("cgroup/memory/job/memory.limit_in_bytes", f"{3 * GIB}\n")
    machine("cgroup/memory/job/memory.usage_in_bytes", f"{3 * GIB}\n")
    machine("cgroup/memory/job/memory.stat", f"total_active_file {GIB}\nrecent_moving_average 7\n")
    assert available_memory().free == 1 * GIB


def test_files_of_another_form_are_no_limit(machine):
    machine("proc/meminfo", "nothing\n")
    machine("proc/self/cgroup", "nothing\n")
    limit = available_memory()
    assert limit is None or limit.who == "what this machine has"


def test_a_refusal_names_both_figures_and_the_fix(machine):
    check_memory(8 * GIB, "this work", "do less")
    with pytest.raises(MemoryLimitError) as caught:
        check_memory(9 * GIB, "this work", "do less")
    assert str(caught.value) == (
        "this work needs 9.66 GB of memory, and this process may have 8.59 GB more (what this machine has free); do less"
    )
    assert isinstance(caught.value, JvanError) and isinstance(caught.value, MemoryError)


def test_no_known_limit_refuses_nothing(monkeypatch):
    monkeypatch.setattr(memory_limit, "available_memory", lambda: None)
    check_memory(1 << 60, "this work", "do less")


def test_this_machine_answers():
    assert available_memory().free > 0
