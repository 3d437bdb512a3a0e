"""Write `08-jobs.json`: messages and a whole session, written down from spec/08 §1 and §2.

It shares no code with the project: the CBOR is put together here, byte by byte, and outputs are
sealed with libsodium's parts.

    python spec/vectors/generate/jobs.py
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from nacl import bindings
from nacl.public import Box, PrivateKey
from plain_cbor import cbor

VECTORS = Path(__file__).resolve().parents[1]
MODULE = b"\0asm\x01\0\0\0"
SEED = bytes(range(32))
LIMITS = {1: 1 << 38, 2: 256 << 20, 3: 120_000, 4: 16 << 20}
SMALL = {1: 1000, 2: 65536, 3: 1, 4: 0}
ENGINE = "wasmtime-50.0.1-x86_64-0123456789abcdef"
RUNTIME = hashlib.sha256(b"an interpreter").digest()
SECRET = bytes(range(100, 132))
STREAM_KEY = bytes(range(200, 232))
JOB_KEY = hashlib.sha256(b"a job's key").digest()
HOLD = {0: 20, 1: hashlib.sha256(b"a ticket").digest(), 2: bytes(range(32, 64))}
RESUME = {0: 21, 1: HOLD[1], 2: [[1, 0], [3, 65_000]]}
RESUMED = {0: 22, 1: 3, 2: [[1, 5], [2, 2], [3, 3], [4, 1]]}
LOAD = {1: 2, 2: 1, 3: 0}
OFFER = {
    0: 2, 1: 3, 2: ENGINE, 3: LIMITS, 4: 64 << 20, 5: 1 << 28, 6: 32, 7: LOAD, 8: [RUNTIME],
    9: 10_000_000,
}  # fmt: skip
NAMED = {0: 3, 1: RUNTIME, 2: 0, 3: True}
ANNOUNCED = {0: 3, 1: hashlib.sha256(MODULE).digest(), 2: len(MODULE)}
TASK = {
    0: 6,
    1: 1,
    2: ["program", "line one\nline two"],
    3: [["LANG", "C"]],
    4: [["data/in.csv", 4], ["empty", 0]],
    5: 5,
    6: SMALL,
    7: SEED,
}
INPUT = 9
"""Bytes of that task's stdin and files."""
RESULT = {0: 8, 1: 1, 2: 0, 3: 3, 4: 999, 5: 4, 6: 3, 7: 0, 8: ""}


def frame(message: dict[int, Any], *attachments: bytes) -> bytes:
    """A message with its length, and what follows it."""
    body = cbor(message)
    return len(body).to_bytes(4, "big") + body + b"".join(attachments)


