"""The real program's Kubernetes objects on a real etcd and kube-apiserver of their own, beside any local cloud."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pulumi
import pytest

from infra import stack_file, versions
from infra.local import paths, toolchain, world
from infra.local.addresses import SERVICE_NETWORK
from infra.local.pki import Authority, service_account_keys
from infra.local.world_kubernetes import ApiServer

pytestmark = pytest.mark.local_cloud

STACK = Path(__file__).resolve().parents[2] / "stacks" / "Pulumi.local.yaml"
AIRFLOW = "system:serviceaccount:tidepool:airflow"
JOB = "system:serviceaccount:tidepool-jobs:job"


class KubernetesOnly(world.World):
    """Kubernetes objects for real; AWS's side is only made up."""

    def __init__(self, kubernetes: ApiServer) -> None:
        self.kubernetes = kubernetes
        answers = ("aws:ec2/launchTemplate:LaunchTemplate", "aws:autoscaling/group:Group")
        self._resources = {token: lambda inputs: ("id", {**inputs, "latestVersion": 1}) for token in answers}

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]]]:
        if args.token == world.GET_SUBNETS:
            return {"ids": ["subnet-1"]}, []
        network = {"vpcId": "vpc-1", "subnetIds": ["subnet-1"], "clusterSecurityGroupId": "sg-1"}
        return {
            "endpoint": self.kubernetes.url,
            "certificateAuthorities": [{"data": self.kubernetes.certificate_authority}],
            "kubernetesNetworkConfigs": [{"serviceIpv4Cidr": "10.96.0.0/16"}],
            "vpcConfig": network,
        }, []


class Cluster:
    """An API server's client that may do everything."""

    def __init__(self, api: ApiServer, authority: Authority) -> None:
        self.api = api
        context = ssl.create_default_context(cafile=str(authority.certificate))
        context.load_cert_chain(*authority.issue("admin", "admin", "system:masters"))
        self.http = httpx.Client(base_url=api.url, verify=context, trust_env=False)

    def deploy(self) -> dict[str, Any]:
        return world.run(KubernetesOnly(self.api), stack_file.read(STACK), "local")

    def get(self, path: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.http.get(path).raise_for_status().json()
        return answer

    def may(self, user: str, verb: str, resource: str, namespace: str) -> bool:
        kind, _, part = resource.partition("/")
        asked = {"verb": verb, "resource": kind, "subresource": part, "namespace": namespace}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": user, "groups": ["system:authenticated"], "resourceAttributes": asked},
        }
        answer = self.http.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", json=review)
        allowed: bool = answer.raise_for_status().json()["status"]["allowed"]
        return allowed


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    name = f"{versions.KUBERNETES}-coredns-{versions.COREDNS}-{toolchain.architecture()}"
    server, etcd = paths.cache() / "kubernetes" / name / "kube-apiserver", shutil.which("etcd")
    if not server.exists() or etcd is None:
        pytest.skip("etcd or kube-apiserver is not here; `tidepool local up` gets them")
    folder = tmp_path_factory.mktemp("cluster")
    authority = Authority(folder / "pki")
    certificate, key = authority.issue("kube-apiserver", "kube-apiserver", hosts=("127.0.0.1",))
    public, private = service_account_keys(folder / "pki")
    client, peer, port = free_ports(3)
    commands = [
        (
            etcd,
            f"--data-dir={folder}/etcd",
            f"--listen-client-urls=http://127.0.0.1:{client}",
            f"--advertise-client-urls=http://127.0.0.1:{client}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
        ),
        (
            str(server),
            f"--etcd-servers=http://127.0.0.1:{client}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--secure-port={port}",
            f"--client-ca-file={authority.certificate}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--service-account-key-file={public}",
            f"--service-account-signing-key-file={private}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--authorization-mode=RBAC",
            f"--service-cluster-ip-range={SERVICE_NETWORK}",
        ),
    ]
    kubeconfig = authority.kubeconfig(folder / "admin", "admin", "system:masters", server=f"https://127.0.0.1:{port}")
    with (folder / "log").open("wb") as log:
        running = [subprocess.Popen(command, cwd=folder, stdout=log, stderr=log) for command in commands]
        try:
            made = Cluster(ApiServer(kubeconfig, seconds=60), authority)
            made.deploy()
            yield made
        finally:
            for process in reversed(running):
                process.kill()
                process.wait()


def test_every_object_of_the_program_is_accepted_and_a_second_deploy_changes_none(cluster: Cluster) -> None:
    objects = (
        "/api/v1/namespaces/tidepool",
        "/api/v1/namespaces/tidepool-jobs",
        "/api/v1/namespaces/tidepool/serviceaccounts/airflow",
        "/api/v1/namespaces/tidepool/configmaps/tidepool-capacity",
        "/api/v1/namespaces/kube-system/configmaps/cluster-autoscaler-priority-expander",
        "/apis/rbac.authorization.k8s.io/v1/namespaces/tidepool-jobs/roles/job-launcher",
        "/apis/rbac.authorization.k8s.io/v1/namespaces/tidepool-jobs/rolebindings/job-launcher-airflow",
    )
    before = [cluster.get(path)["metadata"]["resourceVersion"] for path in objects]
    document = cluster.deploy()["capacity"]
    assert [cluster.get(path)["metadata"]["resourceVersion"] for path in objects] == before
    assert cluster.get(objects[3])["data"]["capacity.json"] == document
    assert json.loads(document)["cluster"] == "local"


@pytest.mark.parametrize("verb", ["create", "get", "list", "watch", "patch", "delete"])
def test_airflow_may_handle_pods_where_jobs_run_and_nowhere_else(cluster: Cluster, verb: str) -> None:
    allowed = {
        namespace: cluster.may(AIRFLOW, verb, "pods", namespace)
        for namespace in ("tidepool-jobs", "tidepool", "default", "kube-system", "")
    }
    assert allowed == {"tidepool-jobs": True, "tidepool": False, "default": False, "kube-system": False, "": False}


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("create", "pods/exec"),
        ("create", "pods/eviction"),
        ("get", "secrets"),
        ("create", "serviceaccounts"),
        ("create", "roles"),
        ("create", "deployments"),
        ("delete", "events"),
    ],
)
def test_airflow_may_do_nothing_but_handle_pods(cluster: Cluster, verb: str, resource: str) -> None:
    assert not cluster.may(AIRFLOW, verb, resource, "tidepool-jobs")


@pytest.mark.parametrize("resource", ["pods", "secrets", "configmaps"])
def test_a_job_may_ask_the_api_server_for_nothing(cluster: Cluster, resource: str) -> None:
    assert not cluster.may(JOB, "get", resource, "tidepool-jobs")
