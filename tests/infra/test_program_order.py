"""What the whole program makes waits for what it needs, fits AWS's limits, and stays where it must."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tests.infra import recorded
from tests.infra.recorded import Recorded

LONGEST_NAMES = Path(__file__).parent / "cases" / "accepted" / "longest-names.yaml"


def test_the_longest_names_that_settings_let_through_fit_aws(tmp_path: Path) -> None:
    """Of a cluster and of a team. Pulumi adds eight characters to the name of a role."""
    made, _ = recorded.record_file(Path(shutil.copy(LONGEST_NAMES, tmp_path / "Pulumi.dev.yaml")))
    most: dict[str, Callable[[Recorded], bool]] = {
        "aws:iam/role:Role": lambda each: len(each.name) + 8 <= 64,
        "aws:iam/rolePolicy:RolePolicy": lambda each: len(each.name) + 8 <= 128,
        "aws:eks/nodeGroup:NodeGroup": lambda each: len(each.inputs["nodeGroupNamePrefix"]) <= 37,
        "aws:s3/bucket:Bucket": lambda each: len(each.inputs["bucket"]) <= 63,
        "aws:ec2/launchTemplate:LaunchTemplate": lambda each: len(each.inputs["name"]) <= 128,
        "kubernetes:core/v1:Namespace": lambda each: len(each.inputs["metadata"]["name"]) <= 63,
    }
    assert most.keys() <= {each.typ for each in made}
    assert [each.urn for each in made if each.typ in most and not most[each.typ](each)] == []
