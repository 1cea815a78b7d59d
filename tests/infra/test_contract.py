"""The contract: seeded mistakes are found, all of them, and nothing is reported of what is sound.

Each folder of mistakes/ is one mistake: a DAG file, or a change of the sound environment mistakes/Pulumi.base.yaml.
"""

from __future__ import annotations

import base64
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra import contract, settings
from infra.aws import addons, machines
from infra.cli import check
from infra.contract import ContractError, Template, daemons, dag_source, environment, jobs, scheduling
from infra.contract.problem import Problem, by_place
from infra.services import gpu, termination_handler
from infra.settings.model import AwsCloud, Settings
from tests.infra import recorded
from tidepool import sizing
from tidepool.capacity import Capacity

ROOT = Path(__file__).resolve().parents[2]
DAGS = ROOT / "dags"
MISTAKES = Path(__file__).with_name("mistakes")
BASE = MISTAKES / "Pulumi.base.yaml"


@dataclass(frozen=True)
class Mistake:
    """One folder: what a message must say of it, what it changes in the stack file, its DAG file."""

    name: str
    says: str
    stack: dict[str, Any]
    dag: Path | None
    only_when_imported: bool


def read(folder: Path) -> Mistake:
    body = yaml.safe_load((folder / "mistake.yaml").read_text())
    dag = next(iter([*folder.glob("*.py"), *folder.glob("*.py.txt")]), None)
    return Mistake(
        folder.name, body["says"], body.get("stack", {}), dag, only_when_imported=body.get("only_when_imported", False)
    )


ALL = [read(folder) for folder in sorted(MISTAKES.iterdir()) if folder.is_dir()]
IN_DAGS = [each for each in ALL if each.dag]
IN_STACKS = [each for each in ALL if not each.dag]
READ_FROM_SOURCE = [each for each in IN_DAGS if not each.only_when_imported]


def name(mistake: Mistake) -> str:
    return mistake.name


def put(mistake: Mistake, folder: Path) -> Path:
    """The mistake's DAG file in a folder."""
    assert mistake.dag is not None
    return Path(shutil.copy(mistake.dag, folder / mistake.dag.name.removesuffix(".txt")))


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Problem]]:
    """What `tidepool check` finds of each mistake: all DAG files in one folder, all stack files with our own DAGs."""
    folder, dags = tmp_path_factory.mktemp("stacks"), tmp_path_factory.mktemp("dags")
    owners = {put(mistake, dags).name: mistake.name for mistake in IN_DAGS}
    (of_dags,) = check.run([BASE], dags)
    found: dict[str, list[Problem]] = {mistake.name: [] for mistake in ALL}
    for problem in of_dags.problems:
        found[owners[Path(problem.where.partition(":")[0]).name]].append(problem)
    files = []
    for mistake in IN_STACKS:
        config = settings.stack_file.override(settings.stack_file.read(BASE), mistake.stack)
        files.append(folder / f"Pulumi.{mistake.name}.yaml")
        files[-1].write_text(yaml.safe_dump({"config": config}))
    found |= {result.stack: result.problems for result in check.run(files, DAGS)}
    return found


def test_there_are_mistakes_enough() -> None:
    assert len(ALL) >= 25
    assert {"selector-that-no-pool-carries", "memory-that-ec2-sells"} <= {each.name for each in ALL}


@pytest.mark.parametrize("mistake", ALL, ids=name)
def test_check_finds_the_mistake_and_says_where_it_is(mistake: Mistake, checked: dict[str, list[Problem]]) -> None:
    told = [problem for problem in checked[mistake.name] if mistake.says in f"{problem.what}. {problem.do}"]
    assert told, "\n".join(map(str, checked[mistake.name])) or "nothing was found"
    if mistake.dag:
        assert re.search(rf"/{mistake.dag.name.removesuffix('.txt')}(:\d+)?$", told[0].where)
    else:
        assert f"Pulumi.{mistake.name}.yaml" in told[0].where


