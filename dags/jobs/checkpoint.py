"""How a job that loses its machine goes on where it was. Lies beside the jobs that import it.

    with resumable({"day": 0}) as work:
        for day in range(work.state["day"], 31):
            ...
            work.state = {"day": day + 1}

The state is JSON, and small: what is done. It is saved when the job is told to stop (SIGTERM: its machine is reclaimed,
drained or its task cleared), when it fails, and every minute besides, for machines that go without a word. The next
attempt of the same task in the same run begins with it. What succeeds leaves none.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol
from urllib.error import HTTPError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import Request, urlopen

if TYPE_CHECKING:  # programs without Spark import this too
    from pyspark.sql import SparkSession

VARIABLE = "TIDEPOOL_CHECKPOINT"
"""The operator sets it: a folder of the lake that is this task's and run's alone."""

STOPPED = 143
"""The exit code of a program that SIGTERM ended: one that was stopped before it was done must not say 0."""

PID_FILE = Path("/tmp/checkpoint.pid")  # noqa: S108 - the pod's own; images/spark/bin/job reads it
WEBHDFS_PORT = 9870
USER = "spark"


class Files(Protocol):
    """Where states lie, by URI."""

    def read(self, uri: str) -> bytes | None:
        """What a file has; None where there is none."""

    def write(self, uri: str, data: bytes) -> None:
        """Write a file, over one that is there."""

    def remove(self, uri: str) -> None:
        """Remove a file, if it is there."""


class Work:
    """What is done so far: `state`. As a context manager it knows what earlier attempts did; made by `resumable`.

    is_resumed: there was something. Assign to `state` what is done: a stop finds either the one or the other.
    """

    def __init__(self, first: Any, files: Files | None, folder: str, every: float) -> None:
        self._files, self._folder, self._every = files, folder, every
        self._text = json.dumps(first)
        self._number = 0
        self._saved, self._saved_text = time.monotonic(), ""
        self._saving = threading.Lock()
        self._is_stopping = threading.Event()
        self.is_resumed = False

    @property
    def state(self) -> Any:
        """A copy of what was assigned last."""
        return json.loads(self._text)

    @state.setter
    def state(self, done: Any) -> None:
        self._text = json.dumps(done)
        if self._is_stopping.is_set():
            threading.Event().wait()  # what would be begun now is lost; what is done now is still saved
        if time.monotonic() - self._saved >= self._every:
            self.save()

    def save(self) -> None:
        """Save the state now. The last one stays until this one is whole."""
        if self._files is None:
            return
        with self._saving:
            self._number += 1
            text = self._text
            data = json.dumps({"number": self._number, "state": json.loads(text)}).encode()
            self._files.write(self._slot(self._number), data)
            self._saved, self._saved_text = time.monotonic(), text

    def __enter__(self) -> Work:
        self._load()
        self._wakeup, write = os.pipe()
        os.set_blocking(write, False)
        # Python runs handlers between two steps of the main thread, which may be deep in Spark or NumPy: a thread that
        # the signal itself wakes does not wait for it.
        self._before = signal.signal(signal.SIGTERM, lambda *_: None), signal.set_wakeup_fd(write)
        threading.Thread(target=self._await_stop, name="checkpoint", daemon=True).start()
        with contextlib.suppress(OSError):
            PID_FILE.write_text(str(os.getpid()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_stopping.is_set():
            threading.Event().wait()  # the process ends when the state is saved
        handler, descriptor = self._before
        os.close(signal.set_wakeup_fd(descriptor))
        signal.signal(signal.SIGTERM, handler)
        PID_FILE.unlink(missing_ok=True)
        if error is None:
            self._clear()
        else:
            with contextlib.suppress(Exception):  # the program's own error is the one to be seen
                self.save()

    def _await_stop(self) -> None:
        while got := os.read(self._wakeup, 64):
            if signal.SIGTERM in got:
                break
        else:  # the other end was closed: the work is done
            os.close(self._wakeup)
            return
        self._is_stopping.set()
        try:
            self.save()
            while self._files is not None and self._saved_text != self._text:
                self.save()  # saving takes its time, in which the program may have done more
            print(f"checkpoint: told to stop; saved in {self._folder or 'no place'}", flush=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, this program has to go
            print(f"checkpoint: told to stop; the state could not be saved: {error!r}", file=sys.stderr, flush=True)
        finally:
            os._exit(STOPPED)

    def _load(self) -> None:
        if self._files is None:
            print(f"checkpoint: {VARIABLE} is not set: another attempt begins anew", flush=True)
            return
        found = [saved for number in (0, 1) if (saved := _parsed(self._files.read(self._slot(number))))]
        if found:
            newest = max(found, key=lambda each: int(each["number"]))
            self._number, self._text, self.is_resumed = newest["number"], json.dumps(newest["state"]), True
            print(f"checkpoint: going on from {self._slot(self._number)}", flush=True)

    def _clear(self) -> None:
        if self._files is not None:
            for number in (0, 1):
                self._files.remove(self._slot(number))

    def _slot(self, number: int) -> str:
        """Two files in turns: where the machine ends in the middle of one, there is the other."""
        return f"{self._folder}/state-{number % 2}.json"


def resumable(first: Any, spark: SparkSession | None = None, every: float = 60.0) -> Work:
    """What is done of this task's work in this run; `first` before anything is. Use it as a context manager, once.

    spark: reads and writes the lake where there is a session; else WebHDFS or PyArrow does. every: seconds after which
    a new state is saved without being told to. To be called in the main thread.
    """
    folder = os.environ.get(VARIABLE, "").rstrip("/")
    if not folder:
        return Work(first, None, "", every)
    if spark is not None:
        return Work(first, SparkFiles(spark), folder, every)
    kinds: dict[str, type[Files]] = {"hdfs": WebHdfsFiles, "file": LocalFiles, "": LocalFiles}
    return Work(first, kinds.get(urlsplit(folder).scheme, ArrowFiles)(), folder, every)


class SparkFiles:
    """By Spark's own file systems: whatever lake the session reads."""

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark

    def read(self, uri: str) -> bytes | None:
        """What a file has; None where there is none."""
        path, files = self._at(uri)
        if not files.exists(path):
            return None
        stream = files.open(path)
        try:
            return bytes(stream.readAllBytes())
        finally:
            stream.close()

    def write(self, uri: str, data: bytes) -> None:
        """Write a file, over one that is there."""
        path, files = self._at(uri)
        stream = files.create(path, True)
        try:
            stream.write(bytearray(data))
        finally:
            stream.close()

    def remove(self, uri: str) -> None:
        """Remove a file, if it is there."""
        path, files = self._at(uri)
        files.delete(path, False)

    def _at(self, uri: str) -> tuple[Any, Any]:
        jvm: Any = self._spark._jvm
        path = jvm.org.apache.hadoop.fs.Path(uri)
        return path, path.getFileSystem(self._spark._jsc.hadoopConfiguration())


