"""Runs one job as if the kernel lacked something; prints its output, or why there is no sandbox.

Run as a script with the name of what is lacking.
"""

import errno
import sys

import pyseccomp
import trio

from fogbank.sandbox.data import whole
from fogbank.sandbox.jail import SandboxUnavailable
from fogbank.sandbox.limits import SandboxConfig
from fogbank.sandbox.pool_shell import open_sandbox
from fogbank.sandbox.task import Task
from tests.sandbox import programs

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 22, 38
LACKS: dict[str, tuple[tuple[str, tuple[int, int, int] | None], ...]] = {
    "namespaces": (("unshare", None), ("mount", None), ("pivot_root", None)),
    "no_new_privs": (("prctl", (0, pyseccomp.EQ, PR_SET_NO_NEW_PRIVS)),),
    "seccomp": (("seccomp", None), ("prctl", (0, pyseccomp.EQ, PR_SET_SECCOMP))),
    "rlimits": (("prlimit64", (2, pyseccomp.NE, 0)), ("setrlimit", None)),
}


async def run() -> str:
    try:
        async with (
            open_sandbox(SandboxConfig(spares=0)) as sandbox,
            sandbox.open_job(programs.HELLO) as job,
        ):
            layers = " ".join(sandbox.report.active)
            return f"{whole((await job.run(Task())).stdout).decode()}{layers}"
    except SandboxUnavailable as error:
        return str(error)


def main() -> None:
    lacking = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    for name, condition in LACKS[sys.argv[1]]:
        arguments = () if condition is None else (pyseccomp.Arg(*condition),)
        lacking.add_rule(pyseccomp.ERRNO(errno.EPERM), name, *arguments)
    lacking.load()
    sys.stdout.write(trio.run(run))


if __name__ == "__main__":
    main()