def accepted() -> dict[str, list[tuple[str, dict[int, Any]]]]:
    """Messages that are right, by who sends them."""
    client: list[tuple[str, dict[int, Any]]] = [
        ("HELLO", {0: 1, 1: [3]}),
        ("HELLO of many versions", {0: 1, 1: [1, 2, 65535]}),
        ("MODULE", ANNOUNCED),
        ("MODULE by runtime", NAMED),
        ("MODULE that other sessions will name", {**ANNOUNCED, 4: JOB_KEY}),
        ("MODULE that another session brought", {**ANNOUNCED, 2: 0, 4: JOB_KEY}),
        ("TASK", TASK),
        (
            "TASK with nothing",
            {0: 6, 1: 2**32 - 1, 2: [], 3: [], 4: [], 5: 0, 6: LIMITS, 7: bytes(32)},
        ),
        ("TASK that is granted a part of its fuel", {**TASK, 13: 999}),
        ("TASK that is granted nothing yet", {**TASK, 13: 0}),
        ("TASK whose input is here in part", {**TASK, 14: 3}),
        ("TASK whose input is here", {**TASK, 14: INPUT}),
        ("TASK, the last one", {**TASK, 15: True}),
        ("CANCEL", {0: 9, 1: 1}),
        ("GRANT", {0: 16, 1: 1, 2: 1000}),
        ("CANCEL of the session", {0: 9, 1: 0}),
        ("PAD", {0: 10, 1: 65_000}),
        ("PAD of nothing", {0: 10, 1: 0}),
        ("HOLD", HOLD),
        ("HOLD, durable", {**HOLD, 3: True}),
        ("RESUME", RESUME),
        ("RESUME with nothing at hand", {**RESUME, 2: []}),
        ("ACK", {0: 23, 1: 1}),
    ]
    worker: list[tuple[str, dict[int, Any]]] = [
        ("OFFER", OFFER),
        ("OFFER without runtimes", {**OFFER, 8: []}),
        ("ACCEPTED", {0: 4}),
        ("REFUSED, the session", {0: 5, 1: 2, 2: "all places are taken"}),
        ("REFUSED, a task", {0: 5, 1: 4, 2: "too much memory", 3: 1}),
        ("REFUSED, the module", {0: 5, 1: 3, 2: "not a module", 4: 7}),
        ("REFUSED, a runtime", {0: 5, 1: 3, 2: "not held here", 4: 12}),
        ("STATE of the module", {0: 7, 1: 0, 2: 1, 3: "3 jobs wait before it"}),
        ("OFFER without a floor", {**OFFER, 9: 0}),
        ("OFFER to hold", {**OFFER, 11: {1: 86_400, 2: 1 << 32, 3: 1024}}),
        ("REFUSED, the worker shuts down", {0: 5, 1: 7, 2: "the worker is shutting down"}),
        ("REFUSED, a task while the worker shuts down", {0: 5, 1: 7, 2: "", 3: 2}),
        ("REFUSED, an unknown ticket", {0: 5, 1: 8, 2: "no session is held under this ticket"}),
        ("STATE of a task that waits", {0: 7, 1: 1, 2: 1, 3: ""}),
        ("STATE of a task that runs", {0: 7, 1: 1, 2: 2, 3: "", 4: 63 << 30}),
        ("STATE of a task that is paused", {0: 7, 1: 1, 2: 3, 3: "no more is granted", 4: 999}),
        ("RESULT", RESULT),
        (
            "RESULT without an exit code",
            {0: 8, 1: 1, 2: 1, 4: 1000, 5: 31, 6: 0, 7: 0, 8: "out of fuel"},
        ),
        ("RESULT with an attestation", {**RESULT, 10: b"signed"}),
        ("RESULT that is sealed", {**RESULT, 12: {1: 124, 2: 0}}),
        ("RESULT that is sealed, the rest", {**RESULT, 12: {1: 124, 2: 100}}),
        (
            "RESULT that is sealed in two chunks",
            {**RESULT, 6: 65_536, 7: 1, 12: {1: 104 + 65_537 + 2 * 17, 2: 0}},
        ),
        ("RESUMED", RESUMED),
        ("RESUMED, parked, with nothing", {0: 22, 1: 5, 2: []}),
        ("RESUMED, with a part of an input", {**RESUMED, 3: {1: 9, 2: 1}}),
        ("PAD", {0: 10, 1: 1}),
    ]
    return {"client": client, "worker": worker}


def without(message: dict[int, Any], key: int) -> dict[int, Any]:
    """The message without one key."""
    return {other: value for other, value in message.items() if other != key}


