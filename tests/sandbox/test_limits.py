"""Limits and tasks are checked before anything is run (spec/07 §2, §3)."""

from dataclasses import replace

import pytest

from fogbank.sandbox.limits import CEILINGS, LimitError, Limits, SandboxConfig
from fogbank.sandbox.task import FILES_COUNT, Task, TaskError


def test_the_defaults_are_within_the_ceilings() -> None:
    Limits().check()
    CEILINGS.check()
    SandboxConfig().check()
    Task().check(SandboxConfig().ceilings)


@pytest.mark.parametrize(
    "limits",
    [
        Limits(fuel=0),
        Limits(fuel=-1),
        Limits(fuel=CEILINGS.fuel + 1),
        Limits(fuel=True),
        Limits(memory=65535),
        Limits(memory=CEILINGS.memory + 1),
        Limits(wall_seconds=0),
        Limits(wall_seconds=float("nan")),
        Limits(wall_seconds=float("inf")),
        Limits(output=-1),
        Limits(output=CEILINGS.output + 1),
    ],
)
def test_limits_out_of_range_are_refused_by_name(limits: Limits) -> None:
    with pytest.raises(LimitError, match=r"the limit (fuel|memory|wall_seconds|output)"):
        limits.check()


def test_a_ceiling_is_named_in_the_refusal() -> None:
    ceilings = replace(Limits(), fuel=1000)
    Limits(fuel=1000).check(ceilings)
    with pytest.raises(LimitError, match="the most that is granted here is 1000"):
        Limits(fuel=1001).check(ceilings)


@pytest.mark.parametrize(
    "config",
    [
        SandboxConfig(processes=0),
        SandboxConfig(spares=-1),
        SandboxConfig(ceilings=Limits(fuel=CEILINGS.fuel + 1)),
    ],
)
def test_a_sandbox_that_makes_no_sense_is_refused(config: SandboxConfig) -> None:
    with pytest.raises(LimitError):
        config.check()


@pytest.mark.parametrize(
    "task",
    [
        Task(seed=b"short"),
        Task(args=("a\0b",)),
        Task(args=("\ud800",)),
        Task(args=("x" * (1 << 20),)),
        Task(env=(("", "x"),)),
        Task(env=(("a=b", "x"),)),
        Task(env=(("a", "1"), ("a", "2"))),
        Task(files=(("", b""),)),
        Task(files=(("/etc/passwd", b""),)),
        Task(files=(("a/../b", b""),)),
        Task(files=(("./a", b""),)),
        Task(files=(("a//b", b""),)),
        Task(files=(("a\0", b""),)),
        Task(files=(("a", b"1"), ("a", b"2"))),
        Task(files=(("x" * 256, b""),)),
        Task(files=tuple((f"{n}/" + "d/" * 100 + "f", b"") for n in range(50))),
        Task(files=(("a/b", b"1"), ("a", b"2"))),
        Task(files=tuple((str(n), b"") for n in range(FILES_COUNT + 1))),
        Task(files=(("a", bytes(100_000)),), limits=Limits(memory=65536)),
    ],
)
def test_tasks_that_no_sandbox_accepts(task: Task) -> None:
    with pytest.raises(TaskError):
        task.check()


def test_a_full_task_is_accepted() -> None:
    Task(
        args=("prog", "", "ü"),
        env=(("A", ""), ("B", "=")),
        files=(("data/a.csv", b"1"), ("data/b.csv", b"2"), ("c", b"")),
        stdin=b"in",
    ).check()
