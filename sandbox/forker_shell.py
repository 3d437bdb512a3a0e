"""Forks at the word of a control socket: what the launcher and every zygote do (spec/07 §8).

A forker never reads a client's byte: those go over each process's own channel, which comes with
the packet that asks for the process.
"""

import contextlib
import gc
import os
import select
import signal
import socket
import struct

from fogbank.sandbox import wire
from fogbank.sandbox.wire import Control, Packet

_PACKET = wire.PACKET_SIZE + 1
"""Bytes that are read at a time: one more than a packet has, so that a longer one is seen."""
_ONE_DESCRIPTOR = socket.CMSG_SPACE(struct.calcsize("i"))
_SIGNALS = 64
"""How many ends of processes are taken note of at a time, at most."""
_GARBAGE = 20_000
"""Objects that a process makes and keeps before it looks for garbage."""
FAILED = 70
"""How a process ends that could not do what it is for."""


class Forker:
    """Forks processes of some kinds, kills them on request, and tells who has ended."""

    def __init__(self, control: socket.socket, kinds: frozenset[Control]) -> None:
        self._control = control
        self._kinds = kinds
        self._pids: dict[int, int] = {}
        self._processes: dict[int, int] = {}

    def serve(self) -> tuple[Control, int] | None:
        """Work until the control socket closes, and return None; everything forked is gone then.

        In a process that was forked it returns too: its kind, and its channel's descriptor. All
        other descriptors are still open there.
        """
        waking, woken = socket.socketpair()
        for end in (waking, woken):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(waking, select.POLLIN)
        # What is shared must not be looked through by each process, nor soon what is its own.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_GARBAGE)
        going_on = True
        while going_on:
            ready = {fd for fd, _ in poll.poll()}
            if waking.fileno() in ready:
                with contextlib.suppress(BlockingIOError):
                    waking.recv(_SIGNALS)
                self._reap()
            if self._control.fileno() in ready:
                going_on, forked = self._obey()
                if forked is not None:
                    signal.set_wakeup_fd(-1)
                    # Their numbers will mean something else here: nobody must close them late.
                    for end in (waking, woken, self._control):
                        end.detach()
                    return forked
        for pid in self._processes:
            os.kill(pid, signal.SIGKILL)
        return None

    def _obey(self) -> tuple[bool, tuple[Control, int] | None]:
        """Carry out one packet: whether the socket is still open, and what serve() returns."""
        # What is written here is copied anew after each fork: so no more is than must be.
        data, about, _, _ = self._control.recvmsg(_PACKET, _ONE_DESCRIPTOR)
        descriptors = [
            number for _, _, content in about for (number,) in struct.iter_unpack("i", content)
        ]
        try:
            if not data:
                return False, None
            packet = wire.decode_packet(data)
            if packet.kind is Control.KILL:
                if packet.process in self._pids:
                    os.kill(self._pids[packet.process], signal.SIGKILL)
            elif packet.kind in self._kinds and descriptors and self._forks(packet):
                return True, (packet.kind, descriptors.pop())
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True, None

    def _forks(self, packet: Packet) -> bool:
        """Fork; return whether this is the new process."""
        try:
            pid = os.fork()
        except OSError:
            self._say(Packet(Control.EXITED, packet.process, FAILED << 8))
            return False
        if pid:
            self._pids[packet.process] = pid
            self._processes[pid] = packet.process
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
                self._say(Packet(Control.EXITED, process, status))

    def _say(self, packet: Packet) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._control.send(wire.encode_packet(packet))
