"""Forks at the word of a control socket: what the launcher and every zygote do (spec/07 §8).

A forker never reads a client's byte: those go over each process's own channel, which comes with
the packet that asks for the process.
"""

import gc
import os
import select
import signal
import socket
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Generic, TypeVar

from fogbank.sandbox import wire
from fogbank.sandbox.wire import Control, Packet

_PACKET = wire.PACKET_SIZE + 1
"""Bytes that are read at a time: one more than a packet has, so that a longer one is seen."""
_DESCRIPTOR = struct.Struct("i")
_ONE_DESCRIPTOR = socket.CMSG_LEN(_DESCRIPTOR.size)
"""Room for one; the kernel closes any more."""
_SIGNALS = 64
"""How many ends of processes are taken note of at a time, at most."""
_GARBAGE = 20_000
"""Objects that a process makes and keeps before it looks for garbage."""
FAILED = 70
"""How a process ends that could not do what it is for."""
# To name a member of an enumeration is to call a function.
_KILL, _EXITED = Control.KILL, Control.EXITED
_T = TypeVar("_T")


class Forker(Generic[_T]):
    """Forks processes of some kinds, kills them on request, and tells who has ended.

    What is run and written here is copied anew after each fork, and what a forked process has to
    leave before it begins is copied for it: so no more is than must be.
    """

    def __init__(
        self, control: socket.socket, works: Mapping[Control, Callable[[int], _T]]
    ) -> None:
        """`works` begins each kind of process, in the process, with its channel's descriptor."""
        self._control = control
        self._works = works
        self._pids: dict[int, int] = {}
        self._processes: dict[int, int] = {}
        self._begun: _T | None = None

    def serve(self) -> _T | None:
        """Work until the control socket closes, and return None; everything forked is gone then.

        In a process that was forked it returns too, if what began that does: the same thing.
        """
        waking, woken = socket.socketpair()
        for end in (waking, woken):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(waking, select.POLLIN)
        own = self._control.fileno()
        # What is shared must not be looked through by each process, nor soon what is its own.
        gc.freeze()
        gc.set_threshold(_GARBAGE)
        going_on = True
        while going_on:
            for ready, _ in poll.poll():
                if ready == own:
                    going_on = self._obey()
                    break
                with suppress(BlockingIOError):
                    waking.recv(_SIGNALS)
                self._reap()
        if self._begun is not None:
            # Their numbers mean something else here: nobody must close them late.
            for end in (waking, woken, self._control):
                end.detach()
            return self._begun
        for pid in self._processes:
            os.kill(pid, signal.SIGKILL)
        return None

    def _obey(self) -> bool:
        """Carry out one packet; return whether there may be more."""
        data, about, _, _ = self._control.recvmsg(_PACKET, _ONE_DESCRIPTOR)
        if not data:
            return False
        packet = wire.decode_packet(data)
        if about:
            (channel,) = _DESCRIPTOR.unpack(about[0][2])
            work = self._works.get(packet.kind)
            if work is not None and self._forks(packet.process):
                # Whoever works ends there, or returns what is still to be done.
                self._begun = work(channel)
                return False
            os.close(channel)
        elif packet.kind is _KILL:
            pid = self._pids.get(packet.process)
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
        return True

    def _forks(self, process: int) -> bool:
        """Fork; return whether this is the new process."""
        try:
            pid = os.fork()
        except OSError:
            self._say(Packet(_EXITED, process, FAILED << 8))
            return False
        if pid:
            self._pids[process] = pid
            self._processes[pid] = process
        return not pid

    def _reap(self) -> None:
        while self._processes:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            if os.WIFSTOPPED(status):
                # A process that traces itself is not gone yet.
                continue
            process = self._processes.pop(pid, None)
            if process is not None:
                del self._pids[process]
                self._say(Packet(_EXITED, process, status))

    def _say(self, packet: Packet) -> None:
        try:
            self._control.send(wire.encode_packet(packet))
        except (BrokenPipeError, ConnectionResetError):
            return