class WebHdfsFiles:
    """HDFS without a JVM. HDFS with high availability has no one address: there, give `resumable` a Spark session."""

    def read(self, uri: str) -> bytes | None:
        """What a file has; None where there is none."""
        try:
            found: bytes = self._ask("GET", uri, "OPEN")
        except HTTPError as error:
            if error.code != 404:
                raise
            return None
        return found

    def write(self, uri: str, data: bytes) -> None:
        """Write a file, over one that is there."""
        where = json.loads(self._ask("PUT", uri, "CREATE", noredirect="true", overwrite="true"))["Location"]
        with urlopen(Request(where, data=data, method="PUT"), timeout=30) as answer:  # noqa: S310 - HDFS gave it
            answer.read()

    def remove(self, uri: str) -> None:
        """Remove a file, if it is there."""
        self._ask("DELETE", uri, "DELETE")

    def _ask(self, method: str, uri: str, operation: str, **more: str) -> bytes:
        parts = urlsplit(uri)
        if parts.port is None:
            raise OSError(f"{uri} names HDFS with high availability, which WebHDFS can't find: give `spark`")
        query = urlencode({"op": operation, "user.name": USER, **more})
        url = f"http://{parts.hostname}:{WEBHDFS_PORT}/webhdfs/v1{quote(parts.path)}?{query}"
        with urlopen(Request(url, method=method), timeout=30) as answer:
            found: bytes = answer.read()
        return found


class LocalFiles:
    """A folder of this machine, such as a volume."""

    def read(self, uri: str) -> bytes | None:
        """What a file has; None where there is none."""
        try:
            return Path(urlsplit(uri).path).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, uri: str, data: bytes) -> None:
        """Write a file, over one that is there."""
        file = Path(urlsplit(uri).path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def remove(self, uri: str) -> None:
        """Remove a file, if it is there."""
        Path(urlsplit(uri).path).unlink(missing_ok=True)


class ArrowFiles:
    """Buckets, by PyArrow."""

    def read(self, uri: str) -> bytes | None:
        """What a file has; None where there is none."""
        files, path = self._at(uri)
        try:
            with files.open_input_stream(path) as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None

    def write(self, uri: str, data: bytes) -> None:
        """Write a file, over one that is there."""
        files, path = self._at(uri)
        with files.open_output_stream(path) as stream:
            stream.write(data)

    def remove(self, uri: str) -> None:
        """Remove a file, if it is there."""
        files, path = self._at(uri)
        with contextlib.suppress(FileNotFoundError):
            files.delete_file(path)

    def _at(self, uri: str) -> tuple[Any, str]:
        from pyarrow import fs

        found: tuple[Any, str] = fs.FileSystem.from_uri(uri.replace("s3a://", "s3://", 1))
        return found


def _parsed(data: bytes | None) -> dict[str, Any] | None:
    """A saved state; None where there is none, or where its machine ended in the middle of it."""
    if data is None:
        return None
    try:
        saved = json.loads(data)
    except ValueError:
        return None
    return saved if isinstance(saved, dict) and {"number", "state"} <= saved.keys() else None