def refused() -> dict[str, list[tuple[str, bytes]]]:
    """Messages with one fault each, by who sends them."""
    client = [
        ("no kind", cbor({1: [1]})),
        ("a reserved kind: payment", cbor({0: 17})),
        ("an unknown kind", cbor({0: 200})),
        ("a worker's kind", cbor({0: 4})),
        ("a reserved kind: data that workers hold", cbor({0: 28})),
        ("padding over 256 MiB", cbor({0: 10, 1: (1 << 28) + 1})),
        ("padding of no length", cbor({0: 10})),
        ("a ticket of 31 bytes", cbor({**HOLD, 1: bytes(31)})),
        ("a hold without a key", cbor(without(HOLD, 2))),
        ("a hold that says it is not durable", cbor({**HOLD, 3: False})),
        ("a hold with a fourth field", cbor({**HOLD, 4: 0})),
        ("a resumption without its list", cbor(without(RESUME, 2))),
        ("a resumption of task 0", cbor({**RESUME, 2: [[0, 0]]})),
        ("a resumption of a task twice", cbor({**RESUME, 2: [[1, 0], [1, 0]]})),
        ("a resumption whose tasks do not ascend", cbor({**RESUME, 2: [[2, 0], [1, 0]]})),
        ("a resumption of a task alone", cbor({**RESUME, 2: [[1]]})),
        ("a resumption of 4097 tasks", cbor({**RESUME, 2: [[n, 0] for n in range(1, 4098)]})),
        ("the acknowledgement of task 0", cbor({0: 23, 1: 0})),
        ("a job's key of 31 bytes", cbor({**ANNOUNCED, 4: bytes(31)})),
        ("a runtime of a job's own", cbor({**NAMED, 4: JOB_KEY})),
        ("no versions", cbor({0: 1, 1: []})),
        ("versions that do not ascend", cbor({0: 1, 1: [2, 1]})),
        ("a version twice", cbor({0: 1, 1: [1, 1]})),
        ("a version of 17 bits", cbor({0: 1, 1: [65536]})),
        ("17 versions", cbor({0: 1, 1: list(range(17))})),
        ("a reserved key: wishes", cbor({0: 1, 1: [1], 2: 0})),
        ("a hash of 31 bytes", cbor({**ANNOUNCED, 1: bytes(31)})),
        ("an empty module", cbor({**ANNOUNCED, 2: 0})),
        ("a runtime with a length", cbor({**NAMED, 2: 8})),
        ("a runtime that is none", cbor({**NAMED, 3: False})),
        ("a module that says it is no runtime", cbor({**ANNOUNCED, 3: False})),
        ("a runtime by a number", cbor({**NAMED, 3: 1})),
        ("a runtime's digest of 31 bytes", cbor({**NAMED, 1: bytes(31)})),
        ("a module over 64 MiB", cbor({**ANNOUNCED, 2: (64 << 20) + 1})),
        ("task 0", cbor({**TASK, 1: 0})),
        ("an id of 33 bits", cbor({**TASK, 1: 1 << 32})),
        ("no seed", cbor(without(TASK, 7))),
        ("a reserved key: payment", cbor({**TASK, 8: b""})),
        ("NUL in an argument", cbor({**TASK, 2: ["a\0b"]})),
        ("bytes as an argument", cbor({**TASK, 2: [b"a"]})),
        ("4097 arguments", cbor({**TASK, 2: [""] * 4097})),
        ("a variable of three parts", cbor({**TASK, 3: [["A", "B", "C"]]})),
        ("1025 files", cbor({**TASK, 4: [["a", 0]] * 1025})),
        ("a path of 1025 bytes", cbor({**TASK, 4: [["a" * 1025, 0]]})),
        ("input over 256 MiB", cbor({**TASK, 4: [["a", 1 << 28]], 5: 1})),
        ("no fuel", cbor({**TASK, 6: {**SMALL, 1: 0}})),
        ("fuel over 2^50", cbor({**TASK, 6: {**SMALL, 1: (1 << 50) + 1}})),
        ("memory below a page", cbor({**TASK, 6: {**SMALL, 2: 65535}})),
        ("a fifth limit", cbor({**TASK, 6: {**SMALL, 5: 0}})),
        ("all fuel granted, and said so", cbor({**TASK, 13: 1000})),
        ("no byte of input left out, and said so", cbor({**TASK, 14: 0})),
        ("a task that says that others follow", cbor({**TASK, 15: False})),
        ("a last task by a number", cbor({**TASK, 15: 1})),
        ("more input left out than there is", cbor({**TASK, 14: INPUT + 1})),
        ("the end of a task of 33 bits", cbor({0: 9, 1: 1 << 32})),
        ("fuel for task 0", cbor({0: 16, 1: 0, 2: 1})),
        ("a grant of nothing", cbor({0: 16, 1: 1, 2: 0})),
        ("a grant over 2^50", cbor({0: 16, 1: 1, 2: (1 << 50) + 1})),
        ("a grant without its fuel", cbor({0: 16, 1: 1})),
        ("a map that is not canonical", b"\xa2\x01\x01\x00\x09"),
        ("no map", cbor([9, 1])),
    ]
    worker = [
        ("a client's kind", cbor({0: 1, 1: [1]})),
        ("a reserved kind: checkpoints", cbor({0: 24})),
        ("ACCEPTED with a key", cbor({0: 4, 1: 0})),
        ("an unknown cause", cbor({0: 5, 1: 9, 2: ""})),
        ("a task refused for an unknown ticket", cbor({0: 5, 1: 8, 2: "", 3: 1})),
        ("a task that is done and no result", cbor({0: 7, 1: 1, 2: 5, 3: ""})),
        ("an attestation of no bytes", cbor({**RESULT, 10: b""})),
        ("an attestation of 4097 bytes", cbor({**RESULT, 10: bytes(4097)})),
        ("a reserved key: the length before padding", cbor({**RESULT, 9: 0})),
        ("a sealed output that is too short", cbor({**RESULT, 12: {1: 123, 2: 0}})),
        ("a sealed output that is too long", cbor({**RESULT, 12: {1: 125, 2: 0}})),
        ("an offset beyond the sealed output", cbor({**RESULT, 12: {1: 124, 2: 125}})),
        ("a sealed output without an offset", cbor({**RESULT, 12: {1: 124}})),
        ("a module that is paused, resumed", cbor({**RESUMED, 1: 4})),
        ("a task in an unknown state, resumed", cbor({**RESUMED, 2: [[1, 4]]})),
        ("tasks that do not ascend, resumed", cbor({**RESUMED, 2: [[2, 1], [1, 1]]})),
        ("task 0, resumed", cbor({**RESUMED, 2: [[0, 1]]})),
        ("nothing of an input, resumed", cbor({**RESUMED, 3: {1: 9, 2: 0}})),
        ("a part of task 0, resumed", cbor({**RESUMED, 3: {1: 0, 2: 1}})),
        ("a part of a task that is here", cbor({**RESUMED, 2: [[1, 1]], 3: {1: 1, 2: 1}})),
        ("a client's kind: hold", cbor(HOLD)),
        ("a module refused without an outcome", cbor({0: 5, 1: 3, 2: ""})),
        ("a module refused as completed", cbor({0: 5, 1: 3, 2: "", 4: 0})),
        ("an outcome without a module", cbor({0: 5, 1: 2, 2: "", 4: 7})),
        ("a task refused for its session's silence", cbor({0: 5, 1: 6, 2: "", 3: 1})),
        ("a session refused as a task", cbor({0: 5, 1: 5, 2: ""})),
        ("a reserved state: verifying", cbor({0: 7, 1: 1, 2: 4, 3: ""})),
        ("a task that runs without its fuel", cbor({0: 7, 1: 1, 2: 2, 3: ""})),
        ("a task that is paused without its fuel", cbor({0: 7, 1: 1, 2: 3, 3: ""})),
        ("a task that waits, and its fuel", cbor({0: 7, 1: 1, 2: 1, 3: "", 4: 0})),
        ("a module that uses fuel", cbor({0: 7, 1: 0, 2: 2, 3: "", 4: 0})),
        ("a module that is paused", cbor({0: 7, 1: 0, 2: 3, 3: ""})),
        ("a reason with an escape", cbor({0: 7, 1: 1, 2: 1, 3: "\x1b[2J"})),
        ("a reason of 501 characters", cbor({0: 7, 1: 1, 2: 1, 3: "x" * 501})),
        ("an unknown outcome", cbor(without({**RESULT, 2: 13}, 3))),
        ("completed without an exit code", cbor(without(RESULT, 3))),
        ("an exit code with a trap", cbor({**RESULT, 2: 2})),
        ("an exit code of 256", cbor({**RESULT, 3: 256})),
        ("a run time of 2^32 ms", cbor({**RESULT, 5: 32})),
        ("output over 256 MiB", cbor({**RESULT, 6: (256 << 20) + 1})),
        ("an engine class of 129 bytes", cbor({**OFFER, 2: "x" * 129})),
        ("room for no task", cbor({**OFFER, 6: 0})),
        ("held for no time", cbor({**OFFER, 11: {1: 0, 2: 1, 3: 1}})),
        ("held for more than 31 days", cbor({**OFFER, 11: {1: 31 * 86_400 + 1, 2: 1, 3: 1}})),
        ("held without a count of tasks", cbor({**OFFER, 11: {1: 1, 2: 1}})),
        ("4097 held tasks", cbor({**OFFER, 11: {1: 1, 2: 1, 3: 4097}})),
        ("33 runtimes", cbor({**OFFER, 8: [RUNTIME] * 33})),
        ("a runtime of 31 bytes", cbor({**OFFER, 8: [bytes(31)]})),
        ("no list of runtimes", cbor(without(OFFER, 8))),
        ("no floor", cbor(without(OFFER, 9))),
        ("a floor over 2^50", cbor({**OFFER, 9: (1 << 50) + 1})),
    ]
    return {"client": client, "worker": worker}


