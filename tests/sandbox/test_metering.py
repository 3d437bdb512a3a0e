"""Fuel while a program runs: where it stops, what is told, what is counted (spec/07 §5)."""

from dataclasses import dataclass, field

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from fogbank.sandbox import fuel_yield, meter
from fogbank.sandbox.binding import BindingChanged
from fogbank.sandbox.engine import make_engine
from fogbank.sandbox.execution import Execution
from fogbank.sandbox.floor import STRIKES, WINDOW, SpeedFloor
from fogbank.sandbox.limits import Limits
from fogbank.sandbox.meter import INTERVAL, Meter, Silent
from fogbank.sandbox.module_check import compile_module
from fogbank.sandbox.outcome import Outcome, Result
from fogbank.sandbox.runner import Runner
from fogbank.sandbox.task import Task
from tests.sandbox import programs

ENGINE = make_engine()
LIMIT = 10**7
TASK = Task(limits=Limits(fuel=LIMIT, memory=1 << 24, output=100_000), stdin=b"x" * 300_000)
COUNT = programs.command(
    "(local i32) (loop (local.set 0 (i32.add (local.get 0) (i32.const 1)))"
    "(br_if 0 (i32.lt_u (local.get 0) (i32.const 300000))))"
)
IN_START_SECTION = programs.text(
    '(memory (export "memory") 1) (func $s (local i32)'
    "(loop (local.set 0 (i32.add (local.get 0) (i32.const 1)))"
    "(br_if 0 (i32.lt_u (local.get 0) (i32.const 300000))))) (start $s)"
    '(func (export "_start"))'
)
PROGRAMS = {
    "count": COUNT,
    "start section": IN_START_SECTION,
    "host calls": programs.ECHO,
    "host calls without end": programs.FLOOD,
    "no end": programs.LOOP,
    "trap": programs.TRAP,
    "exit": programs.exiting(3),
    "clocks": programs.SAMPLER,
    "nothing": programs.NOTHING,
    "memory": programs.GROW_AND_FAIL,
}


def runner(module: bytes) -> Runner:
    loaded = Runner(ENGINE)
    loaded.load(compile_module(ENGINE, module))
    return loaded


Runners = dict[str, Runner]
Results = dict[str, Result]


@pytest.fixture(scope="module")
def runners() -> Runners:
    return {name: runner(module) for name, module in PROGRAMS.items()}


@pytest.fixture(scope="module")
def plain(runners: Runners) -> Results:
    """How each program ends that is granted all at once."""
    return {name: one.run(TASK) for name, one in runners.items()}


@dataclass
class Giver:
    """A line that grants what it was told to, then everything."""

    grants: list[int] = field(default_factory=list)
    told: list[int] = field(default_factory=list)
    paused: list[int] = field(default_factory=list)

    def progress(self, fuel: int) -> None:
        self.told.append(fuel)

    def pause(self, fuel: int) -> int:
        self.paused.append(fuel)
        return fuel + self.grants.pop(0) if self.grants else 1 << 50


@pytest.mark.parametrize("name", PROGRAMS)
@given(grants=st.lists(st.integers(1, 400_000), max_size=8), first=st.integers(0, 400_000))
@settings(max_examples=15)
def test_no_grants_change_what_a_program_does_or_costs(
    name: str, grants: list[int], first: int, runners: Runners, plain: Results
) -> None:
    line = Giver(list(grants))
    assert runners[name].run(TASK, first, line) == plain[name]
    assert line.paused == sorted(set(line.paused))
    assert all(fuel <= plain[name].fuel for fuel in line.paused)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_pauses_at_the_end_of_each_grant_and_ends_within_the_last(
    name: str, runners: Runners, plain: Results
) -> None:
    step = 7001
    line = Giver([step] * 10_000)
    result = runners[name].run(TASK, step, line)
    assert result == plain[name]
    # One pause at each end of a grant but the last, however the fuel is used: not one is jumped.
    assert line.paused == list(range(step, result.fuel, step))


