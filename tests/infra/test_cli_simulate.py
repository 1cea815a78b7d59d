"""`tidepool simulate` as its user meets it, and that it simulates what infra/ really sets."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from infra.autoscaler_flags import FLAGS
from infra.cli import simulate_costs
from infra.cli.main import app
from infra.cli.stacks import STACKS
from infra.settings import load
from infra.settings.model import AwsCloud
from tidepool.prices.table import bundled
from tidepool.simulator import policies, swim, workloads
from tidepool.simulator.assumptions import NAMES, RULES, Assumptions, table

TEN_MINUTES = workloads.ten_minutes
DOCUMENT = swim.BUNDLED.with_name("README.md")
LINES = [f"job{number}\t{number * 400}\t400\t{number * 3_000_000_000}\t1000\t1000" for number in range(40)]


def tidepool(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(app, ["simulate", *arguments])


@pytest.fixture
def trace(tmp_path: Path) -> str:
    path = tmp_path / "ours.tsv"
    path.write_text("\n".join(LINES), encoding="utf-8")
    return str(path)


@pytest.fixture(autouse=True)
def few_ten_minute_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The 480 of them are the same in every test."""

    def few(seed: int, assumptions: Assumptions) -> workloads.Workload:
        whole = TEN_MINUTES(seed, assumptions)
        return workloads.Workload(whole.name, whole.words, whole.jobs[:24], 1)

    monkeypatch.setattr(workloads, "ten_minutes", few)


def document(*arguments: str) -> dict[str, Any]:
    shown = tidepool(*arguments, "--json")
    assert shown.exit_code == 0, shown.stderr
    found: dict[str, Any] = json.loads(shown.stdout)
    return found


def test_help_has_examples_and_names_the_other_simulation() -> None:
    shown = tidepool("--help")
    assert shown.exit_code == 0
    assert "tidepool simulate --trace fb-2009-0" in shown.stdout
    assert "deadlines" in shown.stdout


@pytest.mark.parametrize("width", ["120", "60", "40"])
def test_tables_fit_the_terminal_and_no_figure_is_cut(trace: str, width: str) -> None:
    shown = CliRunner(env={"COLUMNS": width}).invoke(app, ["simulate", "--trace", trace])
    assert shown.exit_code == 0
    lines = [line for line in shown.stdout.splitlines() if str(Path(trace).parent) not in line]
    tables = [line for line in lines if line.startswith((*(f"{name} " for name in policies.NAMES), "policy "))]
    assert len(tables) >= 4 * 5
    assert max(map(len, tables)) <= int(width)
    assert "…" not in shown.stdout


def test_tables_fit_80_columns_and_every_assumption_is_listed_with_its_source(trace: str) -> None:
    shown = tidepool("--trace", trace)
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    assert all(len(line) <= 80 for line in lines if str(Path(trace).parent) not in line)
    for policy in policies.NAMES:
        assert sum(line.startswith(f"{policy} ") for line in lines) == 4
    for name in NAMES:
        assert f"- {name}=" in shown.stdout
    whole = " ".join(shown.stdout.split())
    assert all(rule in whole for rule in RULES)
    assert "simulated in" in shown.stderr


def test_the_same_seed_gives_the_same_document_to_the_last_digit(trace: str) -> None:
    first, again, other = (tidepool("--trace", trace, "--json", "--seed", seed).stdout for seed in ("3", "3", "4"))
    assert first == again != other


def test_in_every_row_the_savings_are_what_the_policy_costs_less_than_24x7(trace: str) -> None:
    rows = document("--trace", trace)["policies"]
    for row in rows:
        assert sum(row["savings"].values()) == pytest.approx(rows[0]["usd"] - row["usd"], abs=1e-9)
        assert sum(row["by_use"].values()) == pytest.approx(row["usd"], abs=1e-9)


def test_on_the_seed_profile_and_for_ten_minute_jobs_the_aims_are_met(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workloads, "ten_minutes", TEN_MINUTES)
    found = document()
    assert found["workload"]["name"] == "seed"
    saving, ratio = found["aims"]
    ours = next(row for row in found["policies"] if row["policy"] == "tidepool")
    assert (saving["value"], saving["is_met"]) == (ours["saving"], True)
    assert saving["value"] >= 0.8
    assert ratio["value"] <= 1.25
    assert ratio["is_met"]


def test_a_trace_on_which_tidepool_loses_says_so() -> None:
    shown = tidepool("--trace", "small", "--spot", "never")
    assert "- tidepool loses here: 24x7, on-demand, spot are cheaper" in shown.stdout
    assert "would be cheaper with a discount" not in shown.stdout


def test_a_reservation_is_taken_off_the_24x7_clusters_machines(trace: str) -> None:
    usual, reserved = (
        document("--trace", trace)["policies"],
        document("--trace", trace, "--discount", "0.5")["policies"],
    )
    assert 0.5 < reserved[0]["usd"] / usual[0]["usd"] < 0.53  # its volumes cost the same
    assert reserved[3]["usd"] == usual[3]["usd"]


def test_assumptions_and_settings_can_be_replaced(trace: str) -> None:
    found = document("--trace", trace, "--assume", "boot_seconds=600", "--unneeded-time", "1m30s", "--spot", "always")
    assert found["assumptions"]["boot_seconds"]["value"] == 600
    assert set(found["unneeded_seconds"].values()) == {90.0}
    usual = document("--trace", trace, "--unneeded-time", "1m30s", "--spot", "always")
    assert found["policies"][3]["by_use"]["start"] > 2 * usual["policies"][3]["by_use"]["start"]


