"""The keeper's page in Airflow's menu, for those whom Airflow lets in.

Airflow's API server asks who it is and whether they may see the cluster's activity, and then fetches the page from the
keeper with a token that no browser gets to see. It needs Airflow only, so that it runs wherever the image does.

TIDEPOOL_KEEPER_URL: where the keeper listens, such as http://keeper.tidepool:8080; without it nothing is in the menu.
TIDEPOOL_PAGE_TOKEN: the keeper's token; or TIDEPOOL_PAGE_TOKEN_FILE, a file that holds it.
"""

from __future__ import annotations

import base64
import logging
import os
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import requires_access_view
from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin
from fastapi import Depends, FastAPI, HTTPException, Request, Response

URL_VARIABLE, TOKEN_VARIABLE = "TIDEPOOL_KEEPER_URL", "TIDEPOOL_PAGE_TOKEN"
PREFIX = "/tidepool"
PAGES = frozenset({"", "machines", "jobs", "task", "job", "comparison"})
SECONDS = 30.0
_PASSED_ON = ("content-type", "content-security-policy", "x-content-type-options", "referrer-policy", "cache-control")
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="{colour}" stroke-width="2" '
    'stroke-linecap="round"><rect x="2" y="2" width="20" height="20" rx="5"/>'
    '<path d="M5 13c2.300-3 4.700-3 7 0s4.700 3 7 0"/></svg>'
)
_log = logging.getLogger(__name__)


def token() -> str:
    """The keeper's token; empty where there is none."""
    file = os.environ.get(f"{TOKEN_VARIABLE}_FILE", "")
    return Path(file).read_text(encoding="utf-8").strip() if file else os.environ.get(TOKEN_VARIABLE, "")


def make_app(url: str, client: httpx.AsyncClient | None = None) -> FastAPI:
    """The pages of the keeper at `url`, behind Airflow's own check."""
    app = FastAPI(title="tidepool", docs_url=None, redoc_url=None, openapi_url=None)
    keeper = client or httpx.AsyncClient(timeout=SECONDS, trust_env=False, follow_redirects=False)
    may_see = Depends(requires_access_view(AccessView.CLUSTER_ACTIVITY))

    @app.get("/{name:path}", dependencies=[may_see])
    async def page(name: str, request: Request) -> Response:
        if name not in PAGES:
            raise HTTPException(404, "tidepool has no such page")
        try:
            query = f"?{request.url.query}" if request.url.query else ""
            answer = await keeper.get(f"{url}/{name}{query}", headers={"Authorization": f"Bearer {token()}"})
        except (httpx.HTTPError, OSError, ValueError) as error:
            _log.warning("the keeper did not answer: %s", error)
            raise HTTPException(503, "tidepool's keeper does not answer; try again in a moment") from error
        if answer.status_code in (401, 403):  # the reader is known here: it is the token that is not
            _log.error("the keeper refuses %s", TOKEN_VARIABLE)
            raise HTTPException(502, f"the keeper refuses {TOKEN_VARIABLE}: both must have the same")
        headers = {key: answer.headers[key] for key in _PASSED_ON if key in answer.headers}
        return Response(answer.content, answer.status_code, headers)

    return app


def icon(colour: str) -> str:
    """The menu's picture."""
    return "data:image/svg+xml;base64," + base64.b64encode(_ICON.format(colour=colour).encode()).decode()


KEEPER = os.environ.get(URL_VARIABLE, "").rstrip("/")


class TidepoolPage(AirflowPlugin):  # type: ignore[misc]
    """The page below PREFIX, and its entry in the menu."""

    name = "tidepool"
    fastapi_apps = [{"app": make_app(KEEPER), "url_prefix": PREFIX, "name": "tidepool"}] if KEEPER else []
    external_views = (
        [
            {
                "name": "Costs",
                "href": f"{urlsplit(conf.get('api', 'base_url', fallback='')).path.rstrip('/')}{PREFIX}/",
                "destination": "nav",
                "url_route": "tidepool",
                "icon": icon("#52606d"),
                "icon_dark_mode": icon("#c6ced8"),
                "nav_top_level": True,
            }
        ]
        if KEEPER
        else []
    )
