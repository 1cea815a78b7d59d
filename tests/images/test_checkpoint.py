"""A job that loses its machine goes on where it was: real processes and signals, states in a folder of this machine."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
JOBS = ROOT / "dags" / "jobs"
UNITS = 60

WORK = f"""\
import sys, time
import checkpoint
from pathlib import Path
checkpoint.PID_FILE = Path(sys.argv[1])
with checkpoint.resumable({{"done": 0, "sum": 0}}) as work:
    for unit in range(work.state["done"], {UNITS}):
        time.sleep(0.02)
        done = work.state
        work.state = {{"done": unit + 1, "sum": done["sum"] + unit}}
        print("done", unit + 1, flush=True)
    print("sum", work.state["sum"], flush=True)
"""


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """A program that has checkpoints in a folder, as the image's entry point starts it or by itself."""

    def run(program: str = WORK, *through: str) -> subprocess.Popen[str]:
        environment = os.environ | {"PYTHONPATH": str(JOBS), "TIDEPOOL_CHECKPOINT": f"file://{tmp_path}/lake/d/t/r"}
        return subprocess.Popen(
            [*through, sys.executable, "-c", program, str(tmp_path / "pid")],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )

    return run


def lines(process: subprocess.Popen[str], until: str = "") -> list[str]:
    """What it prints up to a line, else to its end."""
    assert process.stdout
    found = []
    for line in process.stdout:
        found.append(line.strip())
        if until and line.startswith(until):
            break
    return found


def done(printed: list[str]) -> int:
    return max((int(line.split()[1]) for line in printed if line.startswith("done ")), default=0)


def saved(folder: Path) -> list[Path]:
    return sorted((folder / "lake").rglob("state-*.json"))


@pytest.mark.parametrize("seed", range(4))
def test_no_finished_work_is_lost_whenever_the_program_is_told_to_stop(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path, seed: int
) -> None:
    chance, finished, repeated = random.Random(seed), 0, 0  # noqa: S311 - a repeatable one is wanted
    for _ in range(2):
        process = start()
        before = lines(process, f"done {min(UNITS - 1, finished + chance.randint(1, UNITS // 3))}")
        time.sleep(chance.random() * 0.02)
        process.send_signal(signal.SIGTERM)
        printed = before + lines(process)
        assert process.wait(10) == 143
        first = min(int(line.split()[1]) for line in printed if line.startswith("done "))
        repeated += finished + 1 - first
        finished = done(printed)
    process = start()
    printed = lines(process)
    assert process.wait(10) == 0
    assert printed[-1] == f"sum {sum(range(UNITS))}", "each unit counted once"
    repeated += finished + 1 - min(int(line.split()[1]) for line in printed if line.startswith("done "))
    assert repeated <= 2, "at most the unit that was being said to be done"
    assert saved(tmp_path) == [], "what has succeeded is not gone on with when its task is cleared"


