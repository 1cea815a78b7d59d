from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG
from kubernetes.client import models as k8s

SAFE = k8s.V1SecurityContext(
    run_as_non_root=True,
    allow_privilege_escalation=False,
    capabilities=k8s.V1Capabilities(drop=["ALL"]),
    seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault"),
)
TERM = {"matchExpressions": [{"operator": "In", "values": ["on-demand-small"]}]}

with DAG(dag_id="affinity_without_a_key", schedule=None):
    KubernetesPodOperator(
        task_id="load",
        namespace="tidepool-etl",
        image="registry.example/load:1",
        affinity={
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [TERM]}},
        },
        container_security_context=SAFE,
        schedule_timeout_seconds=1800,
    )
