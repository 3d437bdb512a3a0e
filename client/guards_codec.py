"""The guard state as bytes, to be kept on disk (spec/06 §2.5)."""

from __future__ import annotations

from typing import Any

from fogbank.client.guards import Guard, GuardState, LayerTwo
from fogbank.relay.codec import decode_record, encode
from fogbank.relay.errors import ProtocolError
from fogbank.relay.keys import KEY_LENGTH, NodeId

GUARDS_LIMIT = 64 << 10
_VERSION = 1
_MAX_SAMPLE = 60
_MAX_LAYER_TWO = 16
_MAX_NUMBER = (1 << 53) - 1


def encode_guards(state: GuardState, network_id: bytes) -> bytes:
    """Return the file's bytes."""
    return encode(
        {
            1: _VERSION,
            2: network_id,
            3: [
                [
                    guard.identity,
                    guard.added,
                    guard.expires,
                    guard.confirmed,
                    guard.unlisted_since,
                    guard.unreachable_since,
                    guard.failures,
                    guard.retry_at,
                    guard.circuits,
                    guard.failed,
                ]
                for guard in state.sample
            ],
            4: [[guard.identity, guard.expires] for guard in state.layer_two],
            5: state.last_success,
        }
    )


def decode_guards(data: bytes, network_id: bytes) -> GuardState:
    """Read the file's bytes; raise `ProtocolError` for anything that is not such a file."""
    record = decode_record(data, GUARDS_LIMIT, "the file of guards")
    record.uint(1, _VERSION, _VERSION)
    if record.fixed(2, KEY_LENGTH) != network_id:
        raise ProtocolError("the file of guards is of another network")
    state = GuardState(
        record.array(3, _MAX_SAMPLE, _guard),
        record.array(4, _MAX_LAYER_TWO, _layer_two),
        record.uint(5, _MAX_NUMBER),
    )
    record.done()
    _check_distinct([guard.identity for guard in state.sample])
    _check_distinct([guard.identity for guard in state.layer_two])
    return state


def _guard(value: Any) -> Guard:
    return Guard(*_row(value, 10))


def _layer_two(value: Any) -> LayerTwo:
    return LayerTwo(*_row(value, 2))


def _row(value: Any, length: int) -> list[Any]:
    """Return an array of an identity and `length - 1` numbers."""
    if type(value) is not list or len(value) != length:
        raise ProtocolError(f"a guard is not an array of {length}")
    identity, *numbers = value
    if type(identity) is not bytes or len(identity) != KEY_LENGTH:
        raise ProtocolError("a guard's identity is not 32 bytes")
    if not all(type(number) is int and 0 <= number <= _MAX_NUMBER for number in numbers):
        raise ProtocolError("a guard has a number out of bounds")
    return value


def _check_distinct(identities: list[NodeId]) -> None:
    if len(set(identities)) != len(identities):
        raise ProtocolError("the file of guards lists one guard twice")
