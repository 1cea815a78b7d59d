"""The Pulumi program: one environment, from its stack file. The cloud comes first, then what runs on any Kubernetes."""

from pathlib import Path

import pulumi

from infra import capacity_document, clouds, contract, naming, settings
from infra.contract import ContractError
from infra.services import hdfs_config
from infra.services.airflow import Airflow, AirflowArgs
from infra.services.autoscaler import Autoscaler, AutoscalerRelease
from infra.services.gpu import DevicePlugin
from infra.services.hdfs import Hdfs, HdfsArgs
from infra.services.history_server import HistoryServer, HistoryServerArgs
from infra.services.keeper import Keeper, KeeperArgs
from infra.services.monitoring import Monitoring, MonitoringArgs
from infra.services.placement import Placement
from infra.services.platform import Platform
from infra.services.priority import PriorityClasses
from infra.services.spark_operator import SparkOperator
from infra.services.tenants import Tenants
from infra.services.termination_handler import TerminationHandler
from infra.settings import SettingsError
from tidepool import capacity

DAGS = Path(__file__).resolve().parents[1] / "dags"

try:
    stack = settings.from_pulumi()
    for unread in contract.check(stack, contract.planned(stack), DAGS):
        pulumi.log.warn(f"not checked here, but by `tidepool check`: {unread}")
except (SettingsError, ContractError) as error:
    raise pulumi.RunError(str(error)) from None

cloud = clouds.create(stack)
system = Placement(cloud.system_selector, cloud.system_taints)
services, charts = stack.services, stack.services.chart_sources
inside = pulumi.ResourceOptions(provider=cloud.provider)

hadoop = hdfs_config.client_settings(services.hdfs) if services.hdfs else {}
known = pulumi.Output.all(lake=cloud.lake, event_logs=cloud.event_logs, images=cloud.images)
document = known.apply(
    lambda facts: capacity.dumps(
        capacity_document.build(
            stack,
            facts["lake"],
            facts["images"],
            capacity_document.spark_conf(hadoop, facts["event_logs"] if services.history_server else ""),
        )
    )
)

platform = Platform("platform", document, cloud.identity.get(naming.AIRFLOW_SERVICE_ACCOUNT), opts=inside)
tenants = Tenants(
    "tenants", stack.tenants, cloud.identity.get(naming.JOB_SERVICE_ACCOUNT), services.spark_operator, inside
)
classes = PriorityClasses("priority", opts=inside)
before = [platform, tenants, classes, *cloud.before_services]
after = pulumi.ResourceOptions(provider=cloud.provider, depends_on=before)

if cloud.autoscaler:
    identity = cloud.identity.get(naming.AUTOSCALER_SERVICE_ACCOUNT, {})
    release = AutoscalerRelease(cloud.autoscaler.values, system, identity, charts)
    Autoscaler("autoscaler", cloud.autoscaler.priorities, release, opts=inside)
if cloud.reclaim_notices:
    TerminationHandler("termination-handler", charts, opts=inside)
if cloud.gpu_selectors:
    DevicePlugin("device-plugin", cloud.gpu_selectors, charts, opts=inside)
if services.hdfs:
    Hdfs("hdfs", HdfsArgs(services.hdfs, cloud.images["hdfs"], system, cloud.storage_class, {}), opts=after)
has_keeper = services.keeper is not None and services.keeper.replicas > 0
if services.monitoring:
    monitoring = MonitoringArgs(services.monitoring, system, cloud.storage_class, charts, has_keeper)
    Monitoring("monitoring", monitoring, opts=after)
if services.spark_operator:
    SparkOperator("spark-operator", [naming.tenant_namespace(each) for each in stack.tenants], system, charts, after)
if services.history_server:
    HistoryServer(
        "history-server",
        HistoryServerArgs(
            image=cloud.images["spark"],
            event_logs=cloud.event_logs,
            keep_days=cloud.event_log_days,
            placement=system,
            identity=cloud.identity.get(naming.HISTORY_SERVICE_ACCOUNT, {}),
            hadoop=hadoop,
        ),
        opts=after,
    )
if services.airflow:
    Airflow(
        "airflow",
        AirflowArgs(
            settings=services.airflow,
            image=cloud.images["airflow"],
            logs=cloud.logs,
            capacity=document,
            database_connection=cloud.database_connection,
            database_secret=cloud.database_secret,
            placement=system,
            metrics=services.monitoring is not None,
            chart_sources=charts,
            identity=cloud.identity.get(naming.AIRFLOW_API_SERVICE_ACCOUNT, {}),
            has_page=has_keeper,
        ),
        opts=after,
    )

if services.keeper:
    Keeper(
        "keeper",
        KeeperArgs(
            settings=services.keeper,
            image=cloud.images.get("keeper"),
            namespaces=[naming.tenant_namespace(each) for each in stack.tenants],
            database_connection=cloud.database_connection,
            database_secret=cloud.database_secret,
            storage_class=cloud.storage_class,
            placement=system,
            has_airflow=services.airflow is not None,
            metrics=services.monitoring is not None,
            identity=cloud.identity.get(naming.KEEPER_SERVICE_ACCOUNT, {}),
            arguments=cloud.keeper,
        ),
        opts=after,
    )

pulumi.export("capacity", document)
