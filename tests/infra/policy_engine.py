"""Stands in for the Pulumi engine towards the policy pack. Run by the Python of the pack's own environment.

    python policy_engine.py PACK < resources.json > answer.json

resources: [{"type", "name", "protect", "inputs", "id"}]. The answer: the names of all policies, and what they report
as [policy, resource's name, message].
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import empty_pb2, json_format, struct_pb2
from pulumi.runtime.proto import analyzer_pb2 as proto
from pulumi.runtime.proto.analyzer_pb2_grpc import AnalyzerStub


def struct(inputs: dict[str, Any]) -> struct_pb2.Struct:
    return json_format.ParseDict(inputs, struct_pb2.Struct())


def urn(each: dict[str, Any]) -> str:
    return f"urn:pulumi:test::tidepool::{each['type']}::{each['name']}"


def ask(stub: Any, resources: list[dict[str, Any]]) -> list[list[str]]:
    """Each resource before it is made, then the whole stack, as the engine does."""
    answers = []
    for each in resources:
        options = proto.AnalyzerResourceOptions(protect=each["protect"])
        request = proto.AnalyzeRequest(
            type=each["type"], properties=struct(each["inputs"]), urn=urn(each), name=each["name"], options=options
        )
        answers += [(each["name"], found) for found in stub.Analyze(request).diagnostics]
    stack = proto.AnalyzeStackRequest(
        resources=[
            proto.AnalyzerResource(
                type=each["type"],
                properties=struct({**each["inputs"], "id": each["id"]}),
                urn=urn(each),
                name=each["name"],
                options=proto.AnalyzerResourceOptions(protect=each["protect"]),
            )
            for each in resources
        ]
    )
    answers += [(found.urn.rpartition("::")[2], found) for found in stub.AnalyzeStack(stack).diagnostics]
    return [[found.policyName, name, found.message] for name, found in answers]


def main() -> None:
    pack = Path(sys.argv[1]).resolve()
    process = subprocess.Popen([sys.executable, str(pack / "__main__.py")], stdout=subprocess.PIPE, cwd=pack)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = AnalyzerStub(channel)
            info = stub.GetAnalyzerInfo(empty_pb2.Empty())
            json.dump(
                {"policies": [each.name for each in info.policies], "violations": ask(stub, json.load(sys.stdin))},
                sys.stdout,
            )
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
