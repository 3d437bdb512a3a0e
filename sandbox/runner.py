"""Runs tasks on one compiled module: a fresh instance each, metered and limited (spec/07 §4, §5).

Runs inside a jailed process; the module and the task may both be hostile.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import wasmtime

from fogbank.sandbox import fuel_yield
from fogbank.sandbox.binding import Store, image
from fogbank.sandbox.execution import Execution, OutOfFuel, Unbound
from fogbank.sandbox.host_calls import HostCalls, exported_function, exported_memory
from fogbank.sandbox.limits import Limits
from fogbank.sandbox.meter import Line, Silent
from fogbank.sandbox.outcome import Outcome, Result, clean
from fogbank.sandbox.task import Task
from fogbank.sandbox.wasi.abi import MODULE
from fogbank.sandbox.wasi.descriptors import Drain, OutputLimit
from fogbank.sandbox.wasi.process import ProcExit
from fogbank.sandbox.wasi.system import System

STDIN = 0
TABLES = 16
TABLE_ELEMENTS = 1 << 20
_SPENT = "the fuel limit is used up: grant the task more, or give it less to do"
# To name a member of an enumeration is to call a function; every task comes by these.
_COMPLETED, _OUT_OF_FUEL, _TRAP = Outcome.COMPLETED, Outcome.OUT_OF_FUEL, Outcome.TRAP
_NEAR = 16
"""A failing end within 1/16 of the memory limit counts as out of memory."""


@dataclass(frozen=True, slots=True)
class Order:
    """A task to run: `granted` is the fuel that it may use before it has to ask over `line`.

    `drain` takes what it writes, in portions; its result then has the ends of its outputs alone.
    """

    task: Task
    granted: int
    line: Line
    drain: Drain | None = None


HandOver: TypeAlias = Callable[[tuple[int, int]], Order]


class _TooSmall(Exception):
    """What was started before the task was known has more memory than the task's limit."""


class _Running:
    """What the instance that runs is for; once, that can become another task."""

    def __init__(self, store: wasmtime.Store, order: Order, host: HostCalls) -> None:
        self.task = order.task
        self._store = store
        self._host = host
        self._hold_to(order.task.limits)
        self.execution = Execution(store, order.task.limits.fuel, order.granted, order.line)
        self.system = System(order.task, self.execution, order.drain)
        host.call = self.system.call

    def await_task(self, hand_over: HandOver) -> None:
        """Become the task that `hand_over` returns, when the program first reads its input."""

        def call(name: str, arguments: list[int]) -> int:
            if name == "fd_read" and arguments[0] == STDIN:
                self._become(hand_over(self.execution.memory_extent()))
            return self.system.call(name, arguments)

        self._host.call = call

    def _become(self, order: Order) -> None:
        """Run a task from here on. The program has nothing open but what it began with."""
        self.task = order.task
        self._hold_to(order.task.limits)
        self.system = System(order.task, self.execution, order.drain)
        self._host.call = self.system.call
        self.execution.begin(order.task.limits.fuel, order.granted, order.line)
        if self.execution.memory_size() > order.task.limits.memory:
            raise _TooSmall(self.execution.memory_size())

    def _hold_to(self, limits: Limits) -> None:
        self._store.set_limits(limits.memory, TABLE_ELEMENTS, 1, TABLES, 1)


