"""Traces of the SWIM suite: what is read, and what is said of what can't be."""

from pathlib import Path

import pytest

from tidepool.simulator import swim
from tidepool.simulator.assumptions import Assumptions
from tidepool.simulator.swim import TraceError

GIB = 1 << 30
SPLIT = 128 << 20


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "trace.tsv"
    path.write_text(text, encoding="utf-8")
    return path


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(TraceError) as found:
        swim.read(written(tmp_path, text), Assumptions(), 16)
    return str(found.value).splitlines()


def test_bytes_become_cores_and_seconds_by_the_assumptions(tmp_path: Path) -> None:
    assumptions = Assumptions(core_bytes_per_second=1e6, session_seconds=20, core_memory_bytes=GIB)
    lines = [
        f"one\t0\t0\t{SPLIT}\t0\t0",
        f"three\t5\t5\t{2 * SPLIT + 1}\t1000000\t0",
        f"many\t9\t4\t0\t{99 * SPLIT}\t0",
    ]
    one, three, many = swim.read(written(tmp_path, "\n".join(lines)), assumptions, 16).jobs
    assert (one.cores, one.seconds, one.memory_bytes) == (1, round(20 + SPLIT / 1e6, 1), 2 * GIB)
    assert (three.cores, three.seconds) == (3, round(20 + (2 * SPLIT + 1 + 1e6) / 1e6 / 3, 1))
    assert (many.cores, many.memory_bytes) == (16, 16 * GIB)


def test_the_published_sample_is_bundled_with_its_licence_and_is_one_day() -> None:
    work = swim.read(swim.BUNDLED, Assumptions(), 16)
    assert (len(work.jobs), work.days) == (5894, 1)
    assert "Regents of the University of California" in swim.BUNDLED.with_name("LICENSE").read_text(encoding="utf-8")


def test_lines_in_any_order_a_path_column_and_comments_are_taken(tmp_path: Path) -> None:
    text = "# FB-2010\nlate\t90000\t1\t1\t1\t1\t/a/path\n\nearly\t10\t1\t1\t1\t1\t/b\n"
    work = swim.read(written(tmp_path, text), Assumptions(), 16)
    assert [job.name for job in work.jobs] == ["early", "late"]
    assert work.days == 2


def test_every_wrong_line_is_named_with_what_is_allowed(tmp_path: Path) -> None:
    told = problems(tmp_path, "a\t0\t0\t1\t1\t1\nb\t0\t0\t1\nc\tx\t0\t-1\t1\t1\nd\t0\t0\t1\t1\tnan\n")
    path = tmp_path / "trace.tsv"
    assert told == [
        f"{path}:2: must have 6 columns by tab (job, submit, gap, map input, shuffle, reduce output), not 4",
        f"{path}:3: submit: must be seconds, a number and not negative, not 'x'",
        f"{path}:3: map input: must be bytes, a number and not negative, not '-1'",
        f"{path}:4: reduce output: must be bytes, a number and not negative, not 'nan'",
    ]


def test_a_file_of_another_kind_is_not_listed_line_by_line(tmp_path: Path) -> None:
    told = problems(tmp_path, "no trace\n" * 500)
    assert len(told) == swim.SHOWN + 1
    assert told[-1] == "… and 480 more"


@pytest.mark.parametrize("text", ["", "# nothing\n\n"])
def test_a_file_without_jobs_is_refused(text: str, tmp_path: Path) -> None:
    assert "has no job" in problems(tmp_path, text)[0]


def test_what_is_no_text_or_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "trace.tsv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TraceError, match="not UTF-8 text"):
        swim.read(path, Assumptions(), 16)
    with pytest.raises(TraceError, match="No such file"):
        swim.read(tmp_path / "none.tsv", Assumptions(), 16)
