"""A zygote: starts a runtime once, and is forked for each task (spec/07 §8).

It is jailed as far as something that forks can be, reads no client's byte, and runs the interpreter
until that wants to know what to run. There it waits, inside the host call, for its control socket
to ask for processes. Each of them binds itself for good, learns its task from a channel of its
own, and goes on where the zygote stands.
"""

import gc
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from fogbank.sandbox import child_shell, wire
from fogbank.sandbox.forker_shell import FAILED, Forker
from fogbank.sandbox.jail_shell import CHANNEL, close_all_but
from fogbank.sandbox.runner import HandOver, Order, Runner
from fogbank.sandbox.runtimes.catalogue import RuntimeSpec, by_digest
from fogbank.sandbox.runtimes.starting import start_task
from fogbank.sandbox.wire import Control

Settle: TypeAlias = Callable[[tuple[int, int], tuple[int, int]], object]
"""Told where code and memory lie, makes them cost forks least."""


def serve_zygote(runner: Runner, confine: Callable[[], object], settle: Settle) -> None:
    """Start the runtime that the control socket names; serve until that closes.

    `confine` binds a process that is to meet a client's bytes.
    """
    control = socket.socket(fileno=CHANNEL)
    spec = _load(runner, control)
    if spec is not None:
        forker = Forker(control, {Control.TASK: partial(_begin, confine)})
        _run(runner, control, spec, partial(_hand_over, forker, control, runner, settle))


def _load(runner: Runner, control: socket.socket) -> RuntimeSpec | None:
    """Take the runtime's digest and, as a file in memory, its compiled code."""
    data, descriptors, _, _ = socket.recv_fds(control, wire.CONTROL_SIZE, 1)
    spec = by_digest(data)
    if spec is None or not descriptors:
        return None
    with open(descriptors[0], "rb") as file:  # noqa: PTH123 -- a descriptor, not a path
        runner.load(file.read())
    return spec


def _run(runner: Runner, control: socket.socket, spec: RuntimeSpec, hand_over: HandOver) -> None:
    zygote = os.getpid()
    result = runner.start(start_task(spec), hand_over)
    if os.getpid() == zygote:
        words = f"{spec.name} ended before it took a task: {result.outcome.name} {result.reason}"
        control.send(wire.REFUSAL + words.encode())
    else:
        child_shell.send_result(result)


def _hand_over(
    forker: Forker[Order],
    control: socket.socket,
    runner: Runner,
    settle: Settle,
    memory: tuple[int, int],
) -> Order:
    """Serve; return in each process that was forked, jailed, with its task."""
    control.send(wire.REPORT)
    gc.collect()
    settle(runner.code_extent(), memory)
    order = forker.serve()
    if order is None:
        os._exit(0)
    return order


def _begin(confine: Callable[[], object], channel: int) -> Order:
    """Bind this process, which was just forked, and learn its task."""
    try:
        close_all_but(channel)
        confine()
        order = child_shell.receive_order()
    except BaseException:  # noqa: BLE001 -- what is not jailed and ready must end
        # No exception may reach the guest from here: it would become the task's result.
        os._exit(FAILED)
    if order is None:
        os._exit(0)
    return order