@pytest.mark.parametrize("name", ["count", "no end"])
def test_a_pause_comes_within_a_basic_block(
    name: str, runners: Runners, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    look = Meter.look

    def watch(self: Meter, used: int) -> None:
        seen.append(used)
        look(self, used)

    monkeypatch.setattr(Meter, "look", watch)
    runners[name].run(TASK, 1_000_000, Giver([1_000_000]))
    assert next(at for at in seen if at >= 1_000_000) < 1_000_050
    assert next(at for at in seen if at >= 2_000_000) < 2_000_050


def test_progress_is_told_once_an_interval_with_host_calls_and_without(
    runners: Runners,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(meter, "INTERVAL", 100_000)
    for name in ("no end", "host calls", "count"):
        line = Giver()
        fuel = runners[name].run(TASK, None, line).fuel
        steps = [after - before for before, after in zip(line.told, line.told[1:], strict=False)]
        assert len(steps) >= fuel // 250_000
        assert all(90_000 < step < 250_000 for step in steps), name


def test_a_task_that_is_granted_nothing_does_nothing(runners: Runners) -> None:
    line = Giver()
    runners["trap"].run(TASK, 0, line)
    assert line.paused[0] == 0
    assert line.told[0] == 0


@given(
    st.integers(1, 10 * INTERVAL),
    st.integers(0, 10 * INTERVAL),
    st.lists(st.integers(1, 3 * INTERVAL), max_size=30),
)
def test_the_next_look_is_never_behind_the_grants_end(
    limit: int, granted: int, uses: list[int]
) -> None:
    counted = Meter(limit, granted, Giver([INTERVAL] * 100))
    used = 0
    for use in uses:
        counted.look(used)
        assert used < counted.granted or counted.granted == limit
        assert 1 <= counted.step <= INTERVAL
        assert counted.mark > used
        if counted.granted < limit:
            assert used + counted.step <= counted.granted
            # A host call before the mark begins the step anew: even then it ends in time.
            assert counted.mark - 1 + counted.step <= counted.granted
        used = min(used + use, limit)
    counted.settle(used)
    assert counted.granted >= used


def test_a_count_may_begin_anew_inside_a_host_call() -> None:
    """What a process does that was forked there, and goes on with another task."""
    store = wasmtime.Store(ENGINE)
    line = Giver([400] * 100)
    execution = Execution(store, 10 * INTERVAL, 10 * INTERVAL, Silent())
    linker = wasmtime.Linker(ENGINE)

    def begin() -> None:
        execution.begin(LIMIT, 400, line)
        execution.charge(150)

    linker.define_func("h", "f", wasmtime.FuncType([], []), begin)
    text = """(module (import "h" "f" (func $f)) (func (export "f") (local i32)
        (loop $a (local.set 0 (i32.add (local.get 0) (i32.const 1)))
         (br_if $a (i32.lt_u (local.get 0) (i32.const 100000))))
        (call $f)
        (loop $b (local.set 0 (i32.sub (local.get 0) (i32.const 1)))
         (br_if $b (i32.gt_u (local.get 0) (i32.const 99000))))))"""
    instance = fuel_yield.instantiate(
        linker, store, wasmtime.Module(ENGINE, text), execution.look
    ).exports(store)
    function = instance["f"]
    assert isinstance(function, wasmtime.Func)
    fuel_yield.call(store, function, execution.look)
    used = execution.fuel_used()
    assert 7000 < used < 9000
    assert line.paused == list(range(400, used, 400))


def test_a_line_that_grants_nothing_is_a_failure_of_the_host(
    runners: Runners, plain: Results
) -> None:
    class Stingy(Giver):
        def pause(self, fuel: int) -> int:
            return fuel

    assert runners["count"].run(TASK, 5, Stingy()).outcome is Outcome.HOST_FAILURE
    assert runners["count"].run(TASK, 5, Silent()).outcome is Outcome.HOST_FAILURE
    assert runners["count"].run(TASK) == plain["count"]


# The private binding.


def test_the_binding_does_what_the_pinned_release_does() -> None:
    fuel_yield.self_test(ENGINE)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("_call", None),
        ("_poll", lambda _: True),
        ("_set_interval", lambda *_: None),
    ],
)
def test_a_binding_that_changed_is_told_in_words(
    name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuel_yield, name, value)
    with pytest.raises(BindingChanged, match="wasmtime"):
        fuel_yield.self_test(ENGINE)


def test_an_error_of_a_host_function_arrives_once() -> None:
    """wasmtime keeps the last error in a global: it must not reach the next call."""
    store = wasmtime.Store(ENGINE)
    store.set_fuel(LIMIT)
    fuel_yield.set_interval(store, LIMIT)
    linker = wasmtime.Linker(ENGINE)

    def fail() -> None:
        raise KeyError("mine")

    linker.define_func("h", "f", wasmtime.FuncType([], []), fail)
    text = '(module (import "h" "f" (func $f)) (func (export "a") (call $f)) (func (export "b")))'
    instance = fuel_yield.instantiate(
        linker, store, wasmtime.Module(ENGINE, text), lambda: None
    ).exports(store)
    failing, fine = instance["a"], instance["b"]
    assert isinstance(failing, wasmtime.Func)
    assert isinstance(fine, wasmtime.Func)
    with pytest.raises(KeyError, match="mine"):
        fuel_yield.call(store, failing, lambda: None)
    fuel_yield.call(store, fine, lambda: None)


# The speed floor.


def test_a_task_is_too_slow_after_slow_windows_on_end_and_not_before() -> None:
    floor = SpeedFloor(100)
    verdicts = [floor.hear(int(99 * at), at) for at in (0.5, WINDOW, 2 * WINDOW, 3 * WINDOW)]
    assert verdicts == [False, False, False, True]
    assert STRIKES == 3


def test_a_fast_window_clears_slow_ones_and_one_in_between_does_not() -> None:
    floor = SpeedFloor(100)
    fuel = 0.0

    def window(number: int, speed: float) -> bool:
        nonlocal fuel
        fuel += speed * WINDOW
        return floor.hear(int(fuel), number * WINDOW)

    speeds = [50, 50, 200, 50, 50, 110, 50]
    assert [window(at, speed) for at, speed in enumerate(speeds, 1)] == [False] * 6 + [True]


def test_one_reading_after_a_long_silence_counts_for_all_of_it() -> None:
    assert SpeedFloor(100).hear(10, STRIKES * WINDOW)
    assert not SpeedFloor(100).hear(10, (STRIKES - 0.5) * WINDOW)


@given(st.lists(st.floats(0, 10), max_size=50), st.integers(0, 1000))
def test_nobody_at_the_floor_or_above_is_too_slow(steps: list[float], rate: int) -> None:
    floor = SpeedFloor(rate)
    cpu = 0.0
    for step in steps:
        cpu += step
        assert not floor.hear(int(rate * cpu * 2) + 2, cpu)
    assert not SpeedFloor(0).hear(0, 1e6)