@pytest.mark.parametrize("mistake", READ_FROM_SOURCE, ids=name)
def test_preview_finds_the_mistake_in_the_source_of_the_dag_file(mistake: Mistake, tmp_path: Path) -> None:
    put(mistake, tmp_path)
    base = settings.load(BASE)
    with pytest.raises(ContractError, match=re.escape(mistake.says)):
        contract.check(base, contract.planned(base), tmp_path)


def preview(changes: dict[str, Any]) -> None:
    """What `pulumi preview` does before it makes anything."""
    stack = settings.load(BASE, changes)
    contract.check(stack, contract.planned(stack), DAGS)


@pytest.mark.parametrize("mistake", IN_STACKS, ids=name)
def test_preview_refuses_the_mistaken_stack(mistake: Mistake) -> None:
    with pytest.raises((settings.SettingsError, ContractError), match=re.escape(mistake.says)):
        preview(mistake.stack)


def test_nothing_is_reported_of_what_is_sound() -> None:
    stacks = sorted((ROOT / "stacks").glob("Pulumi.*.yaml"))
    results = check.run([BASE, *stacks], DAGS)
    assert {result.stack: [str(problem) for problem in result.problems] for result in results if result.problems} == {}
    assert all(result.jobs >= 3 and not result.unread for result in results)


@pytest.mark.parametrize("stack", [BASE, *sorted((ROOT / "stacks").glob("Pulumi.*.yaml"))], ids=lambda path: path.name)
def test_preview_lets_a_sound_stack_pass(stack: Path) -> None:
    loaded = settings.load(stack)
    contract.check(loaded, contract.planned(loaded), DAGS)


@pytest.fixture
def base() -> Settings:
    return settings.load(BASE)


@pytest.fixture
def capacity(base: Settings) -> Capacity:
    return contract.planned(base)


def rendered(base: Settings, pool: str) -> tuple[dict[str, str], str]:
    """Tags and user data of a pool as the program makes them."""
    assert isinstance(base.cloud, AwsCloud)
    body = base.cloud.pools[pool]
    (group,) = machines.groups("base", body)
    text = machines.machine_user_data(
        "base", body, endpoint="https://x", certificate_authority="Y2E=", service_cidr="10.96.0.0/16"
    )
    return machines.group_tags("base", group.name, body, {}), text


EXISTING = """config:
  tidepool:owner: data
  tidepool:cluster: {kind: existing, name: lab}
  tidepool:pools:
    batch:
      market: on-demand
      max: 5
      labels: {tidepool.dev/pool: batch}
      taints: [{key: dedicated, value: batch, effect: NoSchedule}]
      cpu: 7910m
      memory: 28Gi
      ephemeral_storage: 80Gi
      usd_per_hour: 0.4
  tidepool:tenants: {jobs: {cpu: 32, memory_gib: 128, pods: 100}}
  tidepool:images: {references: {spark: "registry.example/spark:3f2a1bc"}}
  tidepool:jobs: {default_tenant: jobs}
  tidepool:lake: {uri: "s3a://lake/dev"}
"""

TEMPLATE = "k8s.io/cluster-autoscaler/node-template/"


@pytest.mark.parametrize("pool", ["spot-small", "gpu"])
def test_tags_and_user_data_of_a_pool_agree_with_its_capacity(base: Settings, capacity: Capacity, pool: str) -> None:
    assert environment.disagreements(capacity.pools[pool], *rendered(base, pool)) == []


