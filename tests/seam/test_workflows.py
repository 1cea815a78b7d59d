"""The workflows against the repository: environments, commands, versions and rights. None of them has run yet."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from infra import settings
from infra.cli import main
from infra.settings.model import AwsCloud

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
NODE_24 = {
    "actions/checkout": 5,
    "aws-actions/configure-aws-credentials": 6,
    "docker/setup-buildx-action": 4,
    "docker/setup-qemu-action": 4,
    "pulumi/actions": 7,
}
"""The first major version of an action that runs on Node 24: GitHub's runners have had no Node 20 since autumn 2026."""

each = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def read(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


ACTION = re.compile(r"uses: (?P<action>[\w-]+/[\w-]+)@(?P<commit>\w+) # v(?P<version>\d+)\.\d+\.\d+")
"""An action by the commit of a release, which nobody can move as one can a tag, with the release beside it."""


def steps(file: Path) -> list[dict[str, Any]]:
    return [step for job in read(file)["jobs"].values() for step in job["steps"]]


def workflow(name: str) -> Any:
    """By its file's name. YAML 1.1 reads its key `on` as true."""
    return read(ROOT / ".github" / "workflows" / f"{name}.yml")


def on_aws() -> list[str]:
    """The environments that are deployed to AWS: all stack files but the local one."""
    stacks = {file.name.split(".")[1]: settings.load(file) for file in (ROOT / "stacks").glob("Pulumi.*.yaml")}
    return [name for name, loaded in stacks.items() if isinstance(loaded.cloud, AwsCloud) and name != "local"]


@each
def test_a_workflow_may_only_read_the_repository_unless_one_of_its_jobs_says_more(file: Path) -> None:
    workflow = read(file)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        takes_a_role = any("configure-aws-credentials" in step.get("uses", "") for step in job["steps"])
        comments = any(step.get("with", {}).get("comment-on-pr") for step in job["steps"])
        wanted = {"contents": "read"}
        wanted |= {"id-token": "write"} if takes_a_role else {}
        wanted |= {"pull-requests": "write"} if comments else {}
        assert job.get("permissions", {"contents": "read"}) == wanted


@each
def test_every_job_ends_and_leaves_no_token_behind(file: Path) -> None:
    for job in read(file)["jobs"].values():
        assert job["timeout-minutes"] <= 110
    for step in steps(file):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"] == {"persist-credentials": False}


@each
def test_every_action_is_known_and_runs_on_todays_runners(file: Path) -> None:
    used = [line.strip() for line in file.read_text().splitlines() if re.match(r"\s*(- )?uses:", line)]
    assert len(used) == sum("uses" in step for step in steps(file))
    for line in used:
        found = ACTION.search(line)
        assert found, line
        assert re.fullmatch(r"[0-9a-f]{40}", found["commit"]), line
        assert int(found["version"]) >= NODE_24[found["action"]], line


def test_one_release_of_an_action_is_one_commit_everywhere() -> None:
    lines = [line for file in FILES for line in file.read_text().splitlines()]
    found = [match for line in lines if (match := ACTION.search(line))]
    assert len({(each["action"], each["commit"]) for each in found}) == len({each["action"] for each in found})


@each
def test_every_command_of_a_workflow_exists(file: Path) -> None:
    for step in steps(file):
        for line in re.findall(r"\./tidepool ([^&|;#\n]+)", step.get("run", "")):
            command: Any = typer.main.get_command(main.app)
            for word in line.split():
                if hasattr(command, "commands"):
                    command = command.commands[word]


@each
def test_nothing_that_somebody_typed_is_pasted_into_a_shell(file: Path) -> None:
    assert [step["run"] for step in steps(file) if "${{" in step.get("run", "")] == []


def test_all_environments_on_aws_are_previewed_and_can_be_deployed() -> None:
    previewed = workflow("preview")["jobs"]["preview"]["strategy"]["matrix"]["environment"]
    offered = workflow("deploy")[True]["workflow_dispatch"]["inputs"]["environment"]["options"]
    assert sorted(previewed) == sorted(offered) == sorted(on_aws())


def test_pulumi_is_the_version_that_the_program_is_written_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = {f"pulumi=={step['with']['pulumi-version']}" for file in FILES for step in steps(file) if is_pulumi(step)}
    assert pinned <= set(project["dependencies"])
    assert len(pinned) == 1
    (version,) = {each.partition("==")[2] for each in pinned}
    assert yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["requiredPulumiVersion"] == f">={version}"
    assert f"({version} or later)" in (ROOT / "stacks" / "README.md").read_text()


def is_pulumi(step: dict[str, Any]) -> bool:
    return bool(step.get("uses", "").startswith("pulumi/actions@"))


def test_a_role_lasts_longer_than_the_job_that_deploys_with_it() -> None:
    job = workflow("deploy")["jobs"]["deploy"]
    (seconds,) = [
        step["with"]["role-duration-seconds"] for step in job["steps"] if "aws-actions" in step.get("uses", "")
    ]
    assert seconds >= job["timeout-minutes"] * 60


def test_who_approves_a_deployment_sees_what_it_would_change() -> None:
    jobs = workflow("deploy")["jobs"]
    assert jobs["deploy"]["needs"] == "plan"
    assert jobs["plan"]["environment"] == f"preview-{jobs['deploy']['environment']}", "with a role that changes nothing"
    (shown,) = [step["with"] for step in jobs["plan"]["steps"] if step.get("with", {}).get("command")]
    (done,) = [step["with"] for step in jobs["deploy"]["steps"] if step.get("with", {}).get("command")]
    assert (shown.pop("command"), shown.pop("comment-on-summary"), done.pop("command")) == ("preview", True, "up")
    assert shown == done


@pytest.mark.parametrize("name", ["preview", "deploy"])
def test_whatever_the_program_is_made_of_starts_its_workflows(name: str) -> None:
    event = {"preview": "pull_request", "deploy": "push"}[name]
    paths = {path.removesuffix("/**") for path in workflow(name)[True][event]["paths"]}
    made_of = {"infra", "stacks", "dags", "images", "Pulumi.yaml", "pyproject.toml", "uv.lock", "tidepool"}
    assert paths == made_of | {f".github/workflows/{name}.yml"}
    assert [path for path in paths if not (ROOT / path).exists()] == []
