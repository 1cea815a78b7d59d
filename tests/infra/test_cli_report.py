import contextlib
import csv
import io
import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from infra.cli.main import app
from tidepool.ledger.events import Event
from tidepool.ledger.journal import append
from tidepool.ledger.store import Store
from tidepool.prices import book
from tidepool.prices.book import Price
from tidepool.report import costs as library

DAY = 86_400
START = 1_790_000_000.0 // DAY * DAY
GIB = 1 << 30


def machine(name: str, asked: float, ready: float, gone: float | None, **more: Any) -> list[Event]:
    kind: dict[str, Any] = {"pool": "spot-small", "market": "spot", "instance_type": "m5.large", "zone": "us-east-1a"}
    told = [Event(START + asked, "machine.asked", name, **kind | more)]
    told.append(Event(START + ready, "machine.ready", name, cpu_millis=4000, memory_bytes=16 * GIB))
    return told + ([Event(START + gone, "machine.gone", name)] if gone is not None else [])


def pod(
    uid: str, on: str, running: float, ended: float, dag: str = "flights_daily", team: str = "analytics"
) -> list[Event]:
    whose: dict[str, Any] = {
        "pod": f"clean-{uid}",
        "pod_uid": uid,
        "dag": dag,
        "task": "clean",
        "run": "r1",
        "team": team,
    }
    return [
        Event(START + running, "pod.queued", attempt=1, **whose),
        Event(START + running, "pod.running", on, attempt=1, **whose),
        Event(START + ended, "pod.ended", on, attempt=1, cause="ok", **whose),
    ]


TWO_DAYS = [
    *machine("i-1", 0, 30, 130),
    *pod("u-1", "i-1", 50, 110),
    *machine("i-2", DAY, DAY + 10, DAY + 110),
    *pod("u-2", "i-2", DAY + 10, DAY + 60, dag="other"),
]


@pytest.fixture(autouse=True)
def no_ledger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TIDEPOOL_LEDGER", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "80")


def written(path: Path, told: list[Event]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    for event in told:
        append(path, event)
    return path


def in_ledger(path: Path, told: list[Event]) -> None:
    path.parent.mkdir(parents=True)
    store = Store.open(str(path))
    store.record_all(told)
    store.close()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["report", *arguments])


def read(*arguments: str) -> dict[str, Any]:
    done = run("--format", "json", *arguments)
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_local_clouds_events_are_reported_on_if_nothing_else_is_named(tmp_path: Path) -> None:
    in_ledger(tmp_path / "state/tidepool/local/ledger.db", TWO_DAYS)
    found = read()
    assert [(row["dag"], row["seconds"], row["pods"]) for row in found["rows"]] == [
        ("flights_daily", 60, 1),
        ("other", 50, 1),
    ]
    assert {name: part["seconds"] for name, part in found["nobody"]["categories"].items() if part["seconds"]} == {
        "boot": 40,
        "idle": 90,
    }
    assert found["balanced"]
    assert found["bill"]["usd"] == pytest.approx(240 * 0.0418 / 3600)
    assert found["total"]["seconds"] == found["bill"]["seconds"] == 240


def test_the_table_fits_the_terminal_and_says_what_is_and_is_not_in_the_bill(tmp_path: Path) -> None:
    file = written(tmp_path / "e", TWO_DAYS + pod("u-3", "i-2", DAY + 60, DAY + 70, dag="a_dag_" * 40))
    for by in library.GROUPS:
        done = run("--by", by, "--events", str(file))
        assert done.exit_code == 0
        assert max(map(len, done.stdout.splitlines())) <= 80
    shown = run("--events", str(file)).stdout.split()
    assert {"flights_daily", "(nobody's)", "boot", "idle", "0.00279", "100.0%", "difference"} <= set(shown)
    assert "(--minimum" in shown
    assert {"clean-u-3", "other.clean"} & set(run("--by", "job", "--events", str(file)).stdout.split())
    limited = run("--events", str(file), "--limit", "1").stdout
    assert "(2 more)" in limited


