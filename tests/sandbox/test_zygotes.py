"""Runtimes that start by fork: scripts end as they should, and share nothing (spec/07 §1.1, §8)."""

import os
import signal
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import trio

from fogbank.sandbox.data import whole
from fogbank.sandbox.limits import Limits, SandboxConfig
from fogbank.sandbox.meter import Reading
from fogbank.sandbox.outcome import Outcome, Result
from fogbank.sandbox.pool_shell import QUICK_SIZE, Job, Sandbox, open_sandbox
from fogbank.sandbox.process_shell import Starter
from fogbank.sandbox.runtimes.catalogue import CATALOGUE
from fogbank.sandbox.runtimes.store_shell import RuntimeStore
from fogbank.sandbox.supply_shell import Supply
from fogbank.sandbox.task import Task
from tests.sandbox import programs
from tests.toolchains import runtime_store

PYTHON, JAVASCRIPT = (
    next(spec for spec in CATALOGUE if spec.name == name) for name in ("python", "javascript")
)
CONFIG = SandboxConfig(processes=2, spares=1)
LIMITS = Limits(fuel=10**10, memory=64 << 20, wall_seconds=60.0, output=1 << 20)
ENDLESS = "while True: pass"
TRACE = "Traceback (most recent call last):\n"
COUNTED = "for n in range(10**6): pass\nprint('counted')"


@pytest.fixture(scope="module")
def store(request: pytest.FixtureRequest) -> RuntimeStore:
    return runtime_store(request, "python", "javascript")


@pytest.fixture
async def sandbox(store: RuntimeStore) -> AsyncIterator[Sandbox]:
    async with open_sandbox(CONFIG, store) as opened:
        yield opened


@pytest.fixture
async def job(sandbox: Sandbox) -> AsyncIterator[Job]:
    async with sandbox.open_job(PYTHON.id) as opened:
        yield opened


def script(text: str, *args: str, stdin: bytes = b"", **files: bytes) -> Task:
    named = tuple((name.replace("_", "."), data) for name, data in files.items())
    return Task(
        args=("job.py", *args),
        files=(("main.py", text.encode()), *named),
        stdin=stdin,
        limits=LIMITS,
    )


