from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG
from kubernetes.client import models as k8s

SAFE = k8s.V1SecurityContext(
    run_as_non_root=True,
    allow_privilege_escalation=False,
    capabilities=k8s.V1Capabilities(drop=["ALL"]),
    seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault"),
)
ON_DEMAND = {"tidepool.dev/pool": "on-demand-small"}
TOLERATED = [k8s.V1Toleration(key="tidepool.dev/pool", operator="Equal", value="on-demand-small", effect="NoSchedule")]

with DAG(dag_id="host_path_volume", schedule=None):
    KubernetesPodOperator(
        task_id="load",
        namespace="tidepool-etl",
        image="registry.example/load:1",
        node_selector=ON_DEMAND,
        tolerations=TOLERATED,
        container_security_context=SAFE,
        schedule_timeout_seconds=1800,
        volumes=[k8s.V1Volume(name="lake", host_path=k8s.V1HostPathVolumeSource(path="/data"))],
    )
