"""The local cloud's stand-in for the Pulumi engine and its providers: it runs the real program and really creates.

The program runs in Pulumi's own test runtime (world_monitor). What it asks for is made in moto (world_aws), in the
local API server (world_kubernetes) or here (world_random), and kept in a state file, as Pulumi's engine does it
(world_engine): a second deploy touches only what changed, and removes what the program has no more. What this engine
can't make is an error, or listed with the reason; never a silence.

    python -m infra.local.world --stack stacks/Pulumi.local.yaml --moto URL --kubeconfig FILE --set images.spark=…

It can be started beside moto and the API server: while its slow imports run, it waits until the kubeconfig and both of
them are there. It prints JSON: the stack's `outputs`, what is `not_here`, and the `changes` it made.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
from botocore.exceptions import BotoCoreError, ClientError

from infra import settings
from infra.local import world_monitor
from infra.local.addresses import SERVICE_NETWORK
from infra.local.errors import LocalError
from infra.local.world_aws import Aws
from infra.local.world_eks import ControlPlane
from infra.local.world_engine import Changes, Side, World
from infra.local.world_kubernetes import ApiServer
from infra.local.world_random import Random
from infra.local.world_state import State
from infra.settings import stack_file
from infra.settings.model import AwsCloud

STATE_FILE = "stack.jsonl"
START_SECONDS = 120.0


@dataclass(frozen=True)
class Deployed:
    """What a deploy did. not_here: type, name and reason of what can't be had; of charts also where they come from."""

    outputs: dict[str, Any]
    not_here: list[dict[str, str]]
    changes: Changes


def deploy(path: Path, overrides: Mapping[str, Any], moto_url: str, kubeconfig: Path, state: Path) -> Deployed:
    """Deploy the stack file at `path` to moto and the API server of the kubeconfig.

    `overrides` as for settings.load. Waits at most START_SECONDS for each side to be there; moto is not asked for
    anything where the cluster is an existing one. Raises SettingsError before anything is made, or LocalError.
    """
    stack = settings.load(path, overrides)
    config = stack_file.override(stack_file.read(path), overrides)
    cloud = stack.cloud

    def connect() -> list[Side]:
        sides: list[Side] = [Random()]
        aws = Aws(moto_url, cloud.region) if isinstance(cloud, AwsCloud) else None
        if aws is not None:
            aws.wait(START_SECONDS)
            sides.append(aws)
        api_server = ApiServer(kubeconfig, START_SECONDS)
        sides.append(api_server)
        if aws is not None:
            aws.serve(control_plane(api_server))
        return sides

    with ThreadPoolExecutor(max_workers=1) as background:
        sides = background.submit(connect)
        _load_providers()
        return run(sides.result(), config, stack.environment, state)


def control_plane(api_server: ApiServer) -> ControlPlane:
    """The control plane as a cluster that EKS made."""
    return ControlPlane(
        endpoint=api_server.url,
        certificate_authority=api_server.certificate_authority,
        service_cidr=str(SERVICE_NETWORK),
        version=api_server.version(),
    )


def run(sides: Sequence[Side], config: Mapping[str, Any], environment: str, state: Path) -> Deployed:
    """Run the program against these sides. Errors of theirs and of the program come out unchanged.

    Whatever was made until then is in the state file; the next run goes on from there.
    """
    kept = State.open(state, {side.name: side.identity for side in sides if side.name})
    world = World(kept, sides)
    try:
        outputs = world_monitor.run(world, config, environment)
        world.remove_the_rest()
    finally:
        world.close()
        kept.close()
    return Deployed(outputs, world.not_here, world.changes)


def _load_providers() -> None:
    """Import what the program uses of the provider packages, which load at first use and take seconds."""
    import pulumi_aws
    import pulumi_eks
    import pulumi_kubernetes

    _ = (
        pulumi_aws.ec2.LaunchTemplate,
        pulumi_aws.autoscaling.Group,
        pulumi_eks.Cluster,
        pulumi_kubernetes.core.v1.Namespace,
        pulumi_kubernetes.rbac.v1.Role,
    )


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0 if everything is deployed, 1 with the reason on stderr if not."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.local.world", description="Deploy a stack to the local cloud."
    )
    parser.add_argument("--stack", type=Path, required=True, help="stacks/Pulumi.<environment>.yaml")
    parser.add_argument("--moto", required=True, help="URL of the moto server")
    parser.add_argument("--kubeconfig", type=Path, required=True, help="kubeconfig of the local API server")
    parser.add_argument("--state", type=Path, help=f"what is deployed; {STATE_FILE} beside the kubeconfig if not given")
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="a setting instead of the file's, repeatable"
    )
    given = parser.parse_args(arguments)
    gc.disable()  # a fifth of the time would go into looking for garbage in imports, and it ends in seconds
    overrides = dict(each.partition("=")[::2] for each in given.set)
    state = given.state or given.kubeconfig.parent / STATE_FILE
    try:
        deployed = deploy(given.stack, overrides, given.moto, given.kubeconfig, state)
    except (settings.SettingsError, LocalError, pulumi.RunError) as error:
        print(error, file=sys.stderr)
        return 1
    except (BotoCoreError, ClientError) as error:
        print(f"moto at {given.moto} did not do it: {error}; `tidepool local logs moto` may say why", file=sys.stderr)
        return 1
    print(json.dumps(dataclasses.asdict(deployed), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
