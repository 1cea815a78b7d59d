"""Runs a program with a Dask scheduler beside it, and ends them together.

    dask_job.py --host ADDRESS --workers N --threads N --memory-mib N -- PROGRAM [ARGUMENT …]

The program finds the scheduler by itself: `distributed.Client()` without arguments. The exit code is the program's.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time

PORT = 8786
_LOOK_SECONDS = 0.2


def main() -> int:
    """Start scheduler and workers, run the program to its end; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", required=True, help="where the scheduler listens")
    parser.add_argument("--workers", type=int, required=True, help="worker processes in this pod")
    parser.add_argument("--threads", type=int, required=True, help="of each worker")
    parser.add_argument("--memory-mib", type=int, required=True, help="of each worker")
    parser.add_argument("program", nargs="+")
    given = parser.parse_args()

    address = f"tcp://{given.host}:{PORT}"
    os.environ["DASK_SCHEDULER_ADDRESS"] = address
    dask = [sys.executable, "-m", "dask"]
    beside = [start([*dask, "scheduler", "--host", given.host, "--port", str(PORT), "--no-dashboard"])]
    if given.workers:
        size = ["--nworkers", str(given.workers), "--nthreads", str(given.threads)]
        memory = ["--memory-limit", f"{given.memory_mib}MiB"]
        beside.append(start([*dask, "worker", address, *size, *memory, "--no-dashboard"]))
    program = start([sys.executable, *given.program])
    signal.signal(signal.SIGTERM, lambda *_: program.terminate())
    try:
        return wait(program, beside)
    finally:
        end(beside)


def start(command: list[str]) -> subprocess.Popen[bytes]:
    """Start a process whose group is its own."""
    return subprocess.Popen(command, start_new_session=True)


def wait(program: subprocess.Popen[bytes], beside: list[subprocess.Popen[bytes]]) -> int:
    """The program's exit code, as a shell gives it; it is ended where what it needs has ended before it."""
    while program.poll() is None:
        for each in beside:
            if each.poll() is not None:
                print(
                    f"Dask's process {each.args} has ended with {each.returncode}; ending the program", file=sys.stderr
                )
                end([program])
                return 1
        time.sleep(_LOOK_SECONDS)
    return program.returncode if program.returncode >= 0 else 128 - program.returncode


def end(processes: list[subprocess.Popen[bytes]]) -> None:
    """End them with all that they started, at once: what they hold is in the program's results, or of no use."""
    for each in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(each.pid, signal.SIGKILL)
        each.wait()


if __name__ == "__main__":
    sys.exit(main())