def children(pid: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def zygote(sandbox: Sandbox) -> int:
    """The process that the runtime was started in: the only one that has children itself."""
    outer = (await cast(Starter, sandbox._jobs._starter).launcher())._process.pid
    (inner,) = children(outer)
    with trio.fail_after(20):
        while not (found := [pid for pid in children(inner) if children(pid)]):  # noqa: ASYNC110
            await trio.sleep(0.001)
    (pid,) = found
    return pid


async def killed(pid: int) -> None:
    """Kill a zygote, and wait until it and all that it forked are gone."""
    watched = [os.pidfd_open(each) for each in (pid, *children(pid))]
    os.kill(pid, signal.SIGKILL)
    with trio.fail_after(20):
        for pidfd in watched:
            await trio.lowlevel.wait_readable(pidfd)
            os.close(pidfd)


ENDINGS = {
    "print(1)": (0, "1\n", ""),
    "import sys; sys.exit(7)": (7, "", ""),
    "import sys; sys.exit('so it ends')": (1, "", "so it ends\n"),
    "import sys; sys.exit()": (0, "", ""),
    "raise SystemExit(-1)": (0xFFFF_FFFF, "", ""),
    "exit(3)": (3, "", ""),
    "import os; os._exit(9)": (9, "", ""),
    "1 / 0": (
        1,
        "",
        TRACE + '  File "job.py", line 1, in <module>\n    1 / 0\n    ~~^~~\n'
        "ZeroDivisionError: division by zero\n",
    ),
    "def f(:": (
        1,
        "",
        '  File "job.py", line 1\n    def f(:\n          ^\nSyntaxError: invalid syntax\n',
    ),
    "import sys; print(sys.argv, __name__, __file__)": (
        0,
        "['job.py', 'a b', 'ü'] __main__ /main.py\n",
        "",
    ),
    "import sys; print(sys.stdin.read().upper(), end='')": (0, "ONE\nTWO\n", ""),
    "print(input(), input())": (0, "one two\n", ""),
    "print(open('data.csv').read(), open('/data.csv').read())": (0, "1,2 1,2\n", ""),
    "import os; print(sorted(os.listdir()))": (
        0,
        "['data.csv', 'helper.py', 'main.py', 'tmp']\n",
        "",
    ),
    "import helper; print(helper.answer)": (0, "42\n", ""),
    "import os; print(os.environ['KEY'], os.getenv('NO'))": (0, "a=b None\n", ""),
    "open('new', 'w').write('kept'); print(open('new').read())": (0, "kept\n", ""),
    "import tempfile; f = tempfile.TemporaryFile(); print(f.write(b'abc'))": (0, "3\n", ""),
    "import sys; sys.stdout.write('no newline')": (0, "no newline", ""),
    "out = open(1, 'w', closefd=False); out.write('left open')": (0, "left open", ""),
    "import atexit; atexit.register(print, 'last'); print('first')": (0, "first\nlast\n", ""),
    "import sys; sys.excepthook = lambda *e: print(e[0].__name__); [][0]": (1, "IndexError\n", ""),
    "import threading; threading.Thread(target=print).start()": None,
    "def f(n): return f(n + 1)\ntry: f(0)\nexcept RecursionError as e: print(e)": (
        0,
        "maximum recursion depth exceeded\n",
        "",
    ),
    "try: bytearray(1 << 30)\nexcept MemoryError: print('no memory')": (0, "no memory\n", ""),
    "import json, csv, sqlite3": None,
    "import decimal, statistics, hashlib; print(hashlib.sha256(b'').hexdigest()[:8])": (
        0,
        "e3b0c442\n",
        "",
    ),
    "import datetime; print(datetime.datetime.now().year)": (0, "2025\n", ""),
    "class A:\n def __del__(self): print('gone')\na = A()": (0, "gone\n", ""),
}
"""Scripts, and their exit codes and outputs; None where it is enough that they end."""


async def test_scripts_end_as_python_ends_them(job: Job) -> None:
    for text, expected in ENDINGS.items():
        task = script(
            text, "a b", "ü", stdin=b"one\ntwo\n", data_csv=b"1,2", helper_py=b"answer = 42"
        )
        result = await job.run(replace(task, env=(("KEY", "a=b"),)))
        assert result.outcome is Outcome.COMPLETED, (text, result)
        if expected is not None:
            found = (result.exit_code, whole(result.stdout).decode(), whole(result.stderr).decode())
            assert found == expected, text


@pytest.mark.parametrize(
    ("text", "limits", "outcome"),
    [
        (ENDLESS, {"fuel": 10**8}, Outcome.OUT_OF_FUEL),
        (ENDLESS, {"fuel": 10**13, "wall_seconds": 0.5}, Outcome.TIMEOUT),
        ("while True: print('x' * 1000)", {"output": 5000}, Outcome.OUTPUT_LIMIT),
        ("a = []\nwhile True: a.append(bytes(1 << 16))", {}, Outcome.OUT_OF_MEMORY),
        ("import os; os.abort()", {}, Outcome.TRAP),
        ("print(1)", {"memory": 1 << 20}, Outcome.OUT_OF_MEMORY),
        ("print(1)", {"fuel": 1}, Outcome.OUT_OF_FUEL),
    ],
)
async def test_limits_hold_and_the_next_task_is_well(
    job: Job, text: str, limits: dict[str, int], outcome: Outcome
) -> None:
    result = await job.run(replace(script(text), limits=replace(LIMITS, **limits)))
    assert result.outcome is outcome, result
    assert (await job.run(script("print(1)"))).stdout == b"1\n"


async def test_a_bottomless_recursion_is_an_outcome_of_the_script(job: Job) -> None:
    text = "import sys\nsys.setrecursionlimit(10**9)\ndef f(): f()\nf()"
    result = await job.run(replace(script(text), limits=replace(LIMITS, memory=20 << 20)))
    assert result.outcome is Outcome.OUT_OF_MEMORY, result
    assert (await job.run(script("print(1)"))).succeeded


KINDS = (
    script("print(1)"),
    script("import random, os, time; print(random.random(), os.urandom(4), time.time())"),
    script("raise ValueError('mixed')"),
    script("import sys; sys.exit(int(sys.stdin.read()))", stdin=b"5"),
    script("import os; os.abort()"),
    replace(script(ENDLESS), limits=replace(LIMITS, fuel=10**7)),
    script("a = []\nwhile True: a.append(bytes(1 << 20))"),
    script("import re, collections; print(collections.Counter(re.findall('.', 'abca')))"),
)


async def test_many_tasks_on_two_zygotes_count_alike(sandbox: Sandbox) -> None:
    """A hundred of mixed kinds, in two jobs at once; then as many on another zygote."""
    found: defaultdict[int, set[Result]] = defaultdict(set)

    async def run(kinds: range) -> None:
        async with sandbox.open_job(PYTHON.id) as job:
            for at in kinds:
                kind = at % len(KINDS)
                result = await job.run(KINDS[kind])
                found[kind].add(replace(result, seconds=0.0))

    for _ in range(2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, range(25))
            nursery.start_soon(run, range(25, 50))
        await killed(await zygote(sandbox))
    assert [len(results) for results in found.values()] == [1] * len(KINDS)
    assert len({result.fuel for results in found.values() for result in results}) == len(KINDS)


async def test_randomness_follows_the_seed_alone(job: Job) -> None:
    task = script("import random, uuid, os; print(random.random(), uuid.uuid4(), os.urandom(8))")
    one = (await job.run(task)).stdout
    assert (await job.run(task)).stdout == one
    other = (await job.run(replace(task, seed=bytes([1] * 32)))).stdout
    assert set(whole(one).split()).isdisjoint(whole(other).split())


async def test_a_task_leaves_nothing_to_the_next(sandbox: Sandbox) -> None:
    secret = "a word that nobody else knows"
    leaving = script(
        f"import sys, os, json\njson.left = sys.left = {secret!r}\n"
        "open('/tmp/left', 'w').write(sys.left)\n"
        "os.environ['LEFT'] = sys.argv[1] = sys.left; print(sys.stdin.read())",
        secret,
        stdin=secret.encode(),
    )
    looking = script(
        "import sys, os, gc, json\nassert not hasattr(sys, 'left') and not hasattr(json, 'left')\n"
        "assert os.listdir('/tmp') == [] and 'LEFT' not in os.environ and sys.stdin.read() == ''\n"
        "words = 'nobody else'\n"
        "found = [o for o in gc.get_objects() if o is not globals() and words in str(o)[:200]]\n"
        "print(len(sys.argv), len(found))"
    )
    async with sandbox.open_job(PYTHON.id) as job:
        for _ in range(3):
            assert secret.encode() in whole((await job.run(leaving)).stdout)
        result = await job.run(looking)
        # The script's own text holds the words too: in its code alone.
        assert whole(result.stdout).startswith(b"1 "), result
        alone = result.stdout
    await killed(await zygote(sandbox))
    async with sandbox.open_job(PYTHON.id) as job:
        assert (await job.run(looking)).stdout == alone
        assert (await job.run(leaving)).succeeded
        if os.geteuid() == 0:
            assert secret.encode() not in memory_of(await zygote(sandbox))


def memory_of(pid: int) -> bytes:
    """All that a process can write."""
    found = bytearray()
    with Path(f"/proc/{pid}/mem").open("rb") as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            where, rights, *rest = line.split()
            start, end = (int(at, 16) for at in where.split("-"))
            if rights.startswith("rw") and "[v" not in rest[-1]:
                memory.seek(start)
                found += memory.read(end - start)
    return bytes(found)


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def descriptors(pid: int) -> list[str]:
    return [entry.name for entry in Path(f"/proc/{pid}/fd").iterdir()]


def rlimits(pid: int) -> str:
    return Path(f"/proc/{pid}/limits").read_text()


async def check_jail(pid: int) -> None:
    # It was forked a moment ago, and binds itself in its own time, before it reads anything.
    with trio.fail_after(20):
        while (found := status(pid))["Seccomp"] != "2":  # noqa: ASYNC110 -- no event tells
            await trio.sleep(0.001)
    assert (found["NoNewPrivs"], found["Threads"]) == ("1", "1")
    assert found["Uid"].split()[0] != "0"
    assert all(int(found[name], 16) == 0 for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"))
    assert descriptors(pid) == ["0"]
    limits = rlimits(pid)
    for name in ("Max processes", "Max open files", "Max file size"):
        assert f"{name:25} 0" in limits


async def test_the_kernel_says_that_each_task_is_jailed_in_a_process_of_its_own(
    sandbox: Sandbox,
) -> None:
    async with sandbox.open_job(PYTHON.id) as job:
        await job.run(script("print(1)"))
        parent = await zygote(sandbox)
        before = set(children(parent))
        assert before
        for pid in before:
            await check_jail(pid)
        # Each task takes one that waited, and another takes its place.
        await job.run(script("print(1)"))
        await job.run(script("print(1)"))
        assert before.isdisjoint(children(parent))


@pytest.mark.parametrize("victim", ["task", "zygote", "launcher"])
async def test_tasks_and_zygotes_that_are_killed_are_replaced(
    sandbox: Sandbox, job: Job, victim: str
) -> None:
    fuel = (await job.run(script(COUNTED))).fuel
    results: list[Result] = []
    heard = trio.Event()

    def hear(reading: Reading) -> None:
        if reading.is_paused:
            heard.set()

    async def run() -> None:
        results.append(await job.run(script(ENDLESS), Supply(10**9, hear)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await heard.wait()
        parent = await zygote(sandbox)
        # The oldest is the one that runs; it waits where its granted fuel ended. The kernel lists
        # children by age; their numbers begin anew now and then.
        victims = {"task": children(parent)[0], "zygote": parent, "launcher": parent_of(parent)}
        os.kill(victims[victim], signal.SIGKILL)
        # At once, not when the patience for a grant is at its end.
        nursery.cancel_scope.deadline = trio.current_time() + CONFIG.pause_seconds / 10
    assert results[0].outcome is Outcome.HOST_FAILURE
    result = await job.run(script(COUNTED))
    assert (result.stdout, result.fuel) == (b"counted\n", fuel)


async def test_a_script_pauses_where_its_granted_fuel_ends_and_goes_on(job: Job) -> None:
    whole = await job.run(script(COUNTED))
    readings: list[Reading] = []

    def hear(reading: Reading) -> None:
        readings.append(reading)
        if reading.is_paused:
            supply.grant(reading.fuel + whole.fuel // 4)

    supply = Supply(1000, hear)
    result = await job.run(script(COUNTED), supply)
    assert (result.stdout, result.fuel) == (b"counted\n", whole.fuel)
    assert [reading.fuel for reading in readings if reading.is_paused] == [
        1000 + n * (whole.fuel // 4) for n in range(4)
    ]


async def test_javascript_runs_from_the_same_cache(sandbox: Sandbox, store: RuntimeStore) -> None:
    task = Task(args=("job.js", "x"), files=(("main.js", b"print(scriptArgs)"),), limits=LIMITS)
    async with sandbox.open_job(JAVASCRIPT.id) as job:
        results = {replace(await job.run(task), seconds=0.0) for _ in range(2)}
    assert [result.stdout for result in results] == [b"job.js,x\n"]
    assert len(list((store.folder / "compiled").glob("*.code"))) <= 2


async def test_compiled_code_is_taken_from_the_cache_and_not_if_it_was_touched(
    store: RuntimeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = RuntimeStore(tmp_path / "runtimes")
    own.add(store.read(JAVASCRIPT.digest))
    compiled: list[int] = []
    compile_module = Sandbox._compile
    private = programs.padded(programs.HELLO, QUICK_SIZE)

    async def counting(self: Sandbox, module: bytes) -> bytes:
        compiled.append(len(module))
        return await compile_module(self, module)

    monkeypatch.setattr(Sandbox, "_compile", counting)
    task = Task(files=(("main.js", b"print(1)"),), limits=LIMITS)

    async def run() -> list[int]:
        async with open_sandbox(CONFIG, own) as sandbox:
            for _ in range(2):
                async with sandbox.open_job(JAVASCRIPT.id) as job:
                    assert (await job.run(task)).stdout == b"1\n"
            async with sandbox.open_job(private) as job:
                assert (await job.run(Task(limits=LIMITS))).succeeded
        return [size for size in compiled if size != len(private)]

    assert await run() == [JAVASCRIPT.size]
    assert await run() == [JAVASCRIPT.size]
    # A job's own module was compiled each time, and is not in the cache.
    assert compiled.count(len(private)) == 2
    (entry,) = (own.folder / "compiled").glob("*.code")
    data = bytearray(entry.read_bytes())
    data[len(data) // 2] ^= 1
    entry.write_bytes(data)
    assert await run() == [JAVASCRIPT.size] * 2
