"""What the whole program makes of a stack, recorded: for rules, golden files and counts over all environments.

    python -m tests.infra.recorded dev --preview

records in a process of its own, and prints counts by type, and the seconds it took, as JSON.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import resource
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.local import world_monitor
from infra.local.world_monitor import Registration
from infra.settings import stack_file

STACKS = Path(__file__).resolve().parents[2] / "stacks"
ALL = tuple(sorted(path.name.split(".")[1] for path in STACKS.glob("Pulumi.*.yaml")))

ACCOUNT = "123456789012"
REGISTRY = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com"
PARAMETER = "aws:ssm/getParameter:getParameter"
LOOK_UPS: dict[str, dict[str, Any]] = {
    "aws:index/getCallerIdentity:getCallerIdentity": {"accountId": ACCOUNT, "arn": f"arn:aws:iam::{ACCOUNT}:root"},
    PARAMETER: {"insecureValue": "ami-0123456789abcdef0", "value": "ami-0123456789abcdef0"},
    "aws:ecr/getAuthorizationToken:getAuthorizationToken": {"userName": "AWS", "password": "token"},
}
API_SERVER = {"server": "https://0123456789.gr7.us-east-1.eks.amazonaws.com", "certificate-authority-data": "Q0E="}
KUBECONFIG = {"clusters": [{"name": "cluster", "cluster": API_SERVER}]}

OUTPUTS: dict[str, Callable[[str, Mapping[str, Any]], dict[str, Any]]] = {
    "aws:cloudwatch/logGroup:LogGroup": lambda name, inputs: {
        "arn": f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:{inputs['name']}"
    },
    "aws:ec2/eip:Eip": lambda name, inputs: {"allocationId": f"eipalloc-{name}"},
    "aws:ec2/launchTemplate:LaunchTemplate": lambda name, inputs: {"latestVersion": 1},
    "aws:ecr/repository:Repository": lambda name, inputs: {"repositoryUrl": f"{REGISTRY}/{inputs['name']}"},
    "aws:rds/instance:Instance": lambda name, inputs: {"endpoint": f"{inputs['identifier']}.rds.example:5432"},
    "aws:s3/bucket:Bucket": lambda name, inputs: {"arn": f"arn:aws:s3:::{inputs['bucket']}"},
    "docker-build:index:Image": lambda name, inputs: {"ref": f"{inputs['tags'][0]}@sha256:{64 * '0'}"},
    "eks:index:Cluster": lambda name, inputs: {
        "clusterSecurityGroupId": "sg-cluster",
        "kubeconfigJson": json.dumps(KUBECONFIG),
    },
    "random:index/randomBytes:RandomBytes": lambda name, inputs: {"base64": "cmFuZG9t", "hex": "72616e646f6d"},
    "random:index/randomPassword:RandomPassword": lambda name, inputs: {"result": f"random-{name}"},
}
"""Outputs that no input gives, besides id, arn and name; ARNs where policies name something below them."""


@dataclass(frozen=True)
class Recorded:
    """One resource as the program registers it; components too. inputs: in the provider's names, secrets in plain.

    custom: made by a provider; of pulumi_eks.Cluster it is False, as of our own components. provider: `urn::id`.
    parent, dependencies: urns. secrets: inputs and outputs that the program keeps secret. In a preview, inputs that
    are not known yet are pulumi.output.Unknown.
    """

    typ: str
    name: str
    inputs: dict[str, Any]
    urn: str
    custom: bool
    provider: str
    parent: str
    dependencies: tuple[str, ...]
    secrets: frozenset[str]
    protect: bool
    retain_on_delete: bool
    ignore_changes: tuple[str, ...]


class Recorder:
    """A Handler of world_monitor that makes nothing. preview: before a first deployment, when nothing is there."""

    def __init__(self, preview: bool) -> None:
        self.preview = preview
        self.made: list[Recorded] = []

    def register(self, asked: Registration) -> tuple[str | None, Mapping[str, Any]]:
        self.made.append(
            Recorded(
                typ=asked.type,
                name=asked.name,
                inputs=asked.inputs,
                urn=asked.urn,
                custom=asked.custom,
                provider=asked.provider,
                parent=asked.parent,
                dependencies=asked.dependencies,
                secrets=asked.secrets,
                protect=asked.protect,
                retain_on_delete=asked.retain_on_delete,
                ignore_changes=asked.ignore_changes,
            )
        )
        if self.preview:
            return None, {} if asked.remote else asked.inputs
        return f"{asked.name}-id", outputs_of(asked.type, asked.name, asked.inputs)

    def read(self, type_: str, name: str, identity: str) -> tuple[str | None, Mapping[str, Any]]:
        raise AssertionError(f"nothing is looked up by id, but {type_} {identity} was")

    def call(self, token: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        assert token in LOOK_UPS, f"{token} is looked up; give it an answer in tests/infra/recorded.py"
        return LOOK_UPS[token]


def outputs_of(typ: str, name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Plausible outputs of a resource that is there."""
    known = {"arn": f"arn:aws:mock:us-east-1:{ACCOUNT}:{name}", "name": name}
    return {**known, **inputs, **(OUTPUTS[typ](name, inputs) if typ in OUTPUTS else {})}


def record(stack: str, preview: bool = False) -> list[Recorded]:
    """All resources of a stack by its name, in urn order. The program runs once for each in a session."""
    return list(_record(stack, preview)[0])


def outputs(stack: str, preview: bool = False) -> dict[str, Any]:
    """What the program exports; see world_monitor.run."""
    return dict(_record(stack, preview)[1])


def record_file(
    file: Path, overrides: Mapping[str, Any] | None = None, preview: bool = False
) -> tuple[list[Recorded], dict[str, Any]]:
    """The resources, in urn order, and the outputs of a stack file, with settings put at dotted paths."""
    recorder = Recorder(preview)
    config = stack_file.override(stack_file.read(file), overrides or {})
    exported = world_monitor.run(recorder, config, stack_file.environment(file), preview=preview)
    return sorted(recorder.made, key=lambda each: each.urn), exported


@functools.cache
def _record(stack: str, preview: bool) -> tuple[list[Recorded], dict[str, Any]]:
    return record_file(STACKS / f"Pulumi.{stack}.yaml", preview=preview)


def main() -> None:
    """Record one stack and say how long it took, imports included."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stack", choices=ALL)
    parser.add_argument("--preview", action="store_true")
    given = parser.parse_args()
    gc.disable()  # as the local cloud's engine: a fifth of the time would go into looking for garbage in imports
    started = time.monotonic()
    made = record(given.stack, given.preview)
    used = resource.getrusage(resource.RUSAGE_SELF)
    report = {
        "counts": dict(sorted(Counter(each.typ for each in made).items())),
        "seconds": round(time.monotonic() - started, 2),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
