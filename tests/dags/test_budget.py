"""Budgets: what may start, and what a task says of it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tidepool import budget as budgets
from tidepool.budget import Figure, Reservation, Spending, Word
from tidepool.capacity import Budget

NOW = datetime(2026, 11, 23, 10, tzinfo=UTC).timestamp()
TODAY = datetime(2026, 11, 23, tzinfo=UTC).timestamp()
DAILY = Budget(team="", dag="flights", per="day", soft_usd=5, hard_usd=10, at_limit="fail")
JOB = Reservation("flights", usd=1, since=NOW, seconds=600)


def spending(usd: float = 2, time: float = NOW, begin: float = TODAY, **reserved: Reservation) -> Spending:
    return Spending(time, {"b": Figure(usd, begin)}, reserved)


def test_a_job_within_its_budget_starts_without_a_word() -> None:
    assert budgets.verdict({"b": DAILY}, spending(), JOB, NOW) == budgets.Verdict(Word.GO)


def test_a_soft_limit_warns_with_its_figures_and_lets_the_job_start() -> None:
    found = budgets.verdict({"b": DAILY}, spending(4.5), JOB, NOW)
    assert found.word is Word.GO
    assert found.warnings == (
        "budget 'b' of DAG flights: 4.50 USD spent this day, 0.00 set aside for jobs that run, 1.00 for this one; it "
        "begins anew at 2026-11-24 00:00 UTC: more than its soft limit of 5.00 USD",
    )


@pytest.mark.parametrize(("at_limit", "word"), [("fail", Word.FAIL), ("wait", Word.WAIT)])
def test_a_hard_limit_keeps_the_job_from_starting_and_says_all_figures(at_limit: str, word: Word) -> None:
    hard = Budget("ads", "flights", "month", 0, 10, at_limit)  # type: ignore[arg-type]
    month = datetime(2026, 11, 1, tzinfo=UTC).timestamp()
    other = Reservation("flights", usd=4, since=NOW - 300, seconds=600)
    found = budgets.verdict({"b": hard}, spending(8, begin=month, other=other), JOB, NOW)
    assert found.word is word
    assert found.why == (
        "budget 'b' of team ads and DAG flights: 8.00 USD spent this month, 2.00 set aside for jobs that run, 1.00 for "
        "this one; it begins anew at 2026-12-01 00:00 UTC: more than its hard limit of 10.00 USD"
    )


def test_less_than_a_cent_is_told_too() -> None:
    tiny = Budget("", "flights", "day", 0, 0.00002, "fail")
    why = budgets.verdict({"b": tiny}, spending(0.000031), JOB, NOW).why
    assert "0.000031 USD spent" in why
    assert "limit of 0.000020 USD" in why


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (Spending(0, {}, {}), "nobody has published what was spent"),
        (spending(time=NOW - 301), "known only until 2026-11-23 09:54 UTC"),
        (Spending(NOW, {}, {}), "has published nothing of it"),
        (spending(begin=TODAY - 86_400), "since it began anew"),
    ],
)
def test_figures_that_are_missing_or_old_never_pass_a_hard_limit_and_are_told_at_a_soft_one(
    known: Spending, words: str
) -> None:
    found = budgets.verdict({"b": DAILY}, known, JOB, NOW)
    assert found.word is Word.UNKNOWN
    assert words in found.why
    soft = budgets.verdict({"b": Budget("", "flights", "day", 5, 0, "fail")}, known, JOB, NOW)
    assert soft.word is Word.GO
    assert words in soft.warnings[0]


def test_of_budgets_that_differ_at_their_limits_the_one_that_fails_counts() -> None:
    both = {"a": Budget("", "flights", "day", 0, 1, "wait"), "b": DAILY}
    known = Spending(NOW, {"a": Figure(2, TODAY), "b": Figure(12, TODAY)}, {})
    assert budgets.verdict(both, known, JOB, NOW).word is Word.FAIL


def test_a_job_counts_towards_its_dags_its_teams_and_everybodys_budgets() -> None:
    every = {
        "dag": DAILY,
        "other dag": Budget("", "trains", "day", 0, 1, "fail"),
        "team": Budget("ads", "", "day", 1, 0, "fail"),
        "other team": Budget("sales", "", "day", 1, 0, "fail"),
        "all": Budget("", "", "month", 1, 2, "fail"),
        "no limit": Budget("", "", "month", 0, 0, "fail"),
    }
    assert set(budgets.of_job(every, "ads", "flights")) == {"dag", "team", "all"}


def test_many_that_start_at_once_never_go_over_together() -> None:
    """Each sees what those before it set aside, as the ConfigMap's version keeps them in an order."""
    data = {budgets.SPENT: budgets.dump_spent(NOW, {"b": Figure(2, TODAY)})}
    started = 0
    for number in range(50):
        if budgets.verdict({"b": DAILY}, budgets.load(data), JOB, NOW).word is Word.GO:
            data = budgets.reserve(data, f"pod-{number}", JOB, NOW)
            started += 1
    assert started == 8


