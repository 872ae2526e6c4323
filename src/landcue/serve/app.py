"""The application: routes over archives, their errors and their description."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, Response

from landcue import __version__
from landcue.errors import LandcueError
from landcue.serve import export
from landcue.serve.catalog import Catalog, Served
from landcue.serve.decoding import Decoders
from landcue.serve.feedback import FeedbackFile
from landcue.serve.limits import Guard
from landcue.serve.observe import Metrics, Observe
from landcue.serve.pool import Pool
from landcue.serve.problems import MEDIA_TYPE, ProblemError, of_landcue, problem, without_paths
from landcue.serve.schemas import (
    ArchiveAnswer,
    FeedbackAnswer,
    FeedbackRequest,
    LabelsAnswer,
    Problem,
    RecordAnswer,
    SearchAnswer,
    SearchRequest,
)
from landcue.serve.searching import run_search
from landcue.serve.settings import Settings
from landcue.serve.uploads import PARTS, Body, InvalidError, parse_search, read_body

_IMAGE_HEADERS = {"Cache-Control": "private, max-age=300"}
_REF = "#/components/schemas/{model}"
_log = logging.getLogger("landcue.serve")

ArchiveName = Annotated[str | None, Query(max_length=200, description="By default the first.")]
ResultFormat = Annotated[export.Format, Query(description="Of the answer.")]
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "The request cannot be answered.", "content": {MEDIA_TYPE: {}}},
    "5XX": {"description": "The service cannot answer now.", "content": {MEDIA_TYPE: {}}},
}
for _one in _PROBLEMS.values():
    _one["content"][MEDIA_TYPE] = {"schema": {"$ref": _REF.format(model="Problem")}}
_JPEG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}},
    **_PROBLEMS,
}


@dataclass(slots=True)
class Service:
    """What the routes share."""

    catalog: Catalog
    settings: Settings
    metrics: Metrics = field(default_factory=Metrics)
    ready: bool = False
    encoders: Pool = field(init=False)
    searches: Pool = field(init=False)
    decoders: Decoders = field(init=False)
    feedback: FeedbackFile = field(init=False)

    def __post_init__(self) -> None:
        limits = self.settings.limits
        self.encoders = Pool("encoding", limits.encoders, limits.encoders_waiting)
        self.searches = Pool("search", limits.searches, limits.searches_waiting)
        self.decoders = Decoders(limits)
        self.feedback = FeedbackFile(self.settings.feedback_file, limits.feedback_bytes)

    async def search(self, body: Body, kind: export.Format) -> Response:
        """Answer a search in one of the formats."""
        served = self.catalog.get(body.search.archive)
        pool = self.encoders if body.any else self.searches
        return await pool.run(functools.partial(self._found, served, body, kind))

    def _found(self, served: Served, body: Body, kind: export.Format) -> Response:
        result = run_search(served, body, self.decoders)
        headers: dict[str, str] = {}
        if kind != "json":
            name = f"landcue-result.{export.SUFFIXES[kind]}"
            headers["Content-Disposition"] = f'attachment; filename="{name}"'
        return Response(export.write(served, result, kind), 200, headers, export.MEDIA_TYPES[kind])

    def gauges(self) -> list[tuple[str, dict[str, str], float]]:
        """Return what is so now, for metrics."""
        pools = (self.encoders, self.searches)
        named: list[tuple[str, Callable[[Pool], float]]] = [
            ("landcue_pool_jobs", lambda pool: pool.jobs),
            ("landcue_pool_limit", lambda pool: pool.most),
            ("landcue_pool_refused", lambda pool: pool.refused),
        ]
        found = [(name, {"pool": pool.name}, of(pool)) for name, of in named for pool in pools]
        found += [
            ("landcue_archive_records", {"archive": one.name}, float(one.archive.count))
            for one in self.catalog
        ]
        return [*found, ("landcue_ready", {}, float(self.ready))]

    async def warm(self) -> None:
        """Load models and vectors, then be ready."""
        for error in await self.encoders.run(self.catalog.warm):
            _log.warning("not warm", extra={"facts": {"error": str(error)}})
        self.ready = True

    def close(self) -> None:
        """Finish what runs, and let go of everything."""
        self.ready = False
        self.encoders.close()
        self.searches.close()
        self.decoders.close()
        self.catalog.close()


def create_app(catalog: Catalog, settings: Settings | None = None) -> FastAPI:
    """Return the application of some archives; ``app.state.service`` is its :class:`Service`."""
    settings = settings or Settings()
    service = Service(catalog, settings)

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
    )
    app.state.service = service
    # The last one added is the outermost.
    app.add_middleware(Guard, settings=settings)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Request-ID"],
        )
    app.add_middleware(Observe, metrics=service.metrics)
    _add_errors(app, service)
    _add_routes(app, service)
    _add_operations(app, service)
    app.openapi = functools.partial(_describe, app, app.openapi)
    return app


def _add_routes(app: FastAPI, service: Service) -> None:
    catalog = service.catalog

    async def search(request: Request, format: ResultFormat = "json") -> Response:
        """Search by record, by images, by several of them for and against, or by filters alone.

        Images come as a form, with the JSON in its part `request`.
        """
        body = await read_body(request, service.settings.limits)
        return await service.search(body, format)

    async def result(
        request: Annotated[str, Query(max_length=8_192, description="A search, as JSON.")],
        format: ResultFormat = "geojson",
    ) -> Response:
        """Return the result of a search as a file."""
        return await service.search(Body(parse_search(request), {}), format)

    async def chip(
        id: str,
        archive: ArchiveName = None,
        side: Annotated[int, Query(ge=16, le=2_048)] = 512,
    ) -> Response:
        """Return the pixels of a record as a JPEG whose longer side is at most `side`."""
        served = catalog.get(archive)
        work = functools.partial(served.chip, id, service.decoders, side)
        return Response(await service.encoders.run(work), 200, _IMAGE_HEADERS, "image/jpeg")

    async def thumbnail(id: str, archive: ArchiveName = None) -> Response:
        """Return the thumbnail of a record."""
        served = catalog.get(archive)
        data = await service.searches.run(functools.partial(served.thumbnail, id))
        return Response(data, 200, _IMAGE_HEADERS, "image/jpeg")

    async def record(id: str, archive: ArchiveName = None) -> Response:
        """Return what is known of a record."""
        served = catalog.get(archive)
        return JSONResponse(await service.searches.run(functools.partial(served.record, id)))

    async def labels(archive: ArchiveName = None) -> Response:
        """Return the labels of an archive, with counts."""
        served = catalog.get(archive)
        found = await service.searches.run(lambda: served.labels)
        return JSONResponse({"archive": served.name, "labels": found})

    async def about(archive: ArchiveName = None) -> Response:
        """Return what an archive is, its model's card and scores, and all archives' names."""
        served = catalog.get(archive)
        facts = await service.searches.run(served.about)
        return JSONResponse({**facts, "archives": catalog.names})

    async def feedback(given: FeedbackRequest, request: Request) -> Response:
        """Keep what somebody thinks of hits."""
        served = catalog.get(given.archive)
        id_: str = request.state.request_id
        await service.searches.run(functools.partial(service.feedback.keep, served, given, id_))
        return JSONResponse({"kept": True}, 201)

    def json_of(model: Any, status: int = 200) -> dict[int | str, dict[str, Any]]:
        return {status: {"model": model}, **_PROBLEMS}

    app.post("/v1/search", responses=json_of(SearchAnswer), openapi_extra=_search_body())(search)
    app.get("/v1/export", responses=_PROBLEMS)(result)
    # An id may hold slashes, so what follows it is matched before the id alone.
    app.get("/v1/records/{id:path}/thumbnail", responses=_JPEG)(thumbnail)
    app.get("/v1/records/{id:path}/chip", responses=_JPEG)(chip)
    app.get("/v1/records/{id:path}", responses=json_of(RecordAnswer))(record)
    app.get("/v1/labels", responses=json_of(LabelsAnswer))(labels)
    app.get("/v1/archive", responses=json_of(ArchiveAnswer))(about)
    app.post("/v1/feedback", status_code=201, responses=json_of(FeedbackAnswer, 201))(feedback)


def _add_operations(app: FastAPI, service: Service) -> None:
    async def healthz() -> Response:
        """Tell that the process answers."""
        return PlainTextResponse("ok\n")

    async def readyz() -> Response:
        """Tell whether models and vectors are loaded."""
        if not service.ready:
            return problem(503, "models are being loaded", headers={"Retry-After": "2"})
        return PlainTextResponse("ready\n")

    async def metrics() -> Response:
        """Return counters as Prometheus reads them."""
        return PlainTextResponse(
            service.metrics.text(service.gauges()), media_type="text/plain; version=0.0.4"
        )

    app.get("/healthz", response_class=PlainTextResponse)(healthz)
    app.get("/readyz", response_class=PlainTextResponse, responses=_PROBLEMS)(readyz)
    app.get("/metrics", response_class=PlainTextResponse, responses=_PROBLEMS)(metrics)


def _add_errors(app: FastAPI, service: Service) -> None:
    known = [path for served in service.catalog for path in served.known_paths()]

    async def of_http(_: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        detail = without_paths(str(error.detail), known)
        return problem(error.status_code, detail, headers=error.headers)

    async def of_ours(request: Request, error: Exception) -> Response:
        if not isinstance(error, LandcueError):
            raise error
        status, detail = of_landcue(error)
        if status >= 500:
            facts = {"request_id": request.state.request_id, "error": str(error)}
            _log.error("archive or model failed", extra={"facts": facts})
        return problem(status, without_paths(detail, known))

    async def of_schema(_: Request, error: Exception) -> Response:
        if not isinstance(error, RequestValidationError | InvalidError):
            raise error
        found: list[Any] = list(error.errors() if callable(error.errors) else error.errors)
        errors = [
            {"at": ".".join(str(step) for step in one["loc"])[:200], "what": str(one["msg"])[:200]}
            for one in found[:20]
        ]
        first = f"{errors[0]['at'] or 'the request'}: {errors[0]['what']}" if errors else "bad"
        return problem(422, first, errors=errors)

    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(LandcueError, of_ours)
    app.add_exception_handler(RequestValidationError, of_schema)
    app.add_exception_handler(InvalidError, of_schema)


def _search_body() -> dict[str, Any]:
    """Describe the body of a search, which is read by hand."""
    ref = {"$ref": _REF.format(model=SearchRequest.__name__)}
    file = {"type": "string", "format": "binary"}
    form: dict[str, Any] = {"type": "object", "properties": {"request": ref}}
    form["properties"] |= {
        name: file if name == "image" else {"type": "array", "items": file} for name in PARTS
    }
    content = {"application/json": {"schema": ref}, "multipart/form-data": {"schema": form}}
    return {"requestBody": {"required": True, "content": content}}


def _describe(app: FastAPI, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the OpenAPI description, with the schemas that FastAPI does not see."""
    described = make()
    pairs: list[Any] = [(SearchRequest, "validation"), (Problem, "serialization")]
    _, extra = models_json_schema(pairs, ref_template=_REF)
    described.setdefault("components", {}).setdefault("schemas", {}).update(extra["$defs"])
    return described