def test_since_and_until_choose_the_time(tmp_path: Path) -> None:
    file = str(written(tmp_path / "e", TWO_DAYS))
    day = time.strftime("%Y-%m-%d", time.gmtime(START + DAY))
    assert [row["dag"] for row in read("--events", file, "--since", day)["rows"]] == ["other"]
    assert [row["dag"] for row in read("--events", file, "--until", day)["rows"]] == ["flights_daily"]
    assert len(read("--events", file, "--by", "day", "--since", "5000d")["rows"]) == 2
    assert read("--events", file, "--since", "7d")["rows"] == []


def test_what_is_not_over_counts_to_the_last_event_where_nobody_writes_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = machine("i-1", 0, 30, None) + pod("u-1", "i-1", 50, 110)
    in_ledger(tmp_path / "state/tidepool/local/ledger.db", told)
    file = written(tmp_path / "e", told)
    assert read()["bill"]["seconds"] == 110
    assert read("--events", str(file))["bill"]["seconds"] == 110
    until = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(START + 300))
    assert read("--events", str(file), "--until", until)["bill"]["seconds"] == 300
    monkeypatch.setattr("infra.local.cloud.is_up", lambda: True)
    assert read()["bill"]["seconds"] == pytest.approx(time.time() - START, abs=60)


def test_nothing_in_the_time_is_said_in_the_same_words_of_a_file_and_a_database(tmp_path: Path) -> None:
    in_ledger(tmp_path / "folder/ledger.db", TWO_DAYS)
    file, database = str(written(tmp_path / "e", TWO_DAYS)), str(tmp_path / "folder/ledger.db")
    for given, where in ((("--events", file), file), (("--database", database), "the ledger")):
        done = run(*given, "--until", "2001-01-01")
        assert (done.exit_code, done.stdout) == (0, "")
        assert done.stderr == f"{where}: no machine was there until 2001-01-01 00:00:00 UTC\n"
        done = run(*given, "--since", "2000-01-01", "--until", "2001-01-01")
        assert "no machine was there between 2000-01-01 00:00:00 UTC and 2001" in done.stderr


def test_an_empty_ledger_is_no_error_and_says_how_it_fills(tmp_path: Path) -> None:
    in_ledger(tmp_path / "folder/ledger.db", [])
    (tmp_path / "none").write_text("")
    for given, said in (
        (("--database", str(tmp_path / "folder/ledger.db")), "the keeper writes them"),
        (("--events", str(tmp_path / "none")), "has no events"),
    ):
        done = run(*given)
        assert (done.exit_code, done.stdout) == (0, "")
        assert said in done.stderr
        assert read(*given)["rows"] == []
        assert run(*given, "--format", "html").stdout.startswith("<!doctype html>")


def test_a_database_and_a_file_of_events_that_are_taken_for_each_other_are_told_so(tmp_path: Path) -> None:
    in_ledger(tmp_path / "folder/ledger.db", TWO_DAYS)
    done = run("--events", str(tmp_path / "folder/ledger.db"))
    assert done.exit_code == 1
    assert "is a database and not a file of events: name it with --database" in done.stderr
    done = run("--database", str(written(tmp_path / "e", TWO_DAYS)))
    assert done.exit_code == 1
    assert "file is not a database; a file of events goes with --events" in done.stderr


def test_json_has_two_names_and_excludes_the_other_formats(tmp_path: Path) -> None:
    file = str(written(tmp_path / "e", TWO_DAYS))
    assert run("--events", file, "--json").stdout == run("--events", file, "--format", "json").stdout != ""
    done = run("--events", file, "--json", "--format", "csv")
    assert done.exit_code == 2
    assert "give one of --json and --format csv" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--since", "yesterday"), "'yesterday' is not a time"),
        (("--since", "1d", "--until", "2d"), "--since must lie before --until"),
        (("--by", "moon"), "'moon' is not one of"),
        (("--minimum", "-1"), "greater than or equal to 0"),
    ],
)
def test_a_wrong_question_is_told_what_is_allowed(tmp_path: Path, arguments: tuple[str, ...], reason: str) -> None:
    done = run("--events", str(written(tmp_path / "e", TWO_DAYS)), *arguments)
    assert done.exit_code == 2
    assert reason in " ".join(done.stderr.replace("│", " ").split())