def session() -> list[tuple[str, bytes]]:
    """A whole session, in the order in which its frames are sent."""
    return [
        ("client", frame({0: 1, 1: [3]})),
        ("worker", frame(OFFER)),
        ("client", frame(ANNOUNCED, MODULE)),
        ("client", frame({**TASK, 6: {**SMALL, 4: 3}, 13: 600}, b"input", b"a,b\n")),
        ("worker", frame({0: 7, 1: 0, 2: 2, 3: "the module is being compiled"})),
        ("worker", frame({0: 7, 1: 1, 2: 1, 3: "the module is not ready yet"})),
        ("worker", frame({0: 4})),
        ("worker", frame({0: 7, 1: 1, 2: 2, 3: "", 4: 0})),
        ("worker", frame({0: 7, 1: 1, 2: 3, 3: "its granted fuel is used up", 4: 600})),
        ("client", frame({0: 16, 1: 1, 2: 1000})),
        ("worker", frame({0: 7, 1: 1, 2: 2, 3: "", 4: 600})),
        ("worker", frame(RESULT, b"out")),
    ]


def transfer() -> dict[str, Any]:
    """Requests for a runtime and replies, §8: right ones, and with one fault each."""
    accepted = [
        ("request", "all of it", {1: RUNTIME, 2: 0}),
        ("request", "the last byte of the largest", {1: RUNTIME, 2: (64 << 20) - 1}),
        ("reply", "bytes follow", {1: 0, 2: 64 << 20}),
        ("reply", "not here", {1: 1, 2: 0}),
        ("reply", "busy", {1: 2, 2: 0}),
    ]
    refused: list[tuple[str, str, Any]] = [
        ("request", "a digest of 31 bytes", {1: bytes(31), 2: 0}),
        ("request", "an offset beyond any module", {1: RUNTIME, 2: 64 << 20}),
        ("request", "no offset", {1: RUNTIME}),
        ("request", "a third field", {1: RUNTIME, 2: 0, 3: 0}),
        ("reply", "an unknown status", {1: 3, 2: 0}),
        ("reply", "more than any module", {1: 0, 2: (64 << 20) + 1}),
        ("reply", "nothing that follows", {1: 0, 2: 0}),
        ("reply", "busy, with bytes", {1: 2, 2: 1}),
        ("reply", "no map", [0, 1]),
    ]
    return {
        "accepted": [{"kind": k, "name": n, "message": cbor(m).hex()} for k, n, m in accepted],
        "refused": [{"kind": k, "why": w, "message": cbor(m).hex()} for k, w, m in refused],
    }


