"""Getting a runtime from workers that hold it, over circuits of its own (spec/08 §8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import trio

from fogbank.client.circuits_shell import CircuitLike, CircuitSet
from fogbank.client.errors import CircuitUnavailable, NoPath, RuntimeUnavailable
from fogbank.client.topology import Topology
from fogbank.directory.runtimes import Runtime
from fogbank.relay.errors import ProtocolError, RelayError
from fogbank.relay.keys import NodeId
from fogbank.relay.messages_shell import Stream, receive_message, send_message
from fogbank.relay.transfer.allowance import TransferLimits
from fogbank.relay.transfer.download import Download
from fogbank.relay.transfer.messages import MESSAGE_SIZE, SERVICE, Reply, Status, decode_reply
from fogbank.sandbox.data import PORTION

WORKERS_MAX: Final = 8
"""Workers that are asked for one runtime, each once."""
REPLY_SECONDS: Final = 30.0
_C = TypeVar("_C", bound=CircuitLike)
_PACE: Final = TransferLimits().pace
_GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError)
_REFUSALS: Final = {
    Status.NOT_HERE: "it does not have the runtime any more",
    Status.BUSY: "it gives to others now",
}


async def fetch_runtime(
    circuits: CircuitSet[_C],
    topology: Topology,
    runtime: Runtime,
    say: Callable[[str], None],
    exclude: frozenset[NodeId] = frozenset(),
) -> bytes:
    """Return the module of an accepted runtime, taken from one worker or from several in turn.

    `say` hears how it goes. Raises `NoPath` or `CircuitUnavailable` if no worker can be asked,
    `RuntimeUnavailable` if none of those asked gave it.
    """
    download = Download(runtime.digest, runtime.size)
    trouble: list[str] = []
    for _ in range(WORKERS_MAX):
        try:
            built = await circuits.to_worker(topology, runtime=runtime.digest, exclude=exclude)
        except (NoPath, CircuitUnavailable):
            if not trouble:
                raise
            break
        worker = built.path.end
        exclude |= {worker.identity}
        say(f"asking {worker.nickname} for {download.missing} bytes of {runtime.name}")
        why = await _part(built.circuit, download)
        try:
            data = download.end()
        except ProtocolError as error:
            data, why = None, str(error)
        if data is not None:
            return data
        trouble.append(f"{worker.nickname}: {why}")
        say(trouble[-1])
    raise RuntimeUnavailable(
        f"no worker gave all of the runtime {runtime.name}: try again in a while. Asked: "
        f"{'; '.join(trouble)}"
    )


async def _part(circuit: CircuitLike, download: Download) -> str:
    """Take what one worker gives; return why it is not all, as far as that is known."""
    try:
        await _ask(circuit, download)
    except RelayError as error:
        return str(error)
    except _GONE:
        return "the connection was lost"
    finally:
        circuit.close()
    return "it ended early, or was too slow"


async def _ask(circuit: CircuitLike, download: Download) -> None:
    """Take what one worker gives of what is missing; raise `RelayError` if it gives nothing."""
    missing = download.missing
    stream = await circuit.open_stream(SERVICE)
    reply = await _reply(stream, download)
    if reply.status is not Status.FOLLOWS:
        raise RelayError(_REFUSALS[reply.status])
    if reply.size != missing:
        raise ProtocolError(f"it wants to send {reply.size} bytes in place of {missing}")
    with trio.move_on_after(_PACE.seconds_for(missing)):
        while download.missing:
            data = await stream.receive_some(min(download.missing, PORTION))
            if not data:
                break
            download.take(data)


async def _reply(stream: Stream, download: Download) -> Reply:
    with trio.move_on_after(REPLY_SECONDS):
        await send_message(stream, download.request().encode())
        data = await receive_message(stream, MESSAGE_SIZE)
        if data is None:
            raise RelayError("it ended the stream without an answer")
        return decode_reply(data)
    raise RelayError(f"it did not answer within {REPLY_SECONDS:g} s")