def test_where_there_is_nothing_it_says_what_makes_some(tmp_path: Path) -> None:
    done = run()
    assert done.exit_code == 1
    assert "does not exist; `tidepool demo` makes one" in done.stderr
    (tmp_path / "bad").write_text("{}\n")
    done = run("--events", str(tmp_path / "bad"))
    assert done.exit_code == 1
    assert "line 1" in done.stderr
    assert "a database is for --database" in done.stderr
    done = run("--database", str(tmp_path / "none.db"))
    assert done.exit_code == 1
    assert "there is no ledger" in done.stderr
    assert not (tmp_path / "none.db").exists()
    with contextlib.closing(sqlite3.connect(tmp_path / "old.db")) as connection:
        connection.execute("CREATE TABLE tidepool_events (time)")
    done = run("--database", str(tmp_path / "old.db"))
    assert (done.exit_code, done.stdout) == (1, "")
    assert "the ledger can't be read: no such column" in done.stderr
    (tmp_path / "prices").write_bytes(b"\xff\xfe")
    done = run("--events", str(written(tmp_path / "e", TWO_DAYS)), "--prices", str(tmp_path / "prices"))
    assert done.exit_code == 1
    assert "prices: not UTF-8" in done.stderr
    done = run("--events", str(tmp_path / "e"), "--prices", "/nope")
    assert done.exit_code == 1
    assert "--prices /nope: No such file or directory; a price list is a CSV file with" in done.stderr
    done = run("--events", "/nope")
    assert (done.exit_code, done.stderr) == (1, "tidepool report: --events: /nope does not exist\n")


def test_a_ledger_in_a_database_gives_the_same_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open(str(tmp_path / "ledger.db"))
    store.record_all(TWO_DAYS)
    store.keep_prices([Price("us-east-1", "m5.large", "spot", 0.36, "us-east-1a", START + DAY, "test")])
    store.close()
    found = read("--database", str(tmp_path / "ledger.db"), "--by", "day")
    file = read("--events", str(written(tmp_path / "e", TWO_DAYS)), "--by", "day")
    assert [row["seconds"] for row in found["rows"]] == [row["seconds"] for row in file["rows"]] == [130, 110]
    assert [row["usd"] for row in found["rows"]] == pytest.approx([130 * 0.0418 / 3600, 110 * 0.36 / 3600])
    monkeypatch.setenv("TIDEPOOL_LEDGER", f"sqlite:///{tmp_path}/ledger.db")
    assert read("--by", "day") == {**found, "until": pytest.approx(found["until"], abs=60)}


def test_a_price_list_of_ones_own_prices_what_the_bundled_one_does_not(tmp_path: Path) -> None:
    told = machine("i-1", 0, 0, 3600, instance_type="x9.unheard") + machine("i-2", 0, 0, 3600)
    file = str(written(tmp_path / "e", told))
    unknown = read("--events", file)
    assert unknown["bill"] == {"seconds": 7200, "usd": pytest.approx(0.0418), "unpriced_seconds": 3600}
    assert unknown["unpriced"] == [{"instance_type": "x9.unheard", "market": "spot", "zone": "us-east-1a"}]
    shown = " ".join(run("--events", file).stdout.split())
    assert "0.04180?" in shown
    assert "No price is known for 3,600.0 machine-seconds (x9.unheard spot us-east-1a)" in shown
    (tmp_path / "p").write_text(book.dumps([Price("us-east-1", "x9.unheard", "spot", 2.0)]))
    assert read("--events", file, "--prices", str(tmp_path / "p"))["bill"]["usd"] == pytest.approx(2.0418)


def test_where_no_price_is_known_at_all_the_money_is_unknown_and_not_zero(tmp_path: Path) -> None:
    file = str(written(tmp_path / "e", machine("i-1", 0, 0, 3600, instance_type="x9.unheard") + pod("u", "i-1", 0, 60)))
    assert read("--events", file)["rows"][0]["usd"] is None
    assert "unknown" in run("--events", file).stdout
    (row, nobody) = csv.DictReader(io.StringIO(run("--events", file, "--format", "csv").stdout))
    assert (row["usd"], row["unpriced_seconds"], nobody["usd"]) == ("", "60", "")