class Runner:
    """Holds one module and runs tasks on it, one after the other."""

    def __init__(self, engine: wasmtime.Engine) -> None:
        self._engine = engine
        self._module: wasmtime.Module | None = None
        self._linker = wasmtime.Linker(engine)
        self._host = HostCalls(self._linker, MODULE)

    def load(self, artifact: bytes) -> None:
        """Take compiled code, made by this sandbox's own compiler. Raises `WasmtimeError`."""
        self.take(wasmtime.Module.deserialize(self._engine, artifact))

    def code_extent(self) -> tuple[int, int]:
        """Return where the code of the module begins and ends; both are 0 without one."""
        return (0, 0) if self._module is None else image(self._module)

    def take(self, module: wasmtime.Module) -> None:
        """Take a module that this engine compiled here and now."""
        self._module = module

    def run(self, task: Task, granted: int | None = None, line: Line | None = None) -> Result:
        """Run the program once. Nothing that it does raises here.

        `granted`: the fuel that it may use before it has to ask for more over `line`; if None, all.
        """
        now = task.limits.fuel if granted is None else granted
        return self.carry_out(Order(task, now, line or Silent()))

    def carry_out(self, order: Order) -> Result:
        """Run the program once, as ordered."""
        return self._run(order, None)

    def start(self, task: Task, hand_over: HandOver) -> Result:
        """Start the program on `task`, and run it on another.

        When it is about to read its standard input for the first time, `hand_over` returns what it
        is really for, in this process or in one forked from it, and is told where the instance's
        memory begins and ends: fuel, clocks, randomness, files and
        all else then begin anew, with the instance as it is (spec/07 §1.1).
        """
        return self._run(Order(task, task.limits.fuel, Silent()), hand_over)

    def _run(self, order: Order, hand_over: HandOver | None) -> Result:
        if self._module is None:
            return Result(Outcome.HOST_FAILURE, reason="no module was loaded")
        store = Store(self._engine)
        try:
            running = _Running(store, order, self._host)
            if hand_over is not None:
                running.await_task(hand_over)
            outcome, code, reason = self._execute(self._module, store, running)
            limits, execution = running.task.limits, running.execution
            used = limits.fuel if outcome is _OUT_OF_FUEL else execution.fuel_used()
            execution.settle(used)
            return Result(
                outcome,
                code,
                used,
                bytes(running.system.output.stdout),
                bytes(running.system.output.stderr),
                reason,
                memory=min(execution.memory_size(), limits.memory),
            )
        except Exception as error:  # noqa: BLE001 -- one task's failure must not end the job's process
            return Result(Outcome.HOST_FAILURE, reason=f"the worker failed: {type(error).__name__}")
        finally:
            self._host.forget()
            store.close()

    def _execute(
        self,
        module: wasmtime.Module,
        store: wasmtime.Store,
        running: _Running,
    ) -> tuple[Outcome, int | None, str]:
        execution = running.execution
        try:
            instance = fuel_yield.instantiate(self._linker, store, module, execution.look)
            memory = exported_memory(store, instance, "memory")
            start = exported_function(store, instance, "_start")
            if memory is None or start is None:
                return Outcome.INVALID_MODULE, None, "the module lacks memory or _start"
            execution.bind(memory)
            fuel_yield.call(store, start, execution.look)
        except Exception as error:  # noqa: BLE001 -- whatever ends the guest becomes an outcome
            outcome, code, reason = _ending(error, running.task.limits)
        else:
            outcome, code, reason = _COMPLETED, 0, ""
        limits = running.task.limits
        failed = outcome is _TRAP or (outcome is _COMPLETED and code != 0)
        if failed and execution.memory_size() >= limits.memory - limits.memory // _NEAR:
            words = f"the program failed with its memory at the limit of {limits.memory} bytes"
            return Outcome.OUT_OF_MEMORY, code, f"{words}: {reason}" if reason else words
        return outcome, code, reason


def _ending(  # noqa: PLR0911 -- a table
    error: Exception, limits: Limits
) -> tuple[Outcome, int | None, str]:
    match error:
        case ProcExit():
            return Outcome.COMPLETED, error.code, ""
        case OutOfFuel():
            return Outcome.OUT_OF_FUEL, None, _SPENT
        case OutputLimit():
            return Outcome.OUTPUT_LIMIT, None, "the program wrote more than its output limit allows"
        case _TooSmall():
            words = f"the runtime has {error.args[0]} bytes of memory before it begins: grant more"
            return Outcome.OUT_OF_MEMORY, None, words
        case Unbound():
            return Outcome.TRAP, None, "the module called the host from its start section"
        case wasmtime.Trap():
            if error.trap_code is wasmtime.TrapCode.OUT_OF_FUEL:
                return Outcome.OUT_OF_FUEL, None, _SPENT
            return Outcome.TRAP, None, _trap_words(error)
        case wasmtime.WasmtimeError():
            text = clean(str(error))
            if "exceed" in text and "limit" in text:
                words = f"the module does not fit its limits, {limits.memory} bytes of memory"
                return Outcome.OUT_OF_MEMORY, None, f"{words} among them: {text}"
            return Outcome.HOST_FAILURE, None, f"the module could not be started: {text}"
        case _:
            return Outcome.HOST_FAILURE, None, f"a host call failed: {type(error).__name__}"


def _trap_words(trap: wasmtime.Trap) -> str:
    """Name the trap and the function that it happened in."""
    lines = [line.strip() for line in trap.message.splitlines()]
    words = next((line for line in reversed(lines) if "trap: " in line), lines[-1] if lines else "")
    frames = trap.frames
    where = frames[0].func_name if frames else None
    text = words.rpartition("trap: ")[2].removeprefix("wasm ")
    return clean(f"{text} in {where}" if where else text)
