"""The program with which Python starts: it waits for a script, and runs it as `python` would."""

BOOTSTRAP = '''
import atexit, collections, csv, datetime, functools, gc, io, itertools, json, linecache
import math, os, random, re, string, struct, sys, time, traceback, types

def take(count):
    taken = b""
    while len(taken) < count:
        part = os.read(0, count - len(taken))
        if not part:
            os._exit(70)
        taken += part
    return taken

def number(data):
    return int.from_bytes(data, "little")

def words(data):
    count = number(data.read(4))
    return [data.read(number(data.read(4))).decode() for _ in range(count)]

def end(module, code):
    atexit._run_exitfuncs()
    # What the script left open is flushed as it goes.
    module.__dict__.clear()
    for stream in (sys.stdout, sys.__stdout__, sys.stderr, sys.__stderr__):
        try:
            if stream is not None and not getattr(stream, "closed", False):
                stream.flush()
        except BaseException:
            code = code or 120
    os._exit(code)

def shown(kind, error, trace, file=None):
    traceback.print_exception(kind, error, trace, limit=-2000, file=file)

def told(error):
    """Say how the script ended, and return its exit code."""
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            code = error.code or 0
            return code if -1 << 31 <= code < 1 << 31 else -1
        print(error.code, file=sys.stderr)
        return 1
    trace = error.__traceback__.tb_next
    if sys.excepthook is sys.__excepthook__:
        shown(type(error), error, trace)
    else:
        sys.excepthook(type(error), error, trace)
    return 1

def main():
    data = io.BytesIO(take(number(take(4))))
    sys.argv[:] = words(data)
    sys.orig_argv[:] = ["python", *sys.argv]
    variables = words(data)
    os.environ.update(zip(variables[::2], variables[1::2]))
    sys.path[0] = "/"
    sys.path_importer_cache.pop("/", None)
    random.seed(number(os.urandom(32)))
    module = types.ModuleType("__main__")
    module.__file__ = "/main.py"
    module.__builtins__ = __builtins__
    sys.modules["__main__"] = module
    try:
        with open("/main.py", "rb") as file:
            source = file.read()
    except OSError as error:
        print(f"python: can't open the script main.py: {error.strerror}", file=sys.stderr)
        end(module, 2)
    code = 0
    try:
        # Shown by the name that people know; its lines are not looked up by that.
        text = io.TextIOWrapper(io.BytesIO(source), "utf-8", "replace").read()
        lines = [line + "\\n" for line in text.splitlines()]
        linecache.cache[sys.argv[0]] = (len(source), None, lines, sys.argv[0])
        exec(compile(source, sys.argv[0], "exec", dont_inherit=True), module.__dict__)
    except BaseException as error:
        code = told(error)
    end(module, code)

# The first time that something is compiled, or an error shown, costs more than others together.
try:
    exec(compile("1 / 0", "main.py", "exec"), {})
except ZeroDivisionError as error:
    linecache.cache["main.py"] = (5, None, ["1 / 0"], "main.py")
    shown(type(error), error, error.__traceback__, io.StringIO())
    linecache.clearcache()
gc.collect()
gc.freeze()
main()
'''
"""Everything before it reads is done once for all tasks, the modules that many use among it."""
