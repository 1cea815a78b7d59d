"""What runs a Dask program: it ends with the program, and the program with what it needs. Tried without Dask."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.waiting import wait_until

FILE = Path(__file__).resolve().parents[2] / "images" / "dask" / "dask_job.py"
FOREVER = [sys.executable, "-c", "import time; time.sleep(60)"]

Started = list["subprocess.Popen[bytes]"]


@pytest.fixture(scope="module")
def job() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dask_job", FILE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def beside(job: ModuleType) -> Iterator[Started]:
    processes = [job.start(FOREVER)]
    yield processes
    job.end(processes)


def run(job: ModuleType, program: str, beside: Started) -> int:
    code = job.wait(job.start([sys.executable, "-c", program]), beside)
    assert isinstance(code, int)
    return code


@pytest.mark.parametrize(
    ("code", "expected"), [("pass", 0), ("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 15)", 143)]
)
def test_the_exit_code_is_the_programs(job: ModuleType, beside: Started, code: str, expected: int) -> None:
    assert run(job, code, beside) == expected


def test_a_program_whose_scheduler_has_ended_is_ended(
    job: ModuleType, beside: Started, capfd: pytest.CaptureFixture[str]
) -> None:
    beside[0].kill()
    began = time.monotonic()
    assert run(job, "import time; time.sleep(60)", beside) == 1
    assert time.monotonic() - began < 30
    assert "has ended with -9; ending the program" in capfd.readouterr().err


def test_what_is_ended_is_ended_with_all_that_it_started(job: ModuleType) -> None:
    code = f"import subprocess; child = subprocess.Popen({FOREVER!r}); print(child.pid, flush=True); child.wait()"
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
    assert process.stdout
    child = int(process.stdout.readline())
    job.end([process])
    assert process.returncode == -signal.SIGKILL

    def has_ended() -> bool:
        try:
            return Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    wait_until(has_ended, 10, f"process {child} has ended", look=0.01)
