"""Traces of spot machines: read from files, every fault named, and made from processes."""

import json
from pathlib import Path

import pytest

from tidepool.deadlines import scenarios, traces
from tidepool.deadlines.priors import HOUR
from tidepool.deadlines.traces import Span, Trace, TraceError


def file(tmp_path: Path, text: str, name: str = "spot.tsv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_by_tab_or_comma_with_or_without_names_are_read(tmp_path: Path) -> None:
    expected = (Span(0, 3600, 2), Span(3600, 7200, 0), Span(9000, 9600, 1))
    tabs = file(tmp_path, "start\tend\tmachines\n0\t3600\t2\n# a night\n3600\t7200\t0\n9000\t9600\t1\n")
    commas = file(tmp_path, "0, 3600, 2\n3600, 7200, 0\n\n9000, 9600, 1\n", "spot.csv")
    assert traces.read(tabs) == Trace("spot", expected)
    assert traces.read(commas) == Trace("spot", expected)


def test_the_published_traces_are_read(tmp_path: Path) -> None:
    document = {"metadata": {"gap_seconds": 300, "region": "x"}, "data": [1, 1, 0, 4]}
    trace = traces.read(file(tmp_path, json.dumps(document), "us-west-2a.json"))
    assert trace.changes == [0, 600, 900, 1200]
    assert trace.share == 0.75


def test_all_faults_of_a_file_are_named_with_their_lines(tmp_path: Path) -> None:
    path = file(tmp_path, "start,end,machines\n0,60,1\n30,90,1\n100,x,1\n200,150,1\n300,400,-1\n500,600\n700,inf,1\n")
    with pytest.raises(TraceError) as caught:
        traces.read(path)
    assert str(caught.value).splitlines() == [
        f"{path}:3: starts at 30, before the row above it ends (60)",
        f"{path}:4: end: must be seconds, such as 3600, not 'x'",
        f"{path}:5: end: must be after start (200), not 150",
        f"{path}:6: machines: must be a whole number, not negative, not '-1'",
        f"{path}:7: must have 3 columns (start, end, machines), by tab or comma, not 2",
        f"{path}:8: end: must be seconds, such as 3600, not 'inf'",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no row with a machine"),
        ("0,60,0\n", "has no row with a machine"),
        ("{", ":1: not JSON"),
        ("{}", "must have metadata.gap_seconds and data"),
        ('{"metadata": {"gap_seconds": 0}, "data": [1]}', "metadata.gap_seconds: must be a number above 0, not 0"),
        ('{"metadata": {"gap_seconds": 300}, "data": 3}', "data: must be a list of whole numbers, not 3"),
        ('{"metadata": {"gap_seconds": 300}, "data": [1, -2]}', r"data\[1\]: must be a whole number"),
    ],
)
def test_a_file_without_a_trace_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        traces.read(file(tmp_path, text))


def test_a_file_of_another_kind_does_not_fill_the_screen(tmp_path: Path) -> None:
    with pytest.raises(TraceError) as caught:
        traces.read(file(tmp_path, "hello\n" * 500))
    lines = str(caught.value).splitlines()
    assert len(lines) == traces.SHOWN + 1
    assert lines[-1] == "… and 480 more"


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"none\.tsv: No such file"):
        traces.read(tmp_path / "none.tsv")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TraceError, match="not UTF-8"):
        traces.read(tmp_path / "binary")


def test_a_trace_too_short_for_the_jobs_is_refused() -> None:
    with pytest.raises(TraceError, match=r"covers 2\.0 hours; .* deadline of 36 hours and must fit"):
        scenarios.of_trace(Trace("short", (Span(0, 2 * HOUR, 1),)))


def test_availability_is_what_the_spans_say() -> None:
    trace = Trace("t", (Span(0, 10, 1), Span(10, 20, 3), Span(20, 30, 0), Span(40, 50, 1)))
    assert trace.changes == [0, 20, 40, 50]
    assert trace.at(0) == (True, 20)
    assert trace.at(20) == (False, 40)
    assert trace.at(50) == (False, float("inf"))


def test_what_was_seen_counts_losses_with_their_exposure() -> None:
    trace = Trace("t", (Span(0, HOUR, 1), Span(3 * HOUR, 4 * HOUR, 1)))
    assert trace.seen(0.5 * HOUR, 3.5 * HOUR) == (1, 1.0)
    assert trace.seen(1.5 * HOUR, 2.5 * HOUR) == (0, 0.0)


@pytest.mark.parametrize("name", traces.PROCESSES)
@pytest.mark.parametrize("seed", range(3))
def test_processes_make_two_months_in_order_and_the_same_for_the_same_seed(name: str, seed: int) -> None:
    trace = traces.synthetic(name, seed)
    assert trace.end >= traces.DAYS * traces.DAY
    assert trace.changes == sorted(trace.changes)
    assert trace == traces.synthetic(name, seed)
    assert trace != traces.synthetic(name, seed + 1)


@pytest.mark.parametrize(("name", "low", "high"), [("ample", 0.85, 0.97), ("mixed", 0.5, 0.7), ("scarce", 0.15, 0.25)])
def test_processes_are_as_rich_in_spot_as_they_say(name: str, low: float, high: float) -> None:
    assert low < sum(traces.synthetic(name, seed).share for seed in range(5)) / 5 < high
