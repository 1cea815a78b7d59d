"""The local cloud's stand-in for the Pulumi engine and its providers: it runs the real program and really creates.

Pulumi's own test runtime runs infra/__main__.py; what the program asks for is made in moto (launch templates, Auto
Scaling Groups) and in the local API server (by server-side apply). A second deploy brings what is there up to date.
What this engine can't make is an error, never a silence. Unlike Pulumi's own it keeps no state and removes nothing.

    python -m infra.local.world --stack stacks/Pulumi.local.yaml --moto URL --kubeconfig FILE --set images.spark=…

It can be started beside moto and the API server: while its slow imports run, it waits until the kubeconfig and both of
them are there. It prints the stack's outputs as JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import runpy
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pulumi
from botocore.exceptions import BotoCoreError, ClientError

from infra import naming, settings
from infra.local import world_aws
from infra.local.addresses import SERVICE_NETWORK, NotLocalError
from infra.local.world_aws import Aws, WorldError
from infra.local.world_kubernetes import ApiServer
from infra.settings import stack_file

PROGRAM = Path(__file__).resolve().parents[1] / "__main__.py"
START_SECONDS = 120.0
GET_CLUSTER = "aws:eks/getCluster:getCluster"
GET_SUBNETS = "aws:ec2/getSubnets:getSubnets"


class World(pulumi.runtime.Mocks):
    """Answers the program's registrations and look-ups by creating and asking."""

    def __init__(self, aws: Aws, kubernetes: ApiServer) -> None:
        self.aws = aws
        self.kubernetes = kubernetes
        self._resources = {
            "aws:ec2/launchTemplate:LaunchTemplate": aws.launch_template,
            "aws:autoscaling/group:Group": aws.group,
        }

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        """Create or update one resource; the id and the outputs."""
        inputs: dict[str, Any] = world_aws.plain(args.inputs)
        if not args.custom or args.typ == "pulumi:providers:kubernetes":  # a component; the one cluster there is
            return args.name, inputs
        if args.typ.startswith("kubernetes:") and "kind" in inputs:
            return self.kubernetes.apply(inputs), inputs
        make = self._resources.get(args.typ)
        if make is None:
            raise WorldError(
                f"{args.name}: the local cloud can't create {args.typ}; it can create "
                f"{', '.join(sorted(self._resources))} and Kubernetes objects. Teach it in infra/local/world.py."
            )
        return make(inputs)

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]]]:
        """Answer one look-up."""
        if args.token == GET_CLUSTER:
            return self.aws.cluster(
                name=args.args["name"],
                endpoint=self.kubernetes.url,
                certificate_authority=self.kubernetes.certificate_authority,
                service_cidr=str(SERVICE_NETWORK),
            ), []
        if args.token == GET_SUBNETS:
            return self.aws.subnets(args.args), []
        raise WorldError(f"the local cloud can't answer {args.token}; teach it in infra/local/world.py")


def deploy(path: Path, overrides: Mapping[str, Any], moto_url: str, kubeconfig: Path) -> dict[str, Any]:
    """Deploy the stack file at `path` to moto and the API server of the kubeconfig; the stack's outputs.

    `overrides` as for settings.load. Waits at most START_SECONDS for each side to be there. Raises SettingsError before
    anything is made, WorldError, or NotLocalError where an address is not one of this machine.
    """
    stack = settings.load(path, overrides)
    config = stack_file.override(stack_file.read(path), overrides)

    def connect() -> World:
        aws = Aws(moto_url, stack.region)
        aws.wait(START_SECONDS)
        return World(aws, ApiServer(kubeconfig, START_SECONDS))

    with ThreadPoolExecutor(max_workers=1) as background:
        world = background.submit(connect)
        _load_providers()
        return run(world.result(), config, stack.environment)


def _load_providers() -> None:
    """Import what the program uses of the provider packages, which load at first use and take seconds."""
    import pulumi_aws
    import pulumi_kubernetes

    _ = (
        pulumi_aws.ec2.LaunchTemplate,
        pulumi_aws.autoscaling.Group,
        pulumi_aws.eks.get_cluster_output,
        pulumi_kubernetes.core.v1.Namespace,
        pulumi_kubernetes.rbac.v1.Role,
    )


def run(world: pulumi.runtime.Mocks, config: Mapping[str, Any], environment: str) -> dict[str, Any]:
    """Run the program against a world; the stack's outputs. Errors of the world and the program come out unchanged."""
    outputs: dict[str, Any] = {}
    pulumi.runtime.set_mocks(world, project=naming.PROJECT, stack=environment)

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def program() -> pulumi.Output[Any]:
        runpy.run_path(str(PROGRAM), run_name="__main__")
        stack: Any = pulumi.runtime.get_root_resource()
        return pulumi.Output.all(**stack.outputs).apply(outputs.update)

    with _pulumi_config(config):
        program()
    return outputs


@contextlib.contextmanager
def _pulumi_config(config: Mapping[str, Any]) -> Iterator[None]:
    """The configuration where Pulumi's language host puts it: one variable, everything in it as text."""
    before = os.environ.get("PULUMI_CONFIG")
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()}
    os.environ["PULUMI_CONFIG"] = json.dumps(texts)
    try:
        yield
    finally:
        if before is None:
            del os.environ["PULUMI_CONFIG"]
        else:
            os.environ["PULUMI_CONFIG"] = before


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0 if everything is deployed, 1 with the reason on stderr if not."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.local.world", description="Deploy a stack to the local cloud."
    )
    parser.add_argument("--stack", type=Path, required=True, help="stacks/Pulumi.<environment>.yaml")
    parser.add_argument("--moto", required=True, help="URL of the moto server")
    parser.add_argument("--kubeconfig", type=Path, required=True, help="kubeconfig of the local API server")
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="a setting instead of the file's, repeatable"
    )
    given = parser.parse_args(arguments)
    overrides = dict(each.partition("=")[::2] for each in given.set)
    try:
        outputs = deploy(given.stack, overrides, given.moto, given.kubeconfig)
    except (settings.SettingsError, WorldError, NotLocalError, pulumi.RunError) as error:
        print(error, file=sys.stderr)
        return 1
    except (BotoCoreError, ClientError) as error:
        print(f"moto at {given.moto} did not do it: {error}; `tidepool local logs moto` may say why", file=sys.stderr)
        return 1
    print(json.dumps(outputs, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