@pytest.mark.parametrize(
    ("tag", "value", "says"),
    [
        ("label/tidepool.dev/pool", "spot", "label: tidepool.dev/pool is 'spot' by the tags and 'spot-small'"),
        ("label/extra", "x", "label: extra is 'x' by the tags and None by the user data"),
        ("taint/tidepool.dev/pool", None, "taint: tidepool.dev/pool is None by the tags and 'spot-small:NoSchedule'"),
        ("taint/tidepool.dev/pool", "spot-small:NoExecute", "'spot-small:NoExecute' by the tags"),
        ("resources/cpu", "2", "cpu: 2000 by the tags, 1930 by the capacity document"),
        ("resources/memory", "8Gi", "memory: 8589934592 by the tags"),
        ("resources/ephemeral-storage", None, "ephemeral-storage: None by the tags"),
        ("resources/pods", "110", "pods: 110 by the tags, 20 by the user data"),
        ("resources/nvidia.com/gpu", "1", "nvidia.com/gpu: 1 by the tags, 0 by the capacity document"),
    ],
)
def test_a_tag_that_disagrees_is_named(
    base: Settings, capacity: Capacity, tag: str, value: str | None, says: str
) -> None:
    tags, text = rendered(base, "spot-small")
    changed = {key: each for key, each in tags.items() if key != TEMPLATE + tag}
    changed |= {TEMPLATE + tag: value} if value is not None else {}
    (found,) = environment.disagreements(capacity.pools["spot-small"], changed, text)
    assert says in found


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("--node-labels=tidepool.dev/pool=spot-small", "--node-labels=pool=spot-small", "label: pool is None by the"),
        ("=spot-small:NoSchedule", "=spot-small:PreferNoSchedule", "'spot-small:PreferNoSchedule' by the user data"),
        ("maxPods: 20", "maxPods: 58", "pods: 20 by the tags, 58 by the user data"),
    ],
)
def test_user_data_that_disagrees_is_named(base: Settings, capacity: Capacity, old: str, new: str, says: str) -> None:
    tags, text = rendered(base, "spot-small")
    assert old in text
    found = environment.disagreements(capacity.pools["spot-small"], tags, text.replace(old, new))
    assert any(says in each for each in found), found


@pytest.mark.parametrize("stack", recorded.ALL)
def test_what_the_program_makes_of_a_pool_agrees_with_what_jobs_are_told(stack: str) -> None:
    """The groups' tags and the user data of their launch templates as recorded, against the capacity document."""
    made = recorded.record(stack)
    capacity = contract.planned(settings.load(ROOT / "stacks" / f"Pulumi.{stack}.yaml"))
    templates = {each.name: each.inputs for each in made if each.typ == "aws:ec2/launchTemplate:LaunchTemplate"}
    groups = [each.inputs for each in made if each.typ == "aws:autoscaling/group:Group"]
    assert groups
    for group in groups:
        tags = {tag["key"]: tag["value"] for tag in group["tags"]}
        pool = capacity.pools[tags["tidepool.dev/pool"]]
        used = group.get("mixedInstancesPolicy", {}).get("launchTemplate", {}).get("launchTemplateSpecification")
        identity = (used or group["launchTemplate"]).get("launchTemplateId") or group["launchTemplate"]["id"]
        text = base64.b64decode(templates[identity.removesuffix("-id")]["userData"]).decode()
        assert environment.disagreements(pool, tags, text) == [], group["name"]


