"""The plugin that shows the keeper's page in Airflow's menu (images/airflow): whom Airflow's own check lets in.

With a real Airflow and a keeper it is tests/local/test_airflow_page.py, where every user has every right.
"""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

pytest.importorskip("fastapi")

from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api import security

PLUGIN = Path(__file__).resolve().parents[2] / "images" / "airflow" / "plugins" / "tidepool_page.py"


@pytest.fixture
def plugin() -> Any:
    spec = importlib.util.spec_from_file_location("tidepool_page", PLUGIN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("may", "status"), [(True, 200), (False, 403)])
@pytest.mark.parametrize("page", ["", "machines", "jobs", "task", "job", "comparison"])
def test_a_user_whom_airflow_knows_sees_the_page_only_with_the_right_to_see_the_clusters_activity(
    plugin: Any, monkeypatch: pytest.MonkeyPatch, page: str, may: bool, status: int
) -> None:
    asked: list[tuple[AccessView, Any]] = []
    fetched: list[str] = []
    user = object()

    def is_authorized_view(*, access_view: AccessView, user: Any) -> bool:
        asked.append((access_view, user))
        return may

    def keeper(request: httpx.Request) -> httpx.Response:
        fetched.append(request.url.path)
        return httpx.Response(200, text="what it cost")

    manager = SimpleNamespace(is_authorized_view=is_authorized_view)
    monkeypatch.setattr(security, "get_auth_manager", lambda: manager)

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.MockTransport(keeper)) as to_keeper:
            app = plugin.make_app("http://keeper", to_keeper)
            app.dependency_overrides[security.get_user] = lambda: user
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://airflow") as browser:
                return await browser.get(f"/{page}")

    answer = asyncio.run(ask())
    assert answer.status_code == status
    assert asked == [(AccessView.CLUSTER_ACTIVITY, user)]
    assert fetched == ([f"/{page}"] if may else []), "the keeper is not even asked"
    assert ("what it cost" in answer.text) == may
