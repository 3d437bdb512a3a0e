"""What a JavaScript file finds: the language, and the host that comes with this project."""

import math
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fogbank.sandbox.data import whole
from fogbank.sandbox.engine import make_engine
from fogbank.sandbox.limits import Limits
from fogbank.sandbox.module_check import compile_module
from fogbank.sandbox.outcome import Outcome, Result
from fogbank.sandbox.runner import Runner
from fogbank.sandbox.task import Task
from tests.toolchains import runtime_module

Run = Callable[..., Result]
DEEP = {
    "a function": "function f() { return f() + 1 } f()",
    "a method of arrays": "[1].map(function f(x) { return [x].map(f) })",
    "a getter": "new (class { get x() { return this.x } })().x",
    "a conversion": "let o = { valueOf() { return +this } }; +o",
    "a constructor": "class A { constructor() { new A() } } new A()",
    "a replacement": 'function f() { return "a".replace("a", f) } f()',
    "a proxy": "let p = {}; for (let i = 0; i < 1e5; i++) p = new Proxy(p, {}); p.x",
}


@pytest.fixture(scope="module")
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a script as a task does."""
    engine = make_engine()
    runner = Runner(engine)
    runner.load(compile_module(engine, runtime_module("javascript", request)))

    def run_script(
        script: str,
        *args: str,
        stdin: bytes = b"",
        memory: int = 64 << 20,
        seed: bytes = bytes(32),
        **files: str,
    ) -> Result:
        given_files = [("main.js", script), *((f"{name}.js", text) for name, text in files.items())]
        return runner.run(
            Task(
                args=("job.js", *args),
                files=tuple((name, text.encode()) for name, text in given_files),
                stdin=stdin,
                limits=Limits(memory=memory),
                seed=seed,
            )
        )

    return run_script


def output(result: Result) -> str:
    assert result.succeeded, (result.reason, result.stderr)
    assert result.stderr == b""
    return whole(result.stdout).decode()


def test_a_script_finds_its_arguments_and_input(run: Run) -> None:
    script = """
        console.log(scriptArgs.join("|"), globalThis === this);
        print(std.in.getline(), std.in.getByte(), std.in.readAsString(2), std.in.readAsString());
        print(std.in.getline(), std.in.eof(), std.in.readAsString() === "");
        console.error("to", "stderr");
    """
    result = run(script, "a b", "ü", stdin="one é\n\0öz\nlast".encode())
    assert whole(result.stdout).decode() == "job.js|a b|ü true\none é 0 ö z\nlast\nnull true true\n"
    assert (result.stderr, result.exit_code) == (b"to stderr\n", 0)


def test_files_are_read_and_written_in_text_and_bytes(run: Run) -> None:
    script = """
        const f = std.open("x.bin", "w+");
        print(f.write(new Uint8Array([9, 1, 2, 255]).subarray(1)), f.seek(0, std.SEEK_SET));
        const bytes = new Uint8Array(4);
        print(f.read(bytes, 1, 3), f.read(bytes.buffer), f.eof(), f.tell(), bytes);
        f.putByte(65); f.puts("b", "ü"); f.seek(-3, std.SEEK_END); f.flush();
        print(f.readAsString(), f.close());
        print(std.loadFile("x.bin").length, std.loadFile("none"), std.open("none"));
        for (const wrong of [() => f.tell(), () => std.in.read([1]), () => std.in.tell.call({}),
                             () => std.in.read(bytes, 3, 2), () => std.in.read(bytes, 9)])
            try { wrong(); print("nothing thrown") } catch (error) { print(error.name) }
    """
    assert output(run(script)).splitlines() == [
        "3 0",
        "3 0 true 3 0,1,2,255",
        "bü 0",
        "6 null null",
        *["TypeError"] * 3,
        *["RangeError"] * 2,
    ]


def test_modules_are_imported_from_the_tasks_files(run: Run) -> None:
    script = """// comes first
        import { area } from "./shapes.js";
        import * as std from "std";
        std.out.puts(area(3) + "\\n");
    """
    assert output(run(script, shapes="export const area = r => r * r;")) == "9\n"
    absent = run(script)
    assert absent.exit_code == 1
    assert b"there is no module shapes.js: give it with --file" in whole(absent.stderr)
    broken = run(script, shapes="export const\n= 1;")
    assert b"SyntaxError" in whole(broken.stderr)
    assert b"shapes.js:2" in whole(broken.stderr)


def test_what_is_not_caught_is_told_with_its_line(run: Run) -> None:
    for script, words in {
        "print(1);\nlet b = ;": b"job.js:2",
        'print(1);\nfunction f(x) {\n  throw new TypeError("bad " + x);\n}\nf(2);': b"job.js:3",
        'Promise.reject(new RangeError("bad"));\nprint(1);': b"a promise was rejected, and nothing",
        "setTimeout(() => { throw new Error('late') }, 5);": b"Error: late",
        "throw null;": b"null",
    }.items():
        result = run(script)
        assert (result.outcome, result.exit_code) == (Outcome.COMPLETED, 1)
        assert words in whole(result.stderr)
    handled = "const p = Promise.reject(1); p.catch(() => print('handled'))"
    assert output(run(handled)) == "handled\n"


def test_a_script_ends_with_the_code_that_it_gives(run: Run) -> None:
    for code in (0, 7, 255):
        result = run(f"std.out.puts('said'); std.exit({code}); print('not reached')")
        assert (result.exit_code, result.stdout) == (code, b"said")


def test_timers_run_in_order_and_cost_no_time(run: Run) -> None:
    script = """
        const began = Date.now(), said = [];
        setTimeout((a, b) => print(said.join(), a + b, Date.now() - began >= 36e5), 36e5, 1, 2);
        let ticks = 0;
        const every = setInterval(() => {
            said.push(++ticks);
            if (ticks == 3) clearInterval(every);
        }, 9);
        clearTimeout(setTimeout(() => said.push("never"), 10));
        setTimeout(() => said.push("b"), 20); setTimeout(() => said.push("a"), 15);
        Promise.resolve().then(() => said.push("job"));
        (async () => { await new Promise(go => setTimeout(go, 0)); said.push("first") })();
    """
    assert output(run(script)) == "job,first,1,a,2,b,3 3 true\n"


def test_randomness_follows_the_seed(run: Run) -> None:
    script = "for (let i = 0; i < 2000; i++) print(Math.random())"
    one, again, other = (output(run(script, seed=bytes([seed] * 32))) for seed in (1, 1, 2))
    assert one == again != other
    numbers = [float(line) for line in one.split()]
    assert all(0 <= number < 1 for number in numbers)
    assert math.isclose(sum(numbers) / len(numbers), 0.5, abs_tol=0.03)
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("script", DEEP.values(), ids=DEEP.keys())
def test_too_deep_a_recursion_can_be_caught(run: Run, script: str) -> None:
    caught = run(f"try {{ {script} }} catch (error) {{ print(error) }}", memory=128 << 20)
    assert output(caught) == "InternalError: stack overflow\n"


def test_eight_hundred_calls_are_not_too_deep(run: Run) -> None:
    assert output(run("const f = n => n ? 1 + f(n - 1) : 0; print(f(800))")) == "800\n"


def test_memory_that_is_used_up_is_told(run: Run) -> None:
    result = run("let a = []; for (;;) a.push(new Array(1000).fill(1))")
    assert result.outcome is Outcome.OUT_OF_MEMORY


@given(st.floats(-1e6, 1e6), st.integers(0, 12), st.integers(1, 12))
def test_numbers_are_rounded_as_the_language_says(
    run: Run, number: float, places: int, digits: int
) -> None:
    """Half away from zero, by the exact value, which Decimal has."""
    halves = [number, math.floor(number) + 0.5, math.floor(number * 8) / 8]
    script = f"for (const x of {halves}) print(x.toFixed({places}), x.toExponential({digits - 1}))"
    for value, line in zip(halves, output(run(script)).splitlines(), strict=True):
        fixed, exponential = line.split()
        exact = Decimal(value)
        assert Decimal(fixed) == exact.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
        if value:
            last = exact.adjusted() - digits + 1
            assert Decimal(exponential) == exact.quantize(Decimal(1).scaleb(last), ROUND_HALF_UP)
