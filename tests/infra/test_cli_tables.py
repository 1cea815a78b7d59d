"""What people see on the command line fits the terminal, and no figure of it is ever cut."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest
from rich.console import Console, RenderableType

from infra.cli import costs_view, flights, jobs_view, top, view, words
from infra.cli.tables import FittedTable, figure, figures, name, word
from tests.dags.histories import BOOK, machine, pod
from tidepool.ledger.attribution import CATEGORIES, Billing
from tidepool.report import costs as library
from tidepool.report.now import JobNow, MachineNow, now
from tidepool.report.tasks import Slow, Waste

WIDTHS = (120, 80, 60, 40)
DAY = 86_400.0
LONG = "a_dag_with_a_name_that_is_longer_than_anybody_would_want_to_read"


def lines(shown: RenderableType | Callable[[Console], None], width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), highlight=False)
    if callable(shown):
        shown(console)
    else:
        console.print(shown)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def cells(line: str) -> list[str]:
    return re.split(r"  +", line.strip())


@pytest.mark.parametrize("width", WIDTHS)
def test_columns_go_by_their_rank_and_names_give_way_before_them(width: int) -> None:
    table = FittedTable(name("job"), word("state"), *figures("first", "second", "third"), figure("USD"))
    table.add_row(LONG, "running", "1,234,567.89", "1,234,567.89", "1,234,567.89", "98,765,432.10")
    found = lines(table, width)
    assert max(map(len, found)) <= width
    wanted = {120: ["first", "second", "third"], 80: ["first", "second"], 60: ["first"], 40: []}[width]
    assert cells(found[0]) == ["job", "state", *wanted, "USD"]
    assert cells(found[1])[1:] == ["running", *["1,234,567.89"] * len(wanted), "98,765,432.10"]
    left_out = [each for each in ("first", "second", "third") if each not in wanted]
    assert found[2:] == ([f"(no room for {', '.join(left_out)})"] if left_out else [])


def test_where_all_fits_nothing_is_cut_or_left_out_and_a_name_is_text_and_no_markup() -> None:
    table = FittedTable(name("job"), figure("USD", 1))
    table.add_row("[red]漢字[/red]", "1.00")
    assert lines(table, 40) == ["job               USD", "[red]漢字[/red]  1.00"]


def test_a_table_without_rows_has_its_titles() -> None:
    assert lines(FittedTable(name("job"), figure("USD")), 40) == ["job  USD"]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("by", ["job", "task", "dag", "team", "pool", "day"])
def test_a_report_shows_whole_figures_and_days_and_always_money(width: int, by: library.By) -> None:
    told = [*machine("i-1", 0, 30, DAY), *machine("i-2", DAY, DAY + 9, 2 * DAY)]
    told += [*pod("u-1", "i-1", 50, 60, 4000, dag=LONG), *pod("u-2", "i-2", DAY + 20, DAY + 60, DAY + 9000, dag=LONG)]
    found = library.costs(told, BOOK, by, 0, 2 * DAY, Billing())
    for category in CATEGORIES:
        amount = found.total.amounts[category]
        amount.held, amount.money = amount.held * 1000 + 98_765_432_100, amount.money * 100_000 + 10**15
    table = lines(costs_view.table(found, 50), width)
    titles, total = cells(table[0]), next(cells(line) for line in table if line.startswith("all "))
    assert max(map(len, table)) <= width
    assert "USD" in titles
    assert not [line for line in table if re.search(r"\d…|…\d", line)]
    if by == "day":
        assert {"1970-01-01", "1970-01-02"} <= {cells(line)[0] for line in table}
    assert words.usd(found.total.total.usd) in total


SLOW = Slow(
    LONG, "train", "t", 123_456, 12_345, 400_000, 500_000, 600_000, 70_000, 987_654_321, 1_234_567.89, 12.34, 9, 9
)
WASTE = Waste(
    dag=LONG,
    task="train",
    team="t",
    namespace="n",
    runs=123_456,
    usd=1_234_567.89,
    lost_usd=234_567.89,
    unused_usd=34_567.89,
    lost={},
    cpu=0.5,
    memory=0.5,
    memory_bytes=1000 << 30,
    memory_p99_bytes=500 << 30,
    advice=(),
    pods=9,
    sampled=9,
)


@pytest.mark.parametrize("width", WIDTHS)
def test_jobs_show_whole_figures_and_always_what_they_are_ordered_by(width: int) -> None:
    slow = lines(lambda console: jobs_view.slow([SLOW], console), width)
    assert max(map(len, slow)) <= width
    assert "…" not in re.sub(r"^a_dag\w*…", "", slow[1])
    assert "274348 h 25 min" in slow[1]
    waste = lines(lambda console: jobs_view.waste([WASTE], console), width)
    assert max(map(len, waste)) <= width
    assert "…" not in re.sub(r"^a_dag\w*…", "", waste[1])
    assert "269,135.78" in waste[1]


@pytest.mark.parametrize("width", WIDTHS)
def test_what_is_there_now_is_shown_with_whole_states_and_figures(width: int) -> None:
    machines = [MachineNow("i-0123456789abcdef0", "on-demand-memory", "spot", "m5.24xlarge", 1, 1, 2, 3, 1234.5, 99)]
    jobs = [JobNow(LONG, "train", "r", 12, LONG, "p", "spot", "i-0123456789abcdef0", 1.0, 2.0, None, 1_234_567.89)]
    found = lines(top.shown(now(9_876_543.0, machines, jobs), 0), width)
    assert max(map(len, found)) <= width
    assert any("reclaimed" in line and "1,234.5000" in line for line in found)
    assert any("starting" in line and "1,234,567.89" in line for line in found)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_live_board_and_the_flights_fit(width: int) -> None:
    board = view.Board(
        (view.MachineNow("i-0123456789abcdef0", "on-demand-memory", "spot", "m5.24xlarge", "asked", 0),),
        (view.JobNow(LONG, "u", 12, "i-0123456789abcdef0", "done", "out_of_memory", 0),),
    )
    found = lines(view.tables(board, 9_876_543), width)
    assert max(map(len, found)) <= width
    assert any("done: out_of_memory" in line for line in found)
    row = {"name": LONG, "origin": "EWR", "flights": 123_456_789, "cancelled": 0.5}
    row |= dict.fromkeys(("mean_dep_delay", "mean_arr_delay", "p90_arr_delay"), 12_345.6)
    model = {"rmse": 17.6, "baseline_rmse": 18.9, "rows_train": 261_000, "rows_test": 65_000}
    found = lines(lambda console: flights.show({"delays": [row], "model": model}, console), width)
    assert max(map(len, found)) <= width
    assert any("EWR" in line and "12345.6" in line for line in found)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "unknown"),
        (0, "0.00"),
        (0.0027861, "0.00279"),
        (0.5, "0.50000"),
        (1, "1.00"),
        (1234567.891, "1,234,567.89"),
    ],
)
def test_money_has_one_form(value: float | None, shown: str) -> None:
    assert words.usd(value) == shown


def test_counts_are_of_one_or_of_many() -> None:
    assert [words.counted(each, "job") for each in (0, 1, 2691)] == ["0 jobs", "1 job", "2,691 jobs"]