def test_least_bill_and_volume_are_in_it_if_asked_for(tmp_path: Path) -> None:
    file = str(written(tmp_path / "e", machine("i-1", 0, 0, 36)))
    found = read("--events", file, "--minimum", "60", "--volume", "73")
    assert found["bill"]["seconds"] == 60
    assert found["bill"]["usd"] == pytest.approx(60 * (0.0418 + 73 * 0.08 / 730) / 3600)
    assert "a least bill of 60 s" in " ".join(run("--events", file, "--minimum", "60").stdout.split())


def test_the_lines_of_a_csv_add_up_to_the_bill(tmp_path: Path) -> None:
    file = str(written(tmp_path / "e", TWO_DAYS))
    for by, names in library.GROUPS.items():
        rows = list(csv.DictReader(io.StringIO(run("--by", by, "--events", file, "--format", "csv").stdout)))
        assert tuple(rows[0])[: len(names)] == names
        assert sum(float(row["seconds"]) for row in rows) == pytest.approx(240)
        assert sum(float(row["usd"]) for row in rows if row["usd"]) == pytest.approx(240 * 0.0418 / 3600)


HOSTILE = [
    "\x1b[2J\x1b]0;owned\x07",
    "new\nline\r\tand tab",
    "[red]markup[/red] [link=http://x]y[/link]",
    '=HYPERLINK("http://x","y")',
    "'; DROP TABLE tidepool_events; --",
    "\u202egnp.exe\u2066\u200b\u2028",
    "<script>alert(1)</script>",
    '"quotes", and commas',
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text_and_nothing_else_in_every_format(tmp_path: Path, name: str) -> None:
    file = str(written(tmp_path / "e", machine("i-1", 0, 0, 100) + pod("u", "i-1", 0, 60, dag=name, team=name)))
    for by in ("dag", "team", "job"):
        shown = run("--by", by, "--events", file).stdout
        assert not set(shown) & {"\x1b", "\x07", "\r", "\t", "\u202e", "\u2066", "\u200b", "\u2028"}
        assert len(shown.splitlines()) == len(run("--by", by, "--events", file).stdout.split("\n")) - 1
        sheet = list(csv.reader(io.StringIO(run("--by", by, "--events", file, "--format", "csv").stdout)))
        assert len(sheet) == 3
        assert not any(cell.startswith(("=", "+", "-", "@")) for row in sheet for cell in row)
        (row,) = read("--by", by, "--events", file)["rows"]
        assert name in row.values(), "JSON has it letter by letter, escaped"
    if name.isprintable() and len(name) <= 40:
        assert name in run("--by", "dag", "--events", file).stdout, "what does no harm is shown as it is"


def test_parts_that_miss_the_bill_are_an_error_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = str(written(tmp_path / "e", TWO_DAYS))
    whole = library.bill

    def wrong(*arguments: Any) -> Any:
        found = whole(*arguments)
        found.money = found.money * 1002 // 1000
        return found

    monkeypatch.setattr(library, "bill", wrong)
    done = run("--events", file)
    assert done.exit_code == 3
    assert "miss the bill by 0.2" in done.stderr


def test_html_is_one_file_that_fetches_nothing_and_leads_nowhere(tmp_path: Path) -> None:
    events = written(tmp_path / "e", TWO_DAYS)
    found = run("--format", "html", "--events", str(events))
    assert found.exit_code == 0
    text = found.stdout
    assert text.startswith("<!doctype html>")
    assert "flights_daily.clean" in text
    for what in ('href="http', "src=", "<script", "<a ", "<form", "url("):
        assert what not in text
    assert f"${read('--events', str(events))['bill']['usd']:.4f}" in text


def test_a_file_of_html_holds_names_as_they_are_and_no_markup_of_theirs(tmp_path: Path) -> None:
    name = "</title><script>alert(1)</script>\x1b[2J"
    told = machine(name, 0, 30, 130, pool=name) + pod("u-1", name, 50, 110, dag=name, team=name)
    text = run("--format", "html", "--events", str(written(tmp_path / "e", told))).stdout
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "\x1b" not in text