def seal(output: bytes) -> bytes:
    """An output sealed, §2.1, with everything that is random chosen: the key, its box, the header.

    A box that is sealed is an ephemeral public key and a `crypto_box` from it. A stream that is
    pushed begins in the same state as one that is pulled with the same header.
    """
    ephemeral = PrivateKey(bytes(range(64, 96)))
    public = PrivateKey(SECRET).public_key
    parts = bytes(ephemeral.public_key), bytes(public)
    nonce = hashlib.blake2b(b"".join(parts), digest_size=24).digest()
    box = parts[0] + Box(ephemeral, public).encrypt(STREAM_KEY, nonce).ciphertext
    state = bindings.crypto_secretstream_xchacha20poly1305_state()
    header = bytes(range(24))
    bindings.crypto_secretstream_xchacha20poly1305_init_pull(state, header, STREAM_KEY)
    chunks = [output[at : at + 65_536] for at in range(0, max(len(output), 1), 65_536)]
    tags = [0] * (len(chunks) - 1) + [3]
    sealed = [
        bindings.crypto_secretstream_xchacha20poly1305_push(state, chunk, None, tag)
        for chunk, tag in zip(chunks, tags, strict=True)
    ]
    return box + header + b"".join(sealed)


def sealed() -> list[dict[str, Any]]:
    """Outputs and how they are sealed; large ones by how often a byte comes and by a hash."""
    found = []
    for stdout, stderr in ((0, 0), (3, 0), (0, 2), (65_536, 0), (65_536, 1), (100_000, 31_072)):
        data = seal(b"o" * stdout + b"e" * stderr)
        small = {"sealed": data.hex()} if len(data) < 1000 else {}
        digest = hashlib.sha256(data).hexdigest()
        lengths = {"stdout": stdout, "stderr": stderr, "length": len(data)}
        found.append({**lengths, "sha256": digest, **small})
    return found


def vectors() -> dict[str, Any]:
    """The file's content."""
    return {
        "section": "spec/08 §1, §2, §2.1, §8",
        "accepted": {
            side: [{"name": name, "message": cbor(message).hex()} for name, message in messages]
            for side, messages in accepted().items()
        },
        "refused": {
            side: [{"why": why, "message": message.hex()} for why, message in messages]
            for side, messages in refused().items()
        },
        "transfer": transfer(),
        "sealing": {
            "secret": SECRET.hex(),
            "key": STREAM_KEY.hex(),
            "public": bytes(PrivateKey(SECRET).public_key).hex(),
            "outputs": sealed(),
        },
        "session": [{"from": side, "frame": data.hex()} for side, data in session()],
    }


if __name__ == "__main__":
    (VECTORS / "08-jobs.json").write_text(json.dumps(vectors(), indent=1) + "\n")
