"""PostgreSQL on RDS, for Airflow and the ledger."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
import pulumi_random as random

from infra import versions
from infra.settings.model_aws import RdsDatabase

PORT = 5432
USER = "tidepool"
DATABASE = "airflow"
STORAGE_GROWTH = 2
"""RDS may grow the volume to so many times its size before it is full; it never shrinks one."""


@dataclass(frozen=True)
class DatabaseArgs:
    """Inputs of the database.

    subnet_ids: private ones, in two zones at least; clients: the security group whose members may connect;
    protect: see `AwsCloud`.
    """

    cluster: str
    vpc_id: pulumi.Input[str]
    subnet_ids: Sequence[pulumi.Input[str]]
    clients: pulumi.Input[str]
    database: RdsDatabase
    protect: bool
    tags: Mapping[str, str]


class Database(pulumi.ComponentResource):
    """One PostgreSQL instance that only the cluster reaches, over TLS, by a password that nobody typed.

    connection: SQLAlchemy URL, a secret. endpoint: host and port. secret_arn: the same facts in Secrets Manager.
    """

    connection: pulumi.Output[str]
    endpoint: pulumi.Output[str]
    secret_arn: pulumi.Output[str]

    def __init__(self, name: str, args: DatabaseArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tidepool:aws:Database", name, {}, opts)
        inside = pulumi.ResourceOptions(parent=self)
        identifier = f"{args.cluster}-postgres"
        tags = dict(args.tags)
        # Letters and digits only: it stands in URLs.
        generated = random.RandomPassword(f"{name}-password", length=40, special=False, opts=inside)
        password = generated.result  # a secret by itself; what is made of it here is marked as one
        instance = aws.rds.Instance(
            f"{name}-instance",
            identifier=identifier,
            engine="postgres",
            engine_version=versions.POSTGRES,
            auto_minor_version_upgrade=True,
            instance_class=args.database.instance_class,
            storage_type="gp3",
            allocated_storage=args.database.storage_gib,
            max_allocated_storage=args.database.storage_gib * STORAGE_GROWTH,
            storage_encrypted=True,
            db_name=DATABASE,
            username=USER,
            password=password,
            port=PORT,
            db_subnet_group_name=self._subnets(name, identifier, args).name,
            vpc_security_group_ids=[self._firewall(name, identifier, args).id],
            parameter_group_name=self._parameters(name, identifier, args).name,
            publicly_accessible=False,
            multi_az=args.database.multi_zone,
            backup_retention_period=args.database.backup_days,
            copy_tags_to_snapshot=True,
            deletion_protection=args.protect,
            delete_automated_backups=not args.protect,
            skip_final_snapshot=not args.protect,
            final_snapshot_identifier=f"{identifier}-final" if args.protect else None,
            # Now Database Insights in its standard mode, of which seven days are free.
            performance_insights_enabled=True,
            performance_insights_retention_period=7,
            # Else in the next maintenance window: some changes restart it.
            apply_immediately=not args.protect,
            tags=tags,
            opts=pulumi.ResourceOptions(parent=self, protect=args.protect),
        )
        self.endpoint = instance.endpoint
        self.connection = pulumi.Output.secret(
            pulumi.Output.all(password, instance.endpoint).apply(lambda known: connection_url(*known))
        )
        secret = aws.secretsmanager.Secret(
            f"{name}-secret",
            name=f"{args.cluster}/database",
            description=f"PostgreSQL of {args.cluster}: user, password, SQLAlchemy URL",
            recovery_window_in_days=30 if args.protect else 0,
            tags=tags,
            opts=inside,
        )
        facts: pulumi.Output[str] = pulumi.Output.secret(
            pulumi.Output.all(password, self.connection).apply(
                lambda known: json.dumps({"username": USER, "password": known[0], "connection": known[1]})
            )
        )
        aws.secretsmanager.SecretVersion(
            f"{name}-secret-version",
            secret_id=secret.id,
            secret_string=facts,
            opts=inside,
        )
        self.secret_arn = secret.arn
        self.register_outputs({"endpoint": self.endpoint, "secret_arn": self.secret_arn})

    def _subnets(self, name: str, identifier: str, args: DatabaseArgs) -> aws.rds.SubnetGroup:
        return aws.rds.SubnetGroup(
            f"{name}-subnets",
            name=identifier,
            subnet_ids=list(args.subnet_ids),
            tags=dict(args.tags),
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _firewall(self, name: str, identifier: str, args: DatabaseArgs) -> aws.ec2.SecurityGroup:
        group = aws.ec2.SecurityGroup(
            f"{name}-security-group",
            name=identifier,
            description="PostgreSQL, from the cluster only",
            vpc_id=args.vpc_id,
            tags=dict(args.tags),
            opts=pulumi.ResourceOptions(parent=self),
        )
        aws.vpc.SecurityGroupIngressRule(
            f"{name}-from-cluster",
            security_group_id=group.id,
            referenced_security_group_id=args.clients,
            ip_protocol="tcp",
            from_port=PORT,
            to_port=PORT,
            description="PostgreSQL from the cluster",
            tags=dict(args.tags),
            opts=pulumi.ResourceOptions(parent=self),
        )
        return group

    def _parameters(self, name: str, identifier: str, args: DatabaseArgs) -> aws.rds.ParameterGroup:
        return aws.rds.ParameterGroup(
            f"{name}-parameters",
            # With the major version in its name, an upgrade can make the next one beside it.
            name=f"{identifier}-{versions.POSTGRES}",
            family=f"postgres{versions.POSTGRES}",
            description=f"PostgreSQL of {args.cluster}: TLS only",
            parameters=[aws.rds.ParameterGroupParameterArgs(name="rds.force_ssl", value="1", apply_method="immediate")],
            tags=dict(args.tags),
            opts=pulumi.ResourceOptions(parent=self),
        )


def connection_url(password: str, endpoint: str) -> str:
    """The SQLAlchemy URL. endpoint: `host:port`. TLS without a check of the server's name, which needs RDS's CA bundle
    in every client; the database answers inside the VPC only."""
    return f"postgresql+psycopg2://{USER}:{password}@{endpoint}/{DATABASE}?sslmode=require"