def test_what_is_set_aside_becomes_what_was_spent_without_being_counted_twice_or_not_at_all() -> None:
    """A job that costs what was expected: published figures lag behind, and the sum stays the same."""
    data = budgets.reserve({}, "p", JOB, NOW)
    for known_until in range(0, 700, 50):
        spent = min(1.0, known_until / 600)
        left = budgets.load(data).reserved["p"].left(NOW + known_until)
        assert spent + left == pytest.approx(1.0)


def test_a_job_that_ends_early_frees_the_rest_and_keeps_what_is_not_published_yet() -> None:
    data = budgets.release(budgets.reserve({}, "p", JOB, NOW), "p", NOW + 150)
    reserved = budgets.load(data).reserved["p"]
    assert reserved.left(NOW) == pytest.approx(0.25)
    assert reserved.left(NOW + 150) == 0


def test_a_pod_whose_worker_died_keeps_nothing_set_aside_for_longer_than_it_was_expected_to_run() -> None:
    data = budgets.reserve({}, "dead", JOB, NOW)
    assert budgets.load(data).reserved["dead"].left(NOW + 600) == 0
    later = NOW + 600 + budgets.STALE_SECONDS + 1
    assert set(budgets.load(budgets.reserve(data, "p", JOB, later)).reserved) == {"p"}


def test_what_somebody_wrote_into_the_configmap_is_no_figure() -> None:
    for text in ("", "[]", "{", '{"time": "x"}', '{"budgets": {"b": {"usd": "x"}}}', '{"budgets": []}'):
        known = budgets.load({budgets.SPENT: text, "reserved.p": text, "other": "x"})
        assert budgets.verdict({"b": DAILY}, known, JOB, NOW).word is Word.UNKNOWN
        assert known.reserved == {}


@pytest.mark.parametrize(
    ("per", "time", "begin", "end"),
    [
        ("day", "2026-12-31T23:59:59", "2026-12-31", "2027-01-01"),
        ("month", "2026-12-31T23:59:59", "2026-12-01", "2027-01-01"),
        ("month", "2028-02-29T00:00:00", "2028-02-01", "2028-03-01"),
    ],
)
def test_days_and_months_begin_and_end_at_midnight_utc(per: str, time: str, begin: str, end: str) -> None:
    found = budgets.period(per, datetime.fromisoformat(time + "+00:00").timestamp())
    assert [datetime.fromtimestamp(each, UTC).date().isoformat() for each in found] == [begin, end]


def test_periods_follow_each_other_without_a_gap() -> None:
    for per, steps in (("day", 800), ("month", 40)):
        moment = NOW
        for _ in range(steps):
            _, end = budgets.period(per, moment)
            assert budgets.period(per, end)[0] == end
            moment = end
    assert len({budgets.period("month", NOW + day * 86_400) for day in range(366)}) == 13
