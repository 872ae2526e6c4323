"""Routes of archives, their records and their models, and of the service's own state."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from landcue.errors import UsageError
from landcue.server.archives import Served
from landcue.server.errors import ProblemError, problem
from landcue.server.metrics import MEDIA_TYPE as METRICS
from landcue.server.model_views import ModelViews, similar_regions
from landcue.server.queries import Body, read_body
from landcue.server.routes.base import (
    IMAGE_HEADERS,
    JPEG,
    PROBLEMS,
    Service,
    Shared,
    Shown,
    choose,
    json_of,
    search_body,
)
from landcue.server.schemas.archives import (
    ArchiveAnswer,
    ArchivesAnswer,
    FacetsAnswer,
    LabelsAnswer,
    MapAnswer,
    ModelAnswer,
    OwnScoresAnswer,
    RecordAnswer,
    RegionsAnswer,
)
from landcue.server.schemas.searches import SearchRequest

router = APIRouter(generate_unique_id_function=lambda route: route.name)


async def _view(
    service: Service, served: Served, read: Callable[[ModelViews], dict[str, Any]]
) -> Response:
    def work() -> dict[str, Any]:  # in one thread, so that nothing is computed twice
        try:
            return read(served.views)
        except UsageError as error:
            raise ProblemError(404, f"archive {served.name!r}: {error}") from None

    return JSONResponse(await service.insights.run(work))


@router.get("/v1/model", responses=json_of(ModelAnswer))
async def get_model(service: Shared, served: Shown) -> Response:
    """Return the architecture, the training and the published scores of an archive's model."""
    return await _view(service, served, lambda views: views.model)


@router.get("/v1/model/scores", responses=json_of(OwnScoresAnswer))
async def get_model_scores(service: Shared, served: Shown) -> Response:
    """Measure retrieval among the annotated records; computed once and cached."""
    return await _view(service, served, lambda views: views.scores)


@router.get("/v1/model/map", responses=json_of(MapAnswer))
async def get_embedding_map(service: Shared, served: Shown) -> Response:
    """Return a sample of the records on the first two principal components."""
    return await _view(service, served, lambda views: views.map)


async def _compare(service: Service, served: Served, id_: str, body: Body) -> Response:
    def work() -> dict[str, Any]:
        return similar_regions(served, id_, service.with_kept(body, served), service.decoders)

    return JSONResponse(await service.encoders.run(work))


# A record's id may hold slashes, so what follows it is matched before the id alone.
@router.get("/v1/records/{id:path}/regions", responses=json_of(RegionsAnswer))
async def compare_regions(
    id: str,
    query: Annotated[
        str, Query(min_length=1, max_length=1_024, description="Id of the query record.")
    ],
    service: Shared,
    served: Shown,
) -> Response:
    """Return the similar regions of two records."""
    wanted = SearchRequest.model_validate({"id": query})
    return await _compare(service, served, id, Body(wanted, {}))


@router.post(
    "/v1/records/{id:path}/regions",
    responses=json_of(RegionsAnswer),
    openapi_extra=search_body(),
)
async def compare_regions_with_query(id: str, request: Request, service: Shared) -> Response:
    """Return the similar regions of a record and the query of a search, which is the body."""
    body = await read_body(request, service.settings.limits)
    return await _compare(service, choose(request, body.search.archive), id, body)


@router.get("/v1/records/{id:path}/thumbnail", responses=JPEG, response_class=Response)
async def get_thumbnail(id: str, service: Shared, served: Shown) -> Response:
    """Return the thumbnail of a record."""
    data = await service.searches.run(functools.partial(served.thumbnail, id))
    return Response(data, 200, IMAGE_HEADERS, "image/jpeg")


@router.get("/v1/records/{id:path}/chip", responses=JPEG, response_class=Response)
async def get_chip(
    id: str,
    service: Shared,
    served: Shown,
    side: Annotated[int, Query(ge=16, le=2_048)] = 512,
) -> Response:
    """Return the pixels of a record as a JPEG whose longer side is at most `side`."""
    work = functools.partial(served.chip, id, service.decoders, side)
    return Response(await service.encoders.run(work), 200, IMAGE_HEADERS, "image/jpeg")


@router.get("/v1/records/{id:path}", responses=json_of(RecordAnswer))
async def get_record(id: str, service: Shared, served: Shown) -> Response:
    """Return the stored values of a record."""
    return JSONResponse(await service.searches.run(functools.partial(served.record, id)))


@router.get("/v1/facets", responses=json_of(FacetsAnswer))
async def list_facets(service: Shared, served: Shown) -> Response:
    """Return the values that records can be filtered by, and a few example ids."""
    return JSONResponse(await service.searches.run(lambda: served.facets))


@router.get("/v1/labels", responses=json_of(LabelsAnswer))
async def list_labels(service: Shared, served: Shown) -> Response:
    """Return the labels of an archive with their counts."""
    counts = await service.searches.run(lambda: served.labels)
    return JSONResponse({"archive": served.name, "labels": counts})


@router.get("/v1", responses=json_of(ArchivesAnswer))
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


@router.get("/v1/archive", responses=json_of(ArchiveAnswer))
async def get_archive(service: Shared, served: Shown) -> Response:
    """Return an archive's size, version, model card and scores, and the names of all archives."""
    facts = await service.searches.run(served.about)
    settings = service.settings
    more = {
        "archives": service.catalog.names,
        "basemap": settings.basemap,
        "basemap_credit": settings.basemap_credit,
        "collections": settings.collections_file is not None,
        "max_pixels": settings.limits.pixels,
        "max_upload_bytes": settings.limits.upload_bytes,
    }
    return JSONResponse({**facts, **more})


@router.get("/healthz", response_class=PlainTextResponse)
async def get_health() -> Response:
    """Return 200 while the process runs."""
    return PlainTextResponse("ok\n")


@router.get("/readyz", response_class=PlainTextResponse, responses=PROBLEMS)
async def get_readiness(service: Shared) -> Response:
    """Return 200 once models and vectors are loaded in this worker, while all archives exist."""
    if not service.ready:
        return problem(503, "models are being loaded", headers={"Retry-After": "2"})
    missing = await asyncio.to_thread(service.catalog.missing)
    if missing:
        return problem(503, f"not there any more: {', '.join(missing)}")
    return PlainTextResponse("ready\n")


@router.get("/metrics", response_class=PlainTextResponse, responses=PROBLEMS)
async def get_metrics(service: Shared) -> Response:
    """Return the counters and gauges of all workers in Prometheus' text format."""
    return Response(service.metrics.render(), media_type=METRICS)
