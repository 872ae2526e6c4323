"""The paths of the service."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from landcue.search.survey import MOST_ZOOM
from landcue.server import export
from landcue.server.archives import Catalog, Served
from landcue.server.collections import Collections, label_table
from landcue.server.decoding import Decoders
from landcue.server.errors import MEDIA_TYPE, ProblemError, problem
from landcue.server.executor import BoundedExecutor
from landcue.server.feedback import FeedbackFile
from landcue.server.metrics import MEDIA_TYPE as METRICS
from landcue.server.metrics import Metrics
from landcue.server.model_views import ModelViews, similar_regions
from landcue.server.page import INDEX, NOT_BUILT, Page, PageFile, content_policy
from landcue.server.queries import PARTS, Body, parse_search, read_body, run_search
from landcue.server.schemas import (
    MAX_DEPTH,
    ArchiveAnswer,
    ArchivesAnswer,
    CollectionAnswer,
    CollectionChange,
    CollectionRequest,
    CollectionsAnswer,
    FacetsAnswer,
    FeedbackAnswer,
    FeedbackRequest,
    LabelsAnswer,
    MapAnswer,
    ModelAnswer,
    OwnScoresAnswer,
    PlacesAnswer,
    RecordAnswer,
    RegionsAnswer,
    ScoresAnswer,
    SearchAnswer,
    SearchRequest,
)
from landcue.server.settings import Limits, Settings
from landcue.types import Bounds

REF = "#/components/schemas/{model}"
EXAMPLES = Path(__file__).with_name("examples.json")

_IMAGE_HEADERS = {"Cache-Control": "private, max-age=300"}
_FOREVER = "public, max-age=31536000, immutable"
_REVALIDATE = "no-cache"
_IN_MEMORY = 8 << 20
"""Bytes of a file of results that are held in memory; the rest of it is on disk."""

api = APIRouter(generate_unique_id_function=lambda route: route.name)


@dataclass(slots=True)
class Service:
    """The shared objects of the routes."""

    catalog: Catalog
    settings: Settings
    page: Page
    metrics: Metrics = field(default_factory=Metrics)
    ready: bool = False
    encoders: BoundedExecutor = field(init=False)
    searches: BoundedExecutor = field(init=False)
    insights: BoundedExecutor = field(init=False)
    decoders: Decoders = field(init=False)
    collections: Collections = field(init=False)
    feedback: FeedbackFile = field(init=False)

    def __post_init__(self) -> None:
        limits, metrics = self.settings.limits, self.metrics
        waiting = limits.encoders_waiting
        self.encoders = BoundedExecutor("encoding", limits.encoders, waiting, metrics)
        waiting = limits.searches_waiting
        self.searches = BoundedExecutor("search", limits.searches, waiting, metrics)
        self.insights = BoundedExecutor("insight", 1, limits.insights_waiting, metrics)
        self.decoders = Decoders(
            limits.decoders, limits.decode_seconds, limits.decode_bytes, limits.pixels
        )
        self.collections = Collections(self.settings.collections_file, limits.feedback_bytes)
        self.feedback = FeedbackFile(self.settings.feedback_file, limits.feedback_bytes)
        for served in self.catalog:
            self.note_version(served)

    def note_version(self, served: Served) -> None:
        """Update the version of an archive in the metrics."""
        self.metrics.records.labels(archive=served.name).set(len(served.archive))
        self.metrics.versions.labels(archive=served.name).set(served.archive.version)

    def close(self) -> None:
        """Finish running jobs and close everything."""
        self.ready = False
        self.metrics.ready.set(0)
        for executor in (self.encoders, self.searches, self.insights):
            executor.close()
        self.decoders.close()
        self.catalog.close()


def service_of(request: Request) -> Service:
    """Return the shared objects of an application's routes."""
    return request.app.state.service


def archive_of(
    request: Request,
    archive: Annotated[
        str | None,
        Query(max_length=200, description="Name of the archive; the first one by default."),
    ] = None,
) -> Served:
    """Return the archive of a request; its version is named by the answer's headers."""
    return choose(request, archive)


def choose(request: Request, name: str | None) -> Served:
    """Return an archive by name, and name its version in the answer's headers."""
    served = service_of(request).catalog.get(name)
    request.state.version = served.archive.version
    return served


Shared = Annotated[Service, Depends(service_of)]
Shown = Annotated[Served, Depends(archive_of)]

PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "The request cannot be answered.", "content": {MEDIA_TYPE: {}}},
    "5XX": {"description": "The service cannot answer now.", "content": {MEDIA_TYPE: {}}},
}
for _one in PROBLEMS.values():
    _one["content"][MEDIA_TYPE] = {"schema": {"$ref": REF.format(model="Problem")}}

JPEG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}},
    **PROBLEMS,
}
_FILES: dict[str, Any] = {
    export.MEDIA_TYPES[kind].partition(";")[0]: {"schema": {"type": shown, "format": written}}
    for kind, shown, written in (
        ("geojson", "object", "geojson"),
        ("csv", "string", "csv"),
        ("geoparquet", "string", "binary"),
    )
}


def json_of(model: Any, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """Describe an answer of one model, or a problem."""
    return {status: {"model": model}, **PROBLEMS}


def search_body() -> dict[str, Any]:
    """Describe the body of a search, which is JSON or a form."""
    ref = {"$ref": REF.format(model=SearchRequest.__name__)}
    file = {"type": "string", "format": "binary"}
    form: dict[str, Any] = {"type": "object", "properties": {"request": ref}}
    files = {"type": "array", "items": file, "maxItems": Limits().images}
    form["properties"] |= {name: file if name == "image" else files for name in PARTS}
    form["additionalProperties"] = False
    content = {"application/json": {"schema": ref}, "multipart/form-data": {"schema": form}}
    return {"requestBody": {"required": True, "content": content}}


def _search_answers() -> dict[int | str, dict[str, Any]]:
    answers = json_of(SearchAnswer)
    answers[200]["content"] = _FILES
    return answers


_SEARCH_QUERY: dict[str, Any] = {
    "parameters": [
        {
            "name": "request",
            "in": "query",
            "required": True,
            "description": "A search, as JSON.",
            "content": {
                "application/json": {"schema": {"$ref": REF.format(model=SearchRequest.__name__)}}
            },
        }
    ]
}
ResultFormat = Annotated[export.Format, Query(description="Format of the answer.")]


@api.post("/v1/search", responses=_search_answers(), openapi_extra=search_body())
async def search(request: Request, service: Shared, format: ResultFormat = "json") -> Response:
    """Search by record, by images, by several positive and negative examples, or by filters alone.

    Send images as a multipart form with the JSON in its part `request`.
    """
    return await _search(request, service, await _body(request, service), format)


_All = Annotated[bool, Query(description="All records that pass, not only a page of `k`.")]
_Marks = Annotated[
    str | None, Query(max_length=200, description="Id of a collection: adds its marks and notes.")
]


@api.get("/v1/export", responses=_search_answers(), openapi_extra=_SEARCH_QUERY)
async def export_result(
    http: Request,
    service: Shared,
    request: Annotated[str, Query(max_length=8_192, include_in_schema=False)],
    format: ResultFormat = "geojson",
    all: _All = False,
    collection: _Marks = None,
) -> Response:
    """Download the result of a search as a file; `X-Row-Count` is its number of rows."""
    body = Body(parse_search(request), {})
    return await _search(http, service, body, format, every=all, collection=collection)


@api.post("/v1/export", responses=_search_answers(), openapi_extra=search_body())
async def export_search(
    request: Request,
    service: Shared,
    format: ResultFormat = "geojson",
    all: _All = False,
    collection: _Marks = None,
) -> Response:
    """Download the result of a search, which is the body, as a file."""
    body = await _body(request, service)
    return await _search(request, service, body, format, every=all, collection=collection)


@api.post("/v1/scores", responses=json_of(ScoresAnswer), openapi_extra=search_body())
async def count_scores(
    request: Request,
    service: Shared,
    bins: Annotated[int, Query(ge=1, le=1_000, description="Number of ranges.")] = 50,
) -> Response:
    """Count the records that match a search by their scores, and those that reach `min_score`."""
    body = await _body(request, service)
    served = choose(request, body.search.archive)
    least = body.search.min_score
    body = replace(body, search=body.search.model_copy(update={"min_score": None}))

    def work() -> dict[str, Any]:
        found = run_search(served, body, service.decoders, every=True)
        counts, edges = found.histogram(bins)
        passing = len(found) if least is None else found.count_from(least)
        return {
            "archive": served.name,
            "query": found.query,
            "mode": found.mode,
            "records": len(served.archive),
            "matched": len(found),
            "passing": passing,
            "counts": counts.tolist(),
            "edges": edges.tolist(),
        }

    return JSONResponse(await (service.encoders if body.any else service.searches).run(work))


@api.post("/v1/map", responses=json_of(PlacesAnswer), openapi_extra=search_body())
async def get_map(
    request: Request,
    service: Shared,
    bbox: Annotated[
        str, Query(max_length=200, description="West, south, east, north in degrees.")
    ] = "-180,-90,180,90",
    zoom: Annotated[int, Query(ge=0, le=MOST_ZOOM, description="Zoom level of the map.")] = 0,
    most: Annotated[
        int, Query(ge=0, le=2_000, description="Up to so many records are returned one by one.")
    ] = 400,
    label: Annotated[
        str | None, Query(max_length=200, description="Count records of this label by cluster.")
    ] = None,
) -> Response:
    """Return the records of a search within a box: clusters with counts, or single footprints."""
    body = await _body(request, service)
    served = choose(request, body.search.archive)
    box = Bounds.parse(bbox)

    def work() -> dict[str, Any]:
        found = run_search(served, body, service.decoders, every=True)
        view = served.archive.map_view(box, zoom, found=found, most=most, label=label)
        return {"archive": served.name, "records": len(served.archive), **view.to_json()}

    data = await (service.encoders if body.any else service.searches).run(work)
    return JSONResponse(data)


async def _body(request: Request, service: Service) -> Body:
    if request.headers.get("content-type", "").startswith("multipart/"):
        service.encoders.check()
    return await read_body(request, service.settings.limits)


async def _search(
    request: Request,
    service: Service,
    body: Body,
    kind: export.Format,
    *,
    every: bool = False,
    collection: str | None = None,
) -> Response:
    served = choose(request, body.search.archive)
    base = str(request.base_url).rstrip("/")

    def work() -> tuple[bytes | IO[bytes], dict[str, str]]:
        found = run_search(served, body, service.decoders, every=every)
        headers = {"X-Row-Count": str(len(found))} if kind != "json" or every else {}
        if kind == "json":
            if len(found) > MAX_DEPTH:
                raise ProblemError(413, f"{len(found):,} rows are too many for JSON: use geojson")
            return export.to_json(served, found, predicted=body.search.predicted), headers
        name = export.file_name(found, kind)
        headers["Content-Disposition"] = f'attachment; filename="{name}"'
        marks = None if collection is None else service.collections.marks(collection, served.name)
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(tempfile.SpooledTemporaryFile(_IN_MEMORY))
            export.write(served, found, kind, file, base=base, marks=marks)
            headers["Content-Length"] = str(file.tell())
            file.seek(0)
            stack.pop_all()
        return file, headers

    data, headers = await (service.encoders if body.any else service.searches).run(work)
    if isinstance(data, bytes):
        return Response(data, 200, headers, export.MEDIA_TYPES[kind])
    closing = BackgroundTask(data.close)
    return StreamingResponse(_chunks(data), 200, headers, export.MEDIA_TYPES[kind], closing)


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while data := file.read(1 << 18):
            yield data


async def _view(
    service: Service, served: Served, make: Callable[[ModelViews], dict[str, Any]]
) -> Response:
    return JSONResponse(await service.insights.run(functools.partial(make, served.views)))


@api.get("/v1/model", responses=json_of(ModelAnswer))
async def get_model(service: Shared, served: Shown) -> Response:
    """Return the architecture, the training and the published scores of an archive's model."""
    return await _view(service, served, ModelViews.model)


@api.get("/v1/model/scores", responses=json_of(OwnScoresAnswer))
async def get_model_scores(service: Shared, served: Shown) -> Response:
    """Measure retrieval among the annotated records; computed once and cached."""
    return await _view(service, served, ModelViews.scores)


@api.get("/v1/model/map", responses=json_of(MapAnswer))
async def get_embedding_map(service: Shared, served: Shown) -> Response:
    """Return a sample of the records on the first two principal components."""
    return await _view(service, served, ModelViews.map)


async def _compare(request: Request, service: Service, id_: str, body: Body) -> Response:
    served = choose(request, body.search.archive)
    work = functools.partial(similar_regions, served, id_, body, service.decoders)
    return JSONResponse(await service.encoders.run(work))


# A record's id may hold slashes, so what follows it is matched before the id alone.
@api.get("/v1/records/{id:path}/regions", responses=json_of(RegionsAnswer))
async def compare_regions(
    id: str,
    query: Annotated[
        str, Query(min_length=1, max_length=1_024, description="Id of the query record.")
    ],
    request: Request,
    service: Shared,
    archive: Annotated[
        str | None,
        Query(max_length=200, description="Name of the archive; the first one by default."),
    ] = None,
) -> Response:
    """Return the similar regions of two records."""
    wanted = SearchRequest.model_validate({"archive": archive, "id": query})
    return await _compare(request, service, id, Body(wanted, {}))


@api.post(
    "/v1/records/{id:path}/regions",
    responses=json_of(RegionsAnswer),
    openapi_extra=search_body(),
)
async def compare_regions_with_query(id: str, request: Request, service: Shared) -> Response:
    """Return the similar regions of a record and the query of a search, which is the body."""
    body = await read_body(request, service.settings.limits)
    return await _compare(request, service, id, body)


@api.get("/v1/records/{id:path}/thumbnail", responses=JPEG, response_class=Response)
async def get_thumbnail(id: str, service: Shared, served: Shown) -> Response:
    """Return the thumbnail of a record."""
    data = await service.searches.run(functools.partial(served.thumbnail, id))
    return Response(data, 200, _IMAGE_HEADERS, "image/jpeg")


@api.get("/v1/records/{id:path}/chip", responses=JPEG, response_class=Response)
async def get_chip(
    id: str,
    service: Shared,
    served: Shown,
    side: Annotated[int, Query(ge=16, le=2_048)] = 512,
) -> Response:
    """Return the pixels of a record as a JPEG whose longer side is at most `side`."""
    work = functools.partial(served.chip, id, service.decoders, side)
    return Response(await service.encoders.run(work), 200, _IMAGE_HEADERS, "image/jpeg")


@api.get("/v1/records/{id:path}", responses=json_of(RecordAnswer))
async def get_record(id: str, service: Shared, served: Shown) -> Response:
    """Return the stored values of a record."""
    return JSONResponse(await service.searches.run(functools.partial(served.record, id)))


@api.get("/v1/facets", responses=json_of(FacetsAnswer))
async def list_facets(service: Shared, served: Shown) -> Response:
    """Return the values that records can be filtered by, and a few example ids."""
    return JSONResponse(await service.searches.run(lambda: served.facets))


@api.get("/v1/labels", responses=json_of(LabelsAnswer))
async def list_labels(service: Shared, served: Shown) -> Response:
    """Return the labels of an archive with their counts."""
    counts = await service.searches.run(lambda: served.labels)
    return JSONResponse({"archive": served.name, "labels": counts})


@api.get("/v1", responses=json_of(ArchivesAnswer))
async def list_archives(service: Shared) -> Response:
    """Return the names and sizes of all archives, the default one first."""
    found = [
        {
            "name": served.name,
            "records": len(served.archive),
            "version": served.archive.version,
            "encodes_images": served.archive.encodes,
        }
        for served in service.catalog
    ]
    return JSONResponse({"archives": found})


@api.get("/v1/archive", responses=json_of(ArchiveAnswer))
async def get_archive(service: Shared, served: Shown) -> Response:
    """Return an archive's size, version, model card and scores, and the names of all archives."""
    facts = await service.searches.run(served.about)
    settings = service.settings
    more = {
        "archives": service.catalog.names,
        "basemap": settings.basemap,
        "basemap_credit": settings.basemap_credit,
        "collections": settings.collections_file is not None,
    }
    return JSONResponse({**facts, **more})


@api.post("/v1/feedback", status_code=201, responses=json_of(FeedbackAnswer, 201))
async def send_feedback(given: FeedbackRequest, request: Request, service: Shared) -> Response:
    """Store a user's relevance judgments of hits."""
    served = choose(request, given.archive)
    id_: str = request.state.request_id
    await service.searches.run(functools.partial(service.feedback.keep, served, given, id_))
    return JSONResponse({"kept": True}, 201)


@api.get("/v1/collections", responses=json_of(CollectionsAnswer))
async def list_collections(service: Shared, served: Shown) -> Response:
    """Return the collections of an archive, the last changed first."""
    found = await service.searches.run(lambda: service.collections.list(served.name))
    return JSONResponse({"archive": served.name, "collections": found})


@api.post("/v1/collections", status_code=201, responses=json_of(CollectionAnswer, 201))
async def create_collection(
    given: CollectionRequest, request: Request, service: Shared
) -> Response:
    """Create a named collection of marked records."""
    served = choose(request, given.archive)

    def work() -> dict[str, Any]:
        query, members = _checked(served, given)
        return service.collections.create(served.name, given.name, query, members, given.who)

    return JSONResponse(await service.searches.run(work), 201)


@api.get("/v1/collections/{id}", responses=json_of(CollectionAnswer))
async def get_collection(id: str, service: Shared) -> Response:
    """Return a collection with its members."""
    return JSONResponse(await service.searches.run(lambda: service.collections.get(id)))


@api.post("/v1/collections/{id}", responses=json_of(CollectionAnswer))
async def change_collection(id: str, given: CollectionChange, service: Shared) -> Response:
    """Rename a collection, mark, label or remove members, or add those of another one."""

    def work() -> dict[str, Any]:
        served = service.catalog.get(service.collections.get(id)["archive"])
        query, members = _checked(served, given)
        kept = service.collections
        return kept.change(id, given.name, query, members, given.who, given.merge)

    return JSONResponse(await service.searches.run(work))


@api.post("/v1/collections/{id}/undo", responses=json_of(CollectionAnswer))
async def undo_collection(id: str, service: Shared) -> Response:
    """Undo the last change of a collection's members."""
    return JSONResponse(await service.searches.run(lambda: service.collections.undo(id)))


@api.delete("/v1/collections/{id}", responses=json_of(CollectionAnswer))
async def delete_collection(id: str, service: Shared) -> Response:
    """Delete a collection; the answer holds it as it was."""
    return JSONResponse(await service.searches.run(lambda: service.collections.delete(id)))


@api.get(
    "/v1/collections/{id}/labels",
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}, **PROBLEMS},
    response_class=Response,
)
async def export_collection_labels(id: str, service: Shared) -> Response:
    """Download the labels of a collection as a table that `landcue index --labels` reads."""
    data = await service.searches.run(lambda: label_table(service.collections.get(id)))
    headers = {"Content-Disposition": 'attachment; filename="landcue-labels.csv"'}
    return Response(data, 200, headers, "text/csv; charset=utf-8")


