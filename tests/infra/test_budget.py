from __future__ import annotations

from infra.aws import budget
from infra.settings.model_aws import Budget
from tests.infra.recording import made_by
from tests.infra.samples import TAGS


def test_an_environments_cost_is_watched_by_its_tag_and_told_before_it_is_too_late() -> None:
    recorded = made_by(lambda: budget.create("budget", Budget(500, ("a@example.com", "b@example.com")), "dev", TAGS))
    made = recorded.one("budgets/budget:Budget").inputs
    assert (made["name"], made["budgetType"], made["timeUnit"]) == ("tidepool-dev", "COST", "MONTHLY")
    assert (made["limitAmount"], made["limitUnit"]) == ("500", "USD")
    assert made["costFilters"] == [{"name": "TagKeyValue", "values": ["user:tidepool.dev/environment$dev"]}]
    assert made["tags"] == TAGS
    assert [
        (each["notificationType"], each["threshold"], each["thresholdType"], each["comparisonOperator"])
        for each in made["notifications"]
    ] == [("ACTUAL", 80, "PERCENTAGE", "GREATER_THAN"), ("FORECASTED", 100, "PERCENTAGE", "GREATER_THAN")]
    assert all(each["subscriberEmailAddresses"] == ["a@example.com", "b@example.com"] for each in made["notifications"])


def test_the_tag_it_counts_by_is_the_one_that_resources_carry() -> None:
    assert budget.TAG in TAGS
