"""The command lines of the control plane: etcd, the Kubernetes servers, CoreDNS and the AWS API (moto)."""

from __future__ import annotations

import sys
from pathlib import Path

from infra.local import addresses
from infra.local.pki import Authority, service_account_keys
from infra.local.supervisor import Program

AWS_ENVIRONMENT = {  # moto checks no credentials, but the SDKs want some; nothing here reaches AWS
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}

_COREFILE = """\
{domain}:53 in-addr.arpa:53 {{
    bind {host}
    errors
    cache 10
    kubernetes {domain} in-addr.arpa {{
        kubeconfig {kubeconfig}
        pods insecure
    }}
}}
"""


def programs(state: Path, binaries: Path, etcd: str) -> list[Program]:
    """The control plane's programs; writes the certificates, kubeconfigs and the Corefile that they read."""
    authority = Authority(state / "pki")
    return [
        _etcd(state, authority, etcd),
        _moto(state),
        _api_server(state, authority, binaries),
        *_controllers(state, authority, binaries),
        _coredns(state, authority, binaries),
    ]


def _etcd(state: Path, authority: Authority, etcd: str) -> Program:
    certificate, key = authority.issue("etcd", "etcd", hosts=("127.0.0.1",))
    tls = [f"--{kind}{flag}" for kind in ("", "peer-") for flag in (f"cert-file={certificate}", f"key-file={key}")]
    tls += [f"--{kind}trusted-ca-file={authority.certificate}" for kind in ("", "peer-")]
    command = (
        etcd,
        f"--data-dir={state}/etcd",
        f"--listen-client-urls={addresses.ETCD}",
        f"--advertise-client-urls={addresses.ETCD}",
        f"--listen-peer-urls={addresses.ETCD_PEER}",
        f"--initial-advertise-peer-urls={addresses.ETCD_PEER}",
        f"--initial-cluster=default={addresses.ETCD_PEER}",
        "--client-cert-auth",
        "--peer-client-cert-auth",
        *tls,
        "--unsafe-no-fsync",  # the cluster lives no longer than its machine
    )
    return Program("etcd", command, {}, state)


def _moto(state: Path) -> Program:
    """Not restarted: its state is in memory, and an empty AWS would look as if every machine had been ended."""
    command = (sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", addresses.MOTO.rpartition(":")[2])
    data = {"MOTO_EC2_LOAD_DEFAULT_AMIS": "true", "MOTO_IAM_LOAD_MANAGED_POLICIES": "true"}
    environment = AWS_ENVIRONMENT | data | {"PYTHONUNBUFFERED": "1"}
    return Program("moto", command, environment, state, restart=False)


def _api_server(state: Path, authority: Authority, binaries: Path) -> Program:
    hosts = (addresses.HOST, addresses.KUBERNETES_SERVICE, "127.0.0.1", "kubernetes", "kubernetes.default.svc")
    certificate, key = authority.issue("kube-apiserver", "kube-apiserver", hosts=hosts)
    etcd_certificate, etcd_key = authority.issue("etcd-client", "kube-apiserver")
    kubelet_certificate, kubelet_key = authority.issue("kubelet-client", "kube-apiserver", "system:masters")
    public, private = service_account_keys(state / "pki")
    command = (
        str(binaries / "kube-apiserver"),
        f"--etcd-servers={addresses.ETCD}",
        f"--etcd-cafile={authority.certificate}",
        f"--etcd-certfile={etcd_certificate}",
        f"--etcd-keyfile={etcd_key}",
        f"--bind-address={addresses.HOST}",
        f"--advertise-address={addresses.HOST}",
        "--secure-port=6443",
        f"--client-ca-file={authority.certificate}",
        f"--tls-cert-file={certificate}",
        f"--tls-private-key-file={key}",
        f"--service-account-key-file={public}",
        f"--service-account-signing-key-file={private}",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--authorization-mode=Node,RBAC",
        "--anonymous-auth=false",
        f"--service-cluster-ip-range={addresses.SERVICE_NETWORK}",
        "--enable-admission-plugins=NodeRestriction",
        "--kubelet-preferred-address-types=InternalIP",  # node names don't resolve on the host
        f"--kubelet-certificate-authority={authority.certificate}",
        f"--kubelet-client-certificate={kubelet_certificate}",
        f"--kubelet-client-key={kubelet_key}",
        "--shutdown-delay-duration=0s",
        "--profiling=false",
    )
    return Program("kube-apiserver", command, {}, state)


def _controllers(state: Path, authority: Authority, binaries: Path) -> list[Program]:
    _, private = service_account_keys(state / "pki")
    manager = authority.kubeconfig(state / "kube-controller-manager.kubeconfig", "system:kube-controller-manager")
    scheduler = authority.kubeconfig(state / "kube-scheduler.kubeconfig", "system:kube-scheduler")
    manager_command = (
        str(binaries / "kube-controller-manager"),
        f"--kubeconfig={manager}",
        f"--service-account-private-key-file={private}",
        f"--root-ca-file={authority.certificate}",
        "--use-service-account-credentials",
        f"--cluster-cidr={addresses.POD_NETWORK}",
        "--allocate-node-cidrs=false",  # each machine carries its own pod range
        "--leader-elect=false",
        "--secure-port=0",
        "--profiling=false",
    )
    scheduler_command = (
        str(binaries / "kube-scheduler"),
        f"--kubeconfig={scheduler}",
        "--leader-elect=false",
        "--secure-port=0",
        "--profiling=false",
    )
    return [
        Program("kube-controller-manager", manager_command, {}, state),
        Program("kube-scheduler", scheduler_command, {}, state),
    ]


def _coredns(state: Path, authority: Authority, binaries: Path) -> Program:
    """Answers for the cluster's own names only: nothing of the local cloud asks a resolver outside of it."""
    kubeconfig = authority.kubeconfig(state / "coredns.kubeconfig", "system:serviceaccount:kube-system:coredns")
    corefile = state / "Corefile"
    corefile.write_text(
        _COREFILE.format(domain=addresses.CLUSTER_DOMAIN, host=addresses.HOST, kubeconfig=kubeconfig),
    )
    return Program("coredns", (str(binaries / "coredns"), "-conf", str(corefile)), {}, state)
