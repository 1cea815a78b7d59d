"""What runs Spark's master and worker beside a driver in one pod: the real script, with stand-ins for the servers."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.waiting import wait_until

BIN = Path(__file__).resolve().parents[2] / "images" / "spark" / "bin"

SPARK_CLASS = """\
#!/bin/bash
# Says what Spark's servers say. FAILS names one that ends at once, DIES one that ends when there is a file.
name=${1##*.}
echo "$name $*" >> "$HERE/started"
[ "$FAILS" != "$name" ] || { echo "no room for $name"; exit 7; }
case $name in
    Master) echo "INFO Master: I have been elected leader! New state: ALIVE" ;;
    Worker) grep -q Master "$HERE/started" || exit 9
            sleep 0.2; echo registered > "$HERE/registered"
            echo "INFO Worker: Successfully registered with master spark://127.0.0.1:7077" ;;
esac
until [ "$DIES" = "$name" ] && [ -e "$HERE/die" ]; do sleep 0.05; done
echo "$name is short of something"
exit 3
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Runs a shell command as the driver's. env: for the stand-ins."""
    path = tmp_path / "bin"
    path.mkdir()
    (path / "spark-class").write_text(SPARK_CLASS)
    (path / "spark-class").chmod(0o755)
    environment = os.environ | {"HERE": str(tmp_path), "SPARK_WORKER_DIR": str(tmp_path / "work")}
    environment |= {"PATH": f"{path}:{BIN}:{os.environ['PATH']}", "SPARK_WORKER_CORES": "2", "FAILS": "", "DIES": ""}
    running: list[subprocess.Popen[str]] = []

    def run(command: str, **env: str) -> subprocess.Popen[str]:
        line = [str(BIN / "standalone"), "bash", "-c", command]
        process = subprocess.Popen(
            line, env=environment | env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
        )
        running.append(process)
        return process

    yield run
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def told(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error, once it is over."""
    out, error = process.communicate(timeout=30)
    return process.returncode, out, error


def last(text: str) -> str:
    return text.splitlines()[-1]


def test_the_driver_starts_once_the_worker_is_registered_at_a_master_of_the_loopback(
    start: Start, tmp_path: Path
) -> None:
    code, out, _ = told(start('cat "$HERE/registered"; echo "$SPARK_LOCAL_IP"'))
    assert (code, out.split()) == (0, ["registered", "127.0.0.1"])
    started = (tmp_path / "started").read_text().splitlines()
    assert len(started) == 2
    assert all("--host 127.0.0.1" in line for line in started)


@pytest.mark.parametrize("code", [0, 3, 52, 137])
def test_the_exit_code_is_the_drivers(start: Start, code: int) -> None:
    command = "kill -KILL $$" if code == 137 else f"exit {code}"
    assert told(start(command))[0] == code


def test_nothing_runs_on_after_the_driver(start: Start) -> None:
    process = start("true")
    told(process)
    wait_until(lambda: not runs(process), 20, "nothing of its process group runs")


def runs(process: subprocess.Popen[str]) -> bool:
    """Whether anything of its process group does."""
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("server", ["Master", "Worker"])
def test_a_server_that_dies_ends_the_job_with_its_last_words(start: Start, server: str) -> None:
    code, _, error = told(start('touch "$HERE/die"; sleep 60', DIES=server))
    assert code == 1
    # Kubernetes keeps the end of the log, which is where people look.
    assert f"Spark's {server.lower()} in this pod has ended, and the job can't go on without it" in last(error)
    assert f"{server} is short of something" in error


@pytest.mark.parametrize("server", ["Master", "Worker"])
def test_a_server_that_does_not_come_up_ends_the_job_before_its_driver_starts(start: Start, server: str) -> None:
    code, out, error = told(start("echo driver", FAILS=server))
    assert (code, out) == (1, "")
    assert f"Spark's {server.lower()} in this pod did not come up" in last(error)
    assert f"no room for {server}" in error


def test_a_stop_is_the_drivers_to_answer_and_it_may_take_its_time(start: Start) -> None:
    process = start("trap 'sleep 0.3; echo saved; exit 143' TERM; echo up; while :; do sleep 0.05; done")
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    code, out, _ = told(process)
    assert (code, out) == (143, "saved\n")


def test_executors_print_into_the_jobs_log_and_one_after_another_that_fails_ends_it(start: Start) -> None:
    """The worker starts executors by the java of JAVA_HOME; here the driver does."""
    java = 'PATH="$HERE/fake:$PATH" "$SPARK_WORKER_DIR/java/bin/java"'
    fake = 'mkdir "$HERE/fake"; printf "#!/bin/sh\\necho executor \\$*" > "$HERE/fake/java"; chmod +x "$HERE/fake/java"'
    backend = "org.apache.spark.executor.CoarseGrainedExecutorBackend --driver-url x --executor-id"
    code, out, error = told(start(f"{fake}; {java} {backend} 1 > /dev/null; {java} -version > /dev/null"))
    assert (code, len(out.splitlines()), error) == (0, 1, "")
    assert out.rstrip().endswith("--executor-id 1")
    assert "-XX:OnOutOfMemoryError=echo %p >> " in out
    code, _, error = told(start(f"{java} {backend} 200; sleep 60"))
    assert code == 1
    assert "Spark starts executors over and over, and loses them" in error


@pytest.mark.parametrize(
    ("overflows", "code", "is_told"), [(4, 1, 52), (3, 1, 1), (0, 1, 1), (9, 0, 0), (4, 3, 3), (4, 143, 143)]
)
def test_a_job_that_fails_by_want_of_heap_says_so_by_sparks_own_exit_code(
    start: Start, overflows: int, code: int, is_told: int
) -> None:
    """A program that goes on after an overflow, or fails by itself, is not taken for one."""
    lines = f'for i in $(seq {overflows}); do echo "$i" >> "$SPARK_WORKER_DIR/out-of-memory"; done'
    found, _, error = told(start(f"{lines}; exit {code}"))
    assert found == is_told
    assert ("overflowed its heap" in error) == (is_told == 52)
