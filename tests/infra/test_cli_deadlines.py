"""`tidepool simulate deadlines` as its user meets it."""

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from infra.cli.main import app
from tidepool.deadlines import scenarios, traces
from tidepool.deadlines.policies import POLICIES


def tidepool(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["simulate", "deadlines", *arguments])


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "eu.tsv"
    rows = [f"{hour * 3600}\t{hour * 3600 + 3000}\t1" for hour in range(24 * 8)]
    path.write_text("start\tend\tmachines\n" + "\n".join(rows), encoding="utf-8")
    return path


@pytest.fixture
def one_scenario(monkeypatch: pytest.MonkeyPatch) -> None:
    only = scenarios.Scenario("reclaims 5%/h", traces.always(60 * traces.DAY), per_hour=0.05)
    monkeypatch.setattr(scenarios, "built_in", lambda seed: [only])


def test_help_has_examples() -> None:
    shown = tidepool("--help")
    assert shown.exit_code == 0
    assert "tidepool simulate deadlines us-west-2a.json" in shown.stdout


def test_a_trace_of_ones_own_gives_a_table_of_all_policies(trace: Path) -> None:
    shown = tidepool(str(trace), "--repeats", "1")
    assert shown.exit_code == 0
    assert "eu, checkpoints (20 jobs; spot is there 83% of the time)" in shown.stdout
    assert "eu, no checkpoints" in shown.stdout
    for policy in POLICIES:
        assert shown.stdout.count(f"\n{policy} ") == 2
    promised = shown.stdout.partition("What is promised of the policy tidepool:\n")[2].splitlines()
    verdicts = [line.partition(":")[0] for line in promised if line.startswith("- ")]
    assert len(verdicts) == 3
    assert set(verdicts) <= {"- holds", "- does not hold"}
    assert promised[0].startswith("- holds: at least 99% of deadlines met in every scenario with known runtimes: ")
    assert all(len(line) <= 80 for line in shown.stdout.splitlines() if not line.startswith("    "))


@pytest.mark.usefixtures("one_scenario")
def test_json_is_the_same_for_the_same_seed() -> None:
    first, again, other = (tidepool("--repeats", "1", "--json", "--seed", seed).stdout for seed in ("3", "3", "4"))
    assert first == again != other
    document = json.loads(first)
    assert document["seed"] == 3
    assert [row["policy"] for row in document["rows"]] == list(POLICIES)
    assert {"scenario", "policy", "jobs", "met", "cost", "low", "high"} <= set(document["rows"][0])
    assert [target["is_met"] for target in document["targets"]] == [True] * 3
    assert all(
        target["promise"][-1].isdecimal() or "at most" in target["promise"] for target in document["targets"][1:]
    )


@pytest.mark.usefixtures("one_scenario")
def test_a_cheaper_spot_price_makes_spot_cheaper() -> None:
    costs = []
    for price in ("0.2", "0.6"):
        rows = json.loads(tidepool("--repeats", "1", "--json", "--spot-price", price).stdout)["rows"]
        costs.append({row["policy"]: row["cost"] for row in rows})
    assert costs[0]["all-spot"] < 0.25 < 0.55 < costs[1]["all-spot"]
    assert costs[0]["all-on-demand"] == costs[1]["all-on-demand"]


def test_a_broken_file_is_named_with_its_line_and_what_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "broken.tsv"
    path.write_text("0\t60\tmany\n", encoding="utf-8")
    shown = tidepool(str(path))
    assert shown.exit_code == 1
    assert f"{path}:1: machines: must be a whole number, not negative, not 'many'" in shown.stderr
    assert shown.stdout == ""


@pytest.mark.parametrize("name", ["none.tsv", "."])
def test_a_file_that_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    shown = tidepool(str(tmp_path / name))
    assert shown.exit_code == 1
    assert str(tmp_path / name) in shown.stderr


def test_a_trace_that_is_too_short_says_how_long_it_must_be(tmp_path: Path) -> None:
    path = tmp_path / "short.csv"
    path.write_text("0,3600,1\n", encoding="utf-8")
    shown = tidepool(str(path))
    assert shown.exit_code == 1
    assert "covers 1.0 hours" in shown.stderr
    assert "36 hours" in shown.stderr


@pytest.mark.parametrize("arguments", [["--repeats", "0"], ["--spot-price", "1.5"], ["--seed", "x"]])
def test_options_out_of_range_are_refused(arguments: list[str]) -> None:
    assert tidepool(*arguments).exit_code == 2
