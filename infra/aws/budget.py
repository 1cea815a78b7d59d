"""AWS Budgets: what an environment may cost in a month, and who hears of it when it costs more."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
import pulumi_aws as aws

from infra.settings.model_aws import Budget
from tidepool.capacity import LABEL_PREFIX

TAG = f"{LABEL_PREFIX}environment"
ACTUAL_PERCENT = 80
FORECAST_PERCENT = 100


def create(
    name: str, budget: Budget, environment: str, tags: Mapping[str, str], opts: pulumi.ResourceOptions | None = None
) -> aws.budgets.Budget:
    """A monthly budget over everything that carries the environment's tag.

    AWS counts by a tag only once it is activated as a cost allocation tag in the account that pays.
    """
    return aws.budgets.Budget(
        name,
        name=f"tidepool-{environment}",
        budget_type="COST",
        time_unit="MONTHLY",
        limit_amount=str(budget.monthly_usd),
        limit_unit="USD",
        cost_filters=[aws.budgets.BudgetCostFilterArgs(name="TagKeyValue", values=[f"user:{TAG}${environment}"])],
        notifications=[
            aws.budgets.BudgetNotificationArgs(
                comparison_operator="GREATER_THAN",
                notification_type=kind,
                threshold=percent,
                threshold_type="PERCENTAGE",
                subscriber_email_addresses=list(budget.emails),
            )
            for kind, percent in (("ACTUAL", ACTUAL_PERCENT), ("FORECASTED", FORECAST_PERCENT))
        ],
        tags=dict(tags),
        opts=opts,
    )
