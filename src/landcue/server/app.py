"""The application: what stands around the routes, and its description."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, Callable
from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema
from starlette.middleware.cors import CORSMiddleware

from landcue import __version__
from landcue.server.catalog import Catalog
from landcue.server.examples import add_examples
from landcue.server.failures import add_errors
from landcue.server.limits import Guard
from landcue.server.observe import Observe
from landcue.server.page import Page
from landcue.server.problems import ProblemError
from landcue.server.routes import add_routes
from landcue.server.routes.answers import REF
from landcue.server.schemas import Problem, SearchRequest
from landcue.server.service import Service
from landcue.server.settings import Settings


def create_app(
    catalog: Catalog, settings: Settings | None = None, page: Page | None = None
) -> FastAPI:
    """Return the application of some archives; ``app.state.service`` is its :class:`Service`."""
    settings = settings or Settings()
    service = Service(catalog, settings, page or Page.load())

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        warming = asyncio.create_task(service.warm())
        try:
            yield
        finally:
            warming.cancel()
            with contextlib.suppress(asyncio.CancelledError, ProblemError):
                await warming
            await asyncio.to_thread(service.close)

    app = FastAPI(
        title="LandCue",
        summary="Find look-alike places in Earth-observation archives.",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # nobody else is told
    )
    app.state.service = service
    # The last one added is the outermost.
    app.add_middleware(Guard, settings=settings, public=service.page.paths)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Request-ID"],
        )
    app.add_middleware(Observe, metrics=service.metrics)
    add_errors(app, [path for served in catalog for path in served.known_paths()])
    add_routes(app, service)
    app.openapi = functools.partial(_describe, app, app.openapi)
    return app


def description() -> dict[str, Any]:
    """Return the OpenAPI description of the service, whatever archives it serves."""
    return create_app(Catalog([])).openapi()


def _describe(app: FastAPI, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the OpenAPI description, with the schemas that FastAPI does not see."""
    described = make()
    pairs: list[Any] = [(SearchRequest, "validation"), (Problem, "serialization")]
    _, extra = models_json_schema(pairs, ref_template=REF)
    described.setdefault("components", {}).setdefault("schemas", {}).update(extra["$defs"])
    add_examples(described)
    return described
