"""Nothing false is said of the examples: every kind of job, wherever the images and pools for it are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from infra import contract, settings
from infra.cli import check, dag_pods
from infra.contract import dag_source, scheduling
from infra.settings import stack_file

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "dags" / "examples"
BASE = Path(__file__).with_name("mistakes") / "Pulumi.base.yaml"
STACKS = sorted((ROOT / "stacks").glob("Pulumi.*.yaml"))

EXISTING = """config:
  tidepool:owner: data
  tidepool:cluster: {kind: existing, name: lab}
  tidepool:pools:
    batch: {market: on-demand, max: 5, labels: {workload: batch}, cpu: 7910m, memory: 28Gi, ephemeral_storage: 80Gi,
      usd_per_hour: 0.4}
    gpu: {market: on-demand, max: 5, labels: {workload: gpu}, cpu: 7910m, memory: 28Gi, ephemeral_storage: 80Gi,
      usd_per_hour: 1.4, gpus: 1}
  tidepool:tenants: {jobs: {cpu: 32, memory_gib: 128, pods: 100}}
  tidepool:images: {references: {spark: "registry.example/spark:3f2a1bc"}}
  tidepool:jobs: {default_tenant: jobs}
  tidepool:lake: {uri: "s3a://lake/dev"}
"""

GPU_POOL = {"instance_types": ["g5.xlarge"], "market": "on-demand", "max": 2}


def with_all_that_the_examples_need(config: dict[str, Any]) -> dict[str, Any]:
    """An environment with the images dask and h2o, a pool with GPUs that its team may use, and the spark-operator."""
    changes: dict[str, Any] = {"spark_operator": True}
    changes[f"tenants.{config['tidepool:jobs']['default_tenant']}.gpus"] = 2
    if not config["tidepool:images"].get("build"):
        changes |= {f"images.references.{name}": f"registry.example/{name}:3f2a1bc" for name in ("dask", "h2o")}
    if not any("gpu" in pool for pool in config["tidepool:pools"]):
        changes |= {"pools.gpu": GPU_POOL, "quotas.gpu_on_demand_vcpus": 8}
    return stack_file.override(config, changes)


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("stacks")
    configs = {file.name: stack_file.read(file) for file in [BASE, *STACKS]}
    configs["Pulumi.lab.yaml"] = yaml.safe_load(EXISTING)["config"]
    for name, config in configs.items():
        (folder / name).write_text(yaml.safe_dump({"config": with_all_that_the_examples_need(config)}))
    return sorted(folder.iterdir())


def test_check_says_nothing_false_of_the_examples(stacks: list[Path]) -> None:
    results = check.run(stacks, EXAMPLES)
    assert len(results) == len(STACKS) + 2
    assert {each.stack: [str(problem) for problem in each.problems] for each in results if each.problems} == {}
    assert {(each.jobs, tuple(each.unread)) for each in results} == {(9, ())}


def test_preview_says_nothing_false_of_the_examples(stacks: list[Path]) -> None:
    for stack in stacks:
        loaded = settings.load(stack)
        assert contract.check(loaded, contract.planned(loaded), EXAMPLES) == []


def test_the_source_says_the_same_of_the_examples_as_airflow(stacks: list[Path]) -> None:
    base = next(each for each in stacks if each.name == BASE.name)
    capacity = contract.planned(settings.load(base))
    by_source = {each.where: each for each in dag_source.read(EXAMPLES, capacity).templates}
    by_airflow = {each.where: each for each in dag_pods.read(EXAMPLES, {"base": capacity})["base"].templates}
    assert by_source.keys() == by_airflow.keys() != set()
    several = 0
    for where, template in by_source.items():
        real = by_airflow[where]
        assert template.subject == real.subject
        assert template.schedule_timeout_seconds == real.schedule_timeout_seconds
        assert [(each.name, each.count) for each in template.members] == [
            (each.name, each.count) for each in real.members
        ]
        several += len(real.members)
        for one, other in zip(template.kinds(), real.kinds(), strict=True):
            assert scheduling.requests(one.pod) == scheduling.requests(other.pod)
            for part in ("affinity", "tolerations", "priorityClassName", "serviceAccountName"):
                assert one.pod["spec"][part] == other.pod["spec"][part], (where, part)
    assert several == 3
