"""Routes of change between dates, of one place over time, and of similarity as a raster."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import IO, Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from landcue.search.change import encoder_of
from landcue.search.changes import Changes
from landcue.search.local import LocalBackend
from landcue.server.archives import Served
from landcue.server.errors import ProblemError
from landcue.server.export import MEDIA_TYPES, SUFFIXES
from landcue.server.queries import (
    Body,
    check_encodes,
    parse_json,
    read_body,
    read_json,
    read_query,
    to_filter,
)
from landcue.server.routes.base import (
    Service,
    Shared,
    Shown,
    choose,
    file_of,
    json_body,
    json_of,
    json_query,
    search_body,
    send_file,
)
from landcue.server.schemas.changes import ChangeAnswer, ChangeRequest, TimelineAnswer
from landcue.server.schemas.searches import SearchRequest

router = APIRouter(generate_unique_id_function=lambda route: route.name)

_TIFF = "image/tiff; application=geotiff; profile=cloud-optimized"
_RASTER = file_of("image/tiff", format="binary")
_KINDS = (MEDIA_TYPES[kind].partition(";")[0] for kind in ("geojson", "csv", "geoparquet"))
_TABLES = file_of(*_KINDS, format="binary")

_Hidden = Annotated[str, Query(max_length=8_192, include_in_schema=False)]
_Grid = Annotated[
    str | None,
    Query(max_length=60, description="Zone and size of the cells, where there are several."),
]


@router.post("/v1/change", responses=json_of(ChangeAnswer), openapi_extra=json_body(ChangeRequest))
async def find_change(request: Request, service: Shared) -> Response:
    """Return pairs of one place at two dates whose difference is unusual, the largest first."""
    given = await read_json(request, ChangeRequest)
    served, other = choose(request, given.archive), _other(service, given)

    def work() -> dict[str, Any]:
        value = _changes(served, other, given, given.k).to_json()
        return {"archive": served.name, "other": other.name, **value}

    return JSONResponse(await service.surveys.run(work))


@router.get(
    "/v1/change/export",
    responses=_TABLES,
    openapi_extra=json_query(ChangeRequest, "A comparison, as JSON."),
    response_class=Response,
)
async def export_change(
    http: Request,
    service: Shared,
    request: _Hidden,
    format: Annotated[
        Literal["geojson", "csv", "geoparquet"], Query(description="Format of the answer.")
    ] = "geojson",
) -> Response:
    """Download all unusual pairs as a file; `X-Row-Count` is their number."""
    given = parse_json(ChangeRequest, request)
    served, other = choose(http, given.archive), _other(service, given)
    service.check_files()

    def work() -> tuple[IO[bytes], int]:
        found = _changes(served, other, given, None)
        return _written(found.write, SUFFIXES[format]), len(found)

    file, rows = await service.surveys.run(work)
    name, headers = f"landcue-change.{SUFFIXES[format]}", {"X-Row-Count": str(rows)}
    return send_file(service, file, name, MEDIA_TYPES[format], headers)


# A record's id may hold slashes, so this is matched before the id alone.
@router.get("/v1/records/{id:path}/timeline", responses=json_of(TimelineAnswer))
async def get_timeline(id: str, service: Shared, served: Shown) -> Response:
    """Return all records of a record's place that have a time, the earliest first."""

    def work() -> dict[str, Any]:
        moments = served.archive.timeline(served.check_id(id))
        values = [{**asdict(one), "datetime": one.datetime.isoformat()} for one in moments]
        return {"archive": served.name, "moments": values}

    return JSONResponse(await service.searches.run(work))


@router.get(
    "/v1/raster/export",
    responses=_RASTER,
    openapi_extra=json_query(SearchRequest, "A search, as JSON."),
    response_class=Response,
)
async def export_raster(
    http: Request, service: Shared, request: _Hidden, grid: _Grid = None
) -> Response:
    """Download the similarity of all chips of a fixed grid to a query as a GeoTIFF."""
    return await _raster(http, service, Body(parse_json(SearchRequest, request), {}), grid)


@router.post(
    "/v1/raster/export",
    responses=_RASTER,
    openapi_extra=search_body(),
    response_class=Response,
)
async def export_raster_search(request: Request, service: Shared, grid: _Grid = None) -> Response:
    """Download the similarity of all chips of a grid to the query in the body as a GeoTIFF."""
    service.surveys.check()
    return await _raster(request, service, await read_body(request, service.settings.limits), grid)


async def _raster(request: Request, service: Service, body: Body, grid: str | None) -> Response:
    served = choose(request, body.search.archive)
    check_encodes(served, body)
    service.check_files()

    def work() -> IO[bytes]:
        query = read_query(served, service.with_kept(body, served), service.decoders)
        where = to_filter(body.search.filters)
        return _written(lambda path: served.archive.map(query, path, where=where, grid=grid), "tif")

    return send_file(service, await service.surveys.run(work), "landcue-similarity.tif", _TIFF)


def _other(service: Service, given: ChangeRequest) -> Served:
    """Return the archive of the later date; both must be folders of one model."""
    pair = service.catalog.get(given.archive), service.catalog.get(given.other or given.archive)
    backends = [one.archive.backend for one in pair]
    folders = [one for one in backends if isinstance(one, LocalBackend)]
    if len({encoder_of(one.archive) for one in folders}) > 1:
        names = " and ".join(repr(one.name) for one in pair)
        raise ProblemError(409, f"archives {names} were made by different models")
    return pair[1]


def _changes(served: Served, other: Served, given: ChangeRequest, k: int | None) -> Changes:
    unchanged = given.unchanged
    return served.archive.change(
        before=given.before,
        after=given.after,
        where=to_filter(given.filters),
        labels_before=given.labels_before,
        labels_after=given.labels_after,
        gained=given.gained,
        lost=given.lost,
        by=given.by,
        unchanged=unchanged
        if unchanged is None or isinstance(unchanged, str)
        else [(one[0], one[1]) for one in unchanged],
        other=None if other is served else other.archive,
        scoring=given.scoring,
        alpha=given.alpha,
        min_overlap=given.min_overlap,
        k=k,
    )


def _written(write: Callable[[Path], Any], suffix: str) -> IO[bytes]:
    """Return the content of a file that ``write`` writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"out.{suffix}"
        write(path)
        file: IO[bytes] = tempfile.SpooledTemporaryFile(8 << 20)  # noqa: SIM115
        with path.open("rb") as made:
            while data := made.read(1 << 20):
                file.write(data)
    return file
