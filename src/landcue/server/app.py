"""The application: :func:`create_app` for programs, :func:`create` for uvicorn's workers."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import json
import logging
import multiprocessing
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema
from starlette.middleware.cors import CORSMiddleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from landcue import __version__
from landcue.errors import LandcueError
from landcue.server import stac
from landcue.server.archives import Catalog, Served
from landcue.server.errors import ProblemError, add_error_handlers
from landcue.server.metrics import start_logging
from landcue.server.middleware import Guard, Observe
from landcue.server.page import Page
from landcue.server.routes import archives as archive_routes
from landcue.server.routes import changes as change_routes
from landcue.server.routes import collections as collection_routes
from landcue.server.routes import page as page_routes
from landcue.server.routes import searches as search_routes
from landcue.server.routes import watches as watch_routes
from landcue.server.routes.base import REF, Service
from landcue.server.schemas.base import Problem
from landcue.server.schemas.changes import ChangeRequest
from landcue.server.schemas.collections import (
    CollectionChange,
    CollectionFile,
    CollectionRequest,
    SuggestRequest,
)
from landcue.server.schemas.searches import SearchRequest
from landcue.server.schemas.watches import WatchesFile, WatchRequest
from landcue.server.settings import STARTUP_FAILURE, Settings

_EXAMPLES = Path(__file__).with_name("examples.json")

_log = logging.getLogger("landcue.server")


def create_app(
    archives: Catalog | Sequence[str | Path],
    settings: Settings | None = None,
    page: Page | None = None,
    *,
    whole_process: bool = False,
) -> FastAPI:
    """Create an ASGI application that serves archives; any ASGI server can run it.

    >>> from landcue.server import Settings, create_app
    >>> app = create_app([folder], Settings(follow_seconds=0))
    >>> app.title
    'LandCue'

    Args:
        archives: Folders or addresses ``milvus://host:port/collection``; the first is the default.
        settings: Limits, tokens and other settings.
        page: The web page; by default the built one.
        whole_process: The process does nothing else, as that of ``landcue serve``: once warm, what
            is loaded is excluded from garbage collection, and threads give way more often.

    Raises:
        ArchiveError: An archive is missing or broken.
        UsageError: Two archives have the same name, or the file of collections cannot be written.
    """
    settings = settings or Settings()
    catalog = archives if isinstance(archives, Catalog) else Catalog.open(archives, settings.model)
    service = Service(catalog, settings, page or Page.load())
    service.collections.check()
    app = FastAPI(
        title="LandCue",
        summary="Find look-alike places in Earth-observation archives.",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=functools.partial(_lifespan, service, whole_process),
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.service = service
    # The last added middleware is the outermost.
    app.add_middleware(Guard, settings=settings, public=service.page.paths)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-Request-ID"],
            expose_headers=[
                "X-Archive-Version",
                "X-Image-Size",
                "X-Model-Fingerprint",
                "X-Request-ID",
                "X-Row-Count",
            ],
        )
    app.add_middleware(Observe, metrics=service.metrics)
    if settings.proxies:
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=list(settings.proxies))
    add_error_handlers(app, catalog.hidden_paths)
    for routes in (
        change_routes,
        watch_routes,
        search_routes,
        archive_routes,
        collection_routes,
        page_routes,
        stac,
    ):
        app.include_router(routes.router)
    page_routes.add_page(app, service)
    app.openapi = functools.partial(_describe, app, app.openapi)
    return app


def create() -> FastAPI:
    """Return the application of the settings in the environment: ``uvicorn --factory`` calls it."""
    try:
        settings = Settings()
        start_logging(settings.quiet)
        return create_app(settings.archives, settings, whole_process=True)
    except LandcueError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(STARTUP_FAILURE)


def description() -> dict[str, Any]:
    """Return the OpenAPI description of the service, whatever archives it serves."""
    return create_app(Catalog([])).openapi()


@contextlib.asynccontextmanager
async def _lifespan(service: Service, whole_process: bool, _: FastAPI) -> AsyncGenerator[None]:
    warming = _warm(service, whole_process)
    tasks = [asyncio.create_task(warming), asyncio.create_task(_watch_parent())]
    changed: asyncio.Queue[Served] = asyncio.Queue()
    for served in service.catalog:
        changed.put_nowait(served)
    tasks.append(asyncio.create_task(watch_routes.evaluate_watches(service, changed)))

    def note(served: Served) -> None:
        service.note_version(served)
        changed.put_nowait(served)

    seconds = service.settings.follow_seconds
    if seconds:
        follow = service.catalog.follow(seconds, note)
        tasks.append(asyncio.create_task(follow))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError, ProblemError):
                await task
        await asyncio.to_thread(service.close)
        if whole_process:
            gc.unfreeze()  # else extension modules report leaks when the process ends


async def _warm(service: Service, whole_process: bool) -> None:
    """Load models and vectors, then report ready."""
    for error in await service.encoders.run(service.catalog.warm):
        _log.warning("not warm", extra={"facts": {"error": str(error)}})
    if whole_process:
        # Loaded objects stay: exclude them from garbage collection. And a
        # thread that searches gives way to the one that answers after half a millisecond, not five.
        gc.collect()
        gc.freeze()
        sys.setswitchinterval(0.0005)
    service.ready = True
    service.metrics.ready.set(1)
    await asyncio.to_thread(service.catalog.prepare)


async def _watch_parent() -> None:
    """Exit a worker whose supervisor has ended."""
    parent = multiprocessing.parent_process()
    while parent is not None:
        await asyncio.sleep(1)
        if not parent.is_alive():
            signal.raise_signal(signal.SIGTERM)
            return


def _describe(app: FastAPI, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the OpenAPI description, with the schemas that FastAPI does not generate."""
    described = make()
    bodies = (
        SearchRequest,
        CollectionRequest,
        CollectionChange,
        SuggestRequest,
        ChangeRequest,
        WatchRequest,
        CollectionFile,
        WatchesFile,
    )
    pairs: list[Any] = [*((body, "validation") for body in bodies), (Problem, "serialization")]
    _, extra = models_json_schema(pairs, ref_template=REF)
    described.setdefault("components", {}).setdefault("schemas", {}).update(extra["$defs"])
    _add_examples(described)
    return described


def _add_examples(described: dict[str, Any]) -> None:
    """Add the examples to an OpenAPI description: of parameters, bodies and answers."""
    for name, example in json.loads(_EXAMPLES.read_text(encoding="utf-8")).items():
        method, path = name.split(" ")
        operation = described["paths"][path][method.lower()]
        parameters = example.get("parameters", {})
        for parameter in operation.get("parameters", ()):
            if parameter["name"] in parameters:
                # A parameter that holds JSON has its example where its schema is.
                at = parameter.get("content", {}).get("application/json", parameter)
                at["example"] = parameters[parameter["name"]]
        if "body" in example:
            operation["requestBody"]["content"]["application/json"]["example"] = example["body"]
        if "answer" in example:
            good = next(one for code, one in operation["responses"].items() if code[0] == "2")
            next(iter(good["content"].values()))["example"] = example["answer"]
