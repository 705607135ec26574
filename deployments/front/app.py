"""The application: routes, limits around them, and one way to answer errors."""

from typing import Any

from fastapi import FastAPI

from deployments.front import api, pages, problems
from deployments.front.limits import Doorway, Rates
from deployments.front.service import Front
from deployments.front.settings import FrontSettings
from deployments.front.stream import Streams
from tasks.adapters.registry import Registry

DESCRIPTION = """\
Order a website, watch it come to be, talk to the agent that writes it, and look after what is live.

Keys and tokens go into the header `Authorization: Bearer …`. Every error is a problem document (RFC 9457) that names
the field, the reason and what is allowed. Whoever has no business with an execution is told that there is none.
"""


def create_app(registry: Registry, settings: FrontSettings, rates: Rates | None = None) -> FastAPI:
    """Who gives the registry closes it."""
    app = FastAPI(
        title="tmux-builder",
        version="1",
        description=DESCRIPTION,
        openapi_url="/api/openapi.json",
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    rates = rates or Rates()
    app.state.front = Front(registry, settings, rates)
    app.state.streams = Streams(registry, settings.web_streams)
    app.include_router(api.router)
    app.include_router(api.hook_router)
    problems.install(app, pages.install(app, settings))
    app.add_middleware(Doorway, hosts=settings.hosts, rates=rates, rate_ip=settings.web_rate_ip)
    described = app.openapi

    def openapi() -> dict[str, Any]:
        document = described()
        schema = problems.ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
        for name, definition in schema.pop("$defs", {}).items():
            document["components"]["schemas"].setdefault(name, definition)
        document["components"]["schemas"].setdefault("Problem", schema)
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's way (https://fastapi.tiangolo.com/how-to/extending-openapi)
    return app