def test_a_price_list_comes_before_the_bundled_one(trace: str, tmp_path: Path) -> None:
    prices = tmp_path / "prices.csv"
    rows = [f"us-east-1,,{kind}.4xlarge,on-demand,,7.5,test" for kind in ("m6a", "m6i")]
    prices.write_text(
        "region,zone,instance_type,market,since,usd_per_hour,source\n" + "\n".join(rows), encoding="utf-8"
    )
    dear, usual = document("--trace", trace, "--prices", str(prices)), document("--trace", trace)
    assert dear["policies"][0]["usd"] > 5 * usual["policies"][0]["usd"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--trace", "nothing"], "there is no trace 'nothing': neither a file nor one of seed, busy, small"),
        (["--trace", "none.tsv"], "none.tsv: No such file"),
        (["--spot", "nothing"], "there is no file 'nothing'; built in are always, ample"),
        (["--stack", "existing.yaml"], "there is no file existing.yaml"),
        (["--stack", "nothing"], "no stack 'nothing'; the stacks are dev, local, prod, staging"),
        (["--unneeded-time", "soon"], "must be a duration such as 90s, 10m or 1h30m, not 'soon'"),
        (["--assume", "boot=1", "--assume", "pull_seconds=-1"], "there is no assumption 'boot'"),
        (["--assume", "pull_seconds=-1"], "pull_seconds: must be a number of at least 0, not -1"),
        (["--prices", "none.csv"], "none.csv: No such file or directory; a price list is a CSV file with the columns"),
    ],
)
def test_what_can_not_be_is_named_with_what_can(arguments: list[str], said: str) -> None:
    shown = tidepool(*arguments)
    assert shown.exit_code == (2 if "--stack" in arguments else 1)
    assert said in " ".join(shown.stderr.split())
    assert shown.stdout == ""


def test_a_broken_trace_is_named_with_file_line_and_what_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "broken.tsv"
    path.write_text("a\tsoon\t0\t1\t1\t1\n", encoding="utf-8")
    shown = tidepool("--trace", str(path))
    assert shown.exit_code == 1
    assert f"{path}:1: submit: must be seconds, a number and not negative, not 'soon'" in shown.stderr


def test_jobs_that_fit_no_machine_are_refused_with_what_there_is(trace: str) -> None:
    shown = tidepool("--trace", trace, "--assume", "core_memory_bytes=9e9")
    assert shown.exit_code == 1
    assert "has 16 cores and 134.1 GiB" in shown.stderr


@pytest.mark.parametrize("arguments", [["--seed", "x"], ["--discount", "1"], ["--max-machines", "0"]])
def test_options_out_of_range_are_refused(arguments: list[str]) -> None:
    assert tidepool(*arguments).exit_code == 2


def test_options_before_the_other_simulation_are_refused_and_not_ignored() -> None:
    shown = tidepool("--seed", "3", "deadlines", "none.tsv")
    assert shown.exit_code == 2
    assert "give options after deadlines, not before it" in shown.stderr


def test_ctrl_c_ends_it_without_a_traceback() -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.cli.main", "simulate", "--trace", "large"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stderr is not None
    assert "10,000 jobs" in process.stderr.readline()  # it says so once it has worked for two seconds
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert out == ""


def test_the_simulated_autoscaler_has_the_flags_that_infra_sets() -> None:
    ours = {
        "scan-interval": policies.OURS.scan_interval,
        "scale-down-delay-after-add": policies.OURS.delay_after_add,
        "initial-node-group-backoff-duration": policies.OURS.first_backoff,
        "max-node-group-backoff-duration": policies.OURS.longest_backoff,
        "node-group-backoff-reset-timeout": policies.OURS.backoff_reset,
    }
    assert int(FLAGS["max-scale-down-parallelism"]) == policies.OURS.at_once
    assert {flag: simulate_costs._seconds(FLAGS[flag]) for flag in ours} == ours


def test_the_pools_of_a_stack_are_simulated_with_their_own_idle_time_and_volumes(trace: str) -> None:
    cloud = load(STACKS / "Pulumi.prod.yaml").cloud
    assert isinstance(cloud, AwsCloud)
    found = document("--trace", trace)["unneeded_seconds"]
    wanted = {name: simulate_costs._seconds(pool.unneeded_time) for name, pool in cloud.pools.items() if not pool.gpus}
    assert found == wanted


def test_the_documented_results_are_what_the_documented_commands_print() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    blocks = re.findall(r"```\n\$ ./tidepool simulate ?(.*)\n((?:.+\n)+)```", text)
    assert len(blocks) == 6
    for arguments, shown in blocks:
        printed = [line.rstrip() for line in tidepool(*arguments.split()).stdout.splitlines()]
        first = next(number for number, line in enumerate(printed) if line.startswith("policy"))
        assert "\n".join(printed[first : first + 5]) == shown.rstrip(), arguments


def test_every_assumption_is_documented_with_its_value_and_source() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, value, meaning, source in table(Assumptions()):
        assert f"| `{name}` | {value:.6g} | {meaning} | {source} |" in text
    assert all(f"- {rule}\n" in text for rule in RULES)


def test_every_machine_of_the_shipped_stacks_has_a_price() -> None:
    for stack in ("dev", "staging", "prod"):
        capacity, volumes, unneeded = simulate_costs._stack(stack)
        assert policies.machine_pools(capacity, bundled(), volumes, unneeded, 10)