def _checked(
    served: Served, given: CollectionRequest | CollectionChange
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    for member in given.members:
        served.check_id(member.id)
    query = None if given.query is None else given.query.model_dump(mode="json")
    return query, [member.model_dump() for member in given.members]


@api.get("/healthz", response_class=PlainTextResponse)
async def get_health() -> Response:
    """Return 200 while the process runs."""
    return PlainTextResponse("ok\n")


@api.get("/readyz", response_class=PlainTextResponse, responses=PROBLEMS)
async def get_readiness(service: Shared) -> Response:
    """Return 200 once models and vectors are loaded in this worker, while all archives exist."""
    if not service.ready:
        return problem(503, "models are being loaded", headers={"Retry-After": "2"})
    missing = await asyncio.to_thread(service.catalog.missing)
    if missing:
        return problem(503, f"not there any more: {', '.join(missing)}")
    return PlainTextResponse("ready\n")


@api.get("/metrics", response_class=PlainTextResponse, responses=PROBLEMS)
async def get_metrics(service: Shared) -> Response:
    """Return the counters and gauges of all workers in Prometheus' text format."""
    return Response(service.metrics.render(), media_type=METRICS)


def add_page(app: FastAPI, service: Service) -> None:
    """Add the web page, which holds no data: its calls of the API need the token, not its files."""
    page = service.page
    policy = content_policy(service.settings.basemap)

    async def file(request: Request) -> Response:
        found = page.get(request.scope["path"])
        if found is None:
            raise ProblemError(404, "the page has no such file")
        return _page_answer(request, found, policy)

    async def missing() -> Response:
        return PlainTextResponse(NOT_BUILT, 404)

    if not page.built:
        app.add_api_route(INDEX, missing, methods=["GET", "HEAD"], include_in_schema=False)
        return
    # Hashed names vary from build to build: in metrics they go by one route.
    fixed = sorted(path for path in page.paths if not path.startswith("/assets/"))
    for path in (*fixed, "/assets/{name}"):
        app.add_api_route(path, file, methods=["GET", "HEAD"], include_in_schema=False)


def _page_answer(request: Request, found: PageFile, policy: str) -> Response:
    coding = found.coding(request.headers.get("accept-encoding", ""))
    etag = found.etag(coding)
    headers = {
        "Cache-Control": _FOREVER if found.immutable else _REVALIDATE,
        "Content-Security-Policy": policy,
        "ETag": etag,
        "Vary": "Accept-Encoding",
    }
    sent = request.headers.get("if-none-match", "")
    known = {one.strip().removeprefix("W/") for one in sent.split(",")}
    if etag in known or "*" in known:
        return Response(None, 304, headers)
    if coding != "identity":
        headers["Content-Encoding"] = coding
    return Response(found.forms[coding], 200, headers, found.media_type)


def add_examples(described: dict[str, Any]) -> None:
    """Add the examples to an OpenAPI description: of parameters, bodies and answers."""
    for name, example in json.loads(EXAMPLES.read_text(encoding="utf-8")).items():
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