def test_a_program_deep_in_other_code_is_not_waited_for(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """Nothing of Python's main thread runs meanwhile, as in a call of Spark or NumPy: no signal ends the wait."""
    twice = "[ctypes.CDLL(None).pthread_mutex_lock(mutex) for _ in range(2)]"  # by the one who has it: for ever
    stuck = f"import ctypes; mutex = ctypes.create_string_buffer(64); {twice}"
    busy = WORK.replace('print("sum"', f'{stuck}; print("sum"')
    process = start(busy)
    lines(process, f"done {UNITS}")
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 143
    assert time.monotonic() - began < 10
    assert max(json.loads(file.read_text())["state"]["done"] for file in saved(tmp_path)) == UNITS


def test_what_is_done_while_the_state_is_being_saved_is_saved_too(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """A lake takes its time, and the program goes on meanwhile."""
    slow = """
class Slow(checkpoint.LocalFiles):
    def write(self, uri, data):
        time.sleep(0.2)
        super().write(uri, data)
checkpoint.LocalFiles = Slow
with"""
    process = start(WORK.replace("\nwith", slow, 1))
    before = lines(process, "done 7")
    process.send_signal(signal.SIGTERM)
    finished = done(before + lines(process))
    assert process.wait(10) == 143
    states = [json.loads(file.read_text()) for file in saved(tmp_path)]
    assert max(states, key=lambda each: int(each["number"]))["state"]["done"] >= finished


def test_a_program_that_fails_keeps_what_it_has_done(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = start(WORK.replace("time.sleep(0.02)", "assert unit < 7 or work.is_resumed"))
    assert done(lines(process)) == 7
    assert process.wait(10) == 1
    again = start()
    assert lines(again, "done")[-1] == "done 8"
    again.kill()
    again.wait(10)


def test_a_state_that_its_machine_left_half_written_is_passed_over(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    program = WORK.replace('resumable({"done": 0, "sum": 0})', 'resumable({"done": 0, "sum": 0}, every=0.0)')
    process = start(program)
    lines(process, "done 20")
    process.kill()
    process.wait(10)
    newest = max(saved(tmp_path), key=lambda file: file.stat().st_mtime_ns)
    newest.write_bytes(newest.read_bytes()[:10])
    again = start(program)
    assert 18 <= done(lines(again, "done")) <= 21
    again.kill()
    again.wait(10)


def test_without_a_lake_a_program_runs_as_if_there_were_no_checkpoints(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "TIDEPOOL_CHECKPOINT"}
    run = subprocess.run(
        [sys.executable, "-c", WORK, str(tmp_path / "pid")],
        env=environment | {"PYTHONPATH": str(JOBS)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert run.stdout.splitlines()[-1] == f"sum {sum(range(UNITS))}"


ENTRY = ROOT / "images" / "spark" / "bin" / "job"


@pytest.mark.parametrize("image", ["spark", "h2o"])
def test_the_images_with_a_jvm_start_programs_by_what_hands_them_the_signal(image: str) -> None:
    dockerfile = (ROOT / "images" / image / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["/usr/bin/tini", "--", "job"]' in dockerfile
    copies = [line.split() for line in dockerfile.splitlines() if line.startswith("COPY --chmod=755 images/spark/bin/")]
    assert [each[-1] for each in copies] == ["/usr/local/bin/"]


@pytest.fixture
def entry(tmp_path: Path) -> str:
    """The image's entry point, with the file for the process id in a folder of the test's."""
    script = tmp_path / "job"
    script.write_text(ENTRY.read_text().replace("/tmp/checkpoint.pid", str(tmp_path / "pid")))  # noqa: S108
    script.chmod(0o755)
    return str(script)


JVM = """\
import signal, subprocess, sys
def die(*_):
    raise SystemExit("the JVM was told to stop")
signal.signal(signal.SIGTERM, die)
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]])
sys.exit(child.wait())
"""


def test_only_the_program_with_checkpoints_hears_of_the_stop_and_not_the_jvm_above_it(
    tmp_path: Path, entry: str
) -> None:
    environment = os.environ | {"PYTHONPATH": str(JOBS), "TIDEPOOL_CHECKPOINT": f"file://{tmp_path}/lake/d/t/r"}
    process = subprocess.Popen(
        [entry, sys.executable, "-c", JVM, WORK, str(tmp_path / "pid")],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines(process, "done 5")
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 143
    assert process.stderr
    assert "the JVM was told" not in process.stderr.read()
    assert saved(tmp_path)


@pytest.mark.parametrize(
    ("program", "code"),
    [("pass", 0), ("raise SystemExit(52)", 52), ("import os; os.kill(os.getpid(), 9)", 137)],
)
def test_the_exit_code_is_the_programs(
    start: Callable[..., subprocess.Popen[str]], entry: str, program: str, code: int
) -> None:
    assert start(program, entry).wait(10) == code


def test_a_program_without_checkpoints_is_told_itself_and_may_take_its_time(
    start: Callable[..., subprocess.Popen[str]], entry: str
) -> None:
    program = """\
import signal, sys, time
def stop(*_):
    time.sleep(0.3)
    sys.exit(7)
signal.signal(signal.SIGTERM, stop)
print("up", flush=True)
time.sleep(60)
"""
    process = start(program, entry)
    lines(process, "up")
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 7