def test_a_sound_existing_cluster_passes(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.lab.yaml"
    file.write_text(EXISTING)
    stack = settings.load(file)
    contract.check(stack, contract.planned(stack), DAGS)


def test_an_existing_pool_whose_nodes_jobs_do_not_tolerate_or_fit_is_found(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.lab.yaml"
    file.write_text(EXISTING.replace("cpu: 7910m", "cpu: 600m"))
    stack = settings.load(file)
    with pytest.raises(ContractError, match="batch"):
        contract.check(stack, contract.planned(stack), DAGS)


def test_a_pool_that_the_capacity_document_lacks_is_named(base: Settings, capacity: Capacity) -> None:
    pools = {key: pool for key, pool in capacity.pools.items() if key != "gpu"}
    (found,) = contract.problems(base, replace(capacity, pools=pools), [])
    assert "pool gpu is not in the capacity document" in found.what


def test_sizing_leaves_the_daemons_of_every_machine_their_room(base: Settings) -> None:
    taken = daemons.total(daemons.on_machine(base, gpus=1))
    assert taken.cpu_millis <= sizing.DAEMON_CPU_MILLIS
    assert taken.memory_bytes <= sizing.DAEMON_MEMORY_BYTES


def test_our_own_charts_request_what_the_contract_reckons_with() -> None:
    for values, daemon in (
        (termination_handler.values(), daemons.TERMINATION_HANDLER),
        (gpu.values([{"a": "b"}]), daemons.DEVICE_PLUGIN),
    ):
        assert scheduling.amount(values["resources"]["requests"]) == daemon.amount


def test_the_addons_that_run_on_every_machine_are_reckoned_with() -> None:
    names = {"vpc-cni": "aws-node", "aws-ebs-csi-driver": "ebs-csi-node"}
    addons_with_daemons = {each.name for each in (*addons.for_nodes(), *addons.for_system({}))} - {"coredns"}
    assert {names.get(each, each) for each in addons_with_daemons} == {each.name for each in daemons.ADDONS}


def test_daemons_that_sizing_leaves_no_room_are_reported(
    base: Settings, capacity: Capacity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizing, "DAEMON_CPU_MILLIS", 100)
    rules = {problem.rule for problem in contract.problems(base, capacity, [])}
    assert "daemons" in rules


def test_problems_come_by_file_and_line_each_once() -> None:
    first, second = Problem("dags/a.py:9", "r", "w", "d"), Problem("dags/a.py:10", "r", "w", "d")
    assert by_place([second, first, second]) == [first, second]


def test_what_only_running_the_file_tells_is_listed_and_not_judged(capacity: Capacity, tmp_path: Path) -> None:
    (tmp_path / "dynamic.py").write_text(
        "from tidepool import SparkPodOperator\n"
        "def build(size, **more):\n"
        "    SparkPodOperator(task_id='a', application='a.py', memory=size)\n"
        "    SparkPodOperator(task_id='b', application='a.py', **more)\n"
    )
    reading = dag_source.read(tmp_path, capacity)
    assert (reading.templates, reading.problems) == ([], [])
    assert reading.unread == [
        f"{tmp_path.name}/dynamic.py:3: task 'a': memory not known before the file runs",
        f"{tmp_path.name}/dynamic.py:4: arguments by **",
    ]


def test_dag_files_are_looked_for_where_airflow_looks(tmp_path: Path) -> None:
    for name in ("a.py", "team/b.py", "lib/c.py", "deep/lib/d.py", "team/old_e.py", "jobs/f.py", "deep/jobs/g.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / ".airflowignore").write_text("# not DAGs\nlib/\n\n/jobs/\nold_*\n")
    found = [file.relative_to(tmp_path).as_posix() for file in dag_source.files(tmp_path)]
    assert found == ["a.py", "deep/jobs/g.py", "team/b.py"]
    assert [file.name for file in dag_source.files(DAGS)] == [file.name for file in sorted(DAGS.glob("*.py"))]


def test_a_mistake_in_a_folder_of_its_own_is_found_by_both_readings(tmp_path: Path) -> None:
    (tmp_path / "team").mkdir()
    mistake = next(each for each in ALL if each.name == "stock-timeout")
    put(mistake, tmp_path / "team")
    (result,) = check.run([BASE], tmp_path)
    (problem,) = result.problems
    assert problem.where == f"{tmp_path.name}/team/stock_timeout.py:15"
    assert result.jobs == 1


def test_an_operator_that_the_reading_does_not_know_is_listed_and_not_passed_over(
    capacity: Capacity, tmp_path: Path
) -> None:
    (tmp_path / "new.py").write_text(
        "from tidepool import SomeClusterOperator as Cluster\nCluster(task_id='a', application='a.py')\n"
    )
    reading = dag_source.read(tmp_path, capacity)
    assert reading.unread == [
        f"{tmp_path.name}/new.py:2: task 'a': what SomeClusterOperator launches is not known before the file runs"
    ]


def test_the_source_says_the_same_of_our_dags_as_airflow(base: Settings, capacity: Capacity) -> None:
    from infra.cli import dag_pods

    by_source = {each.subject: each for each in dag_source.read(DAGS, capacity).templates}
    by_airflow = {each.subject: each for each in dag_pods.read(DAGS, {"base": capacity})["base"].templates}
    assert by_source.keys() == by_airflow.keys() != set()
    for subject, template in by_source.items():
        real = by_airflow[subject]
        assert template.where == real.where
        assert template.schedule_timeout_seconds == real.schedule_timeout_seconds
        assert scheduling.requests(template.pod) == scheduling.requests(real.pod)
        for part in ("affinity", "tolerations", "priorityClassName", "serviceAccountName"):
            assert template.pod["spec"][part] == real.pod["spec"][part], part


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "tidepool-etl"}, "spec": {"containers": [{"name": "base"}], **spec}}


def test_a_pod_asks_for_its_containers_together_or_its_largest_init_container() -> None:
    asked = scheduling.requests(
        {
            "spec": {
                "initContainers": [
                    {"resources": {"requests": {"cpu": "3", "memory": "1Gi"}}},
                    {"restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
                ],
                "containers": [
                    {"resources": {"requests": {"cpu": "500m"}, "limits": {"cpu": "1", "memory": "2Gi"}}},
                    {"resources": {"limits": {"cpu": "250m", "nvidia.com/gpu": 1}}},
                ],
                "overhead": {"cpu": "10m"},
            }
        }
    )
    assert asked == scheduling.Amount(cpu_millis=3010, memory_bytes=2 * 1024**3, gpus=1)


@pytest.mark.parametrize(
    ("expression", "taken"),
    [
        ({"key": "tidepool.dev/pool", "operator": "In", "values": ["x", "spot-small"]}, True),
        ({"key": "tidepool.dev/pool", "operator": "NotIn", "values": ["spot-small"]}, False),
        ({"key": "absent", "operator": "NotIn", "values": ["a"]}, True),
        ({"key": "tidepool.dev/pool", "operator": "Exists"}, True),
        ({"key": "absent", "operator": "Exists"}, False),
        ({"key": "absent", "operator": "DoesNotExist"}, True),
        ({"key": "node.kubernetes.io/instance-type", "operator": "In", "values": ["m6i.large"]}, True),
        ({"key": "kubernetes.io/arch", "operator": "In", "values": ["arm64"]}, False),
        ({"key": "tidepool.dev/pool", "operator": "Gt", "values": ["1"]}, False),
    ],
)
def test_required_node_affinity_is_read_as_the_scheduler_does(
    capacity: Capacity, expression: dict[str, Any], taken: bool
) -> None:
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    found = scheduling.refusals(
        pod(affinity=affinity, tolerations=[{"operator": "Exists"}]), capacity.pools["spot-small"], scheduling.Amount()
    )
    assert (found == []) is taken


@pytest.mark.parametrize(
    ("toleration", "taken"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "tidepool.dev/pool", "operator": "Exists"}, True),
        ({"key": "tidepool.dev/pool", "value": "spot-small"}, True),
        ({"key": "tidepool.dev/pool", "operator": "Equal", "value": "spot-small", "effect": "NoSchedule"}, True),
        ({"key": "tidepool.dev/pool", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "other", "operator": "Exists"}, False),
        ({"key": "tidepool.dev/pool", "value": "gpu"}, False),
    ],
)
def test_tolerations_are_read_as_the_scheduler_does(
    capacity: Capacity, toleration: dict[str, Any], taken: bool
) -> None:
    found = scheduling.refusals(pod(tolerations=[toleration]), capacity.pools["spot-small"], scheduling.Amount())
    assert (found == []) is taken


def test_an_existing_clusters_pools_are_checked_by_the_labels_they_carry(base: Settings, capacity: Capacity) -> None:
    """A job of the library selects machines by labels that the pools of the cluster really have."""
    labelled = replace(capacity.pools["spot-small"], labels={"cloud.google.com/gke-nodepool": "spot"})
    found = scheduling.refusals(
        pod(nodeSelector={"cloud.google.com/gke-nodepool": "spot"}, tolerations=[{"operator": "Exists"}]),
        labelled,
        scheduling.Amount(),
    )
    assert found == []


def test_a_templated_namespace_and_image_are_left_to_the_run(base: Settings, capacity: Capacity) -> None:
    template = Template(
        "dags/a.py:1",
        "task 'a'",
        {
            "metadata": {"namespace": "{{ var.value.space }}"},
            "spec": {
                "nodeSelector": {"tidepool.dev/pool": "on-demand-small"},
                "tolerations": [{"key": "tidepool.dev/pool", "value": "on-demand-small"}],
                "containers": [{"name": "base", "image": "{{ params.image }}"}],
            },
        },
    )
    assert list(jobs.problems(template, base, capacity)) == []
