"""Routes of searches: hits, files of results, counts of scores, what a map shows."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from dataclasses import replace
from typing import IO, Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from landcue.data.pictures import Scale
from landcue.search.survey import MOST_ZOOM
from landcue.server import export
from landcue.server.errors import ProblemError
from landcue.server.queries import Body, parse_json, read_body, run_search, scenes_of
from landcue.server.routes.base import (
    Service,
    Shared,
    choose,
    file_of,
    json_of,
    json_query,
    search_body,
    send_file,
)
from landcue.server.schemas.searches import (
    MAX_DEPTH,
    PlacesAnswer,
    ScoresAnswer,
    SearchAnswer,
    SearchRequest,
)
from landcue.types import Bounds

_log = logging.getLogger("landcue.server")
router = APIRouter(generate_unique_id_function=lambda route: route.name)

_IN_MEMORY = 8 << 20
"""Bytes of a file of results that are held in memory; the rest of it is on disk."""

_FILES: dict[str, Any] = {
    export.MEDIA_TYPES[kind].partition(";")[0]: {"schema": {"type": shown, "format": written}}
    for kind, shown, written in (
        ("geojson", "object", "geojson"),
        ("csv", "string", "csv"),
        ("geoparquet", "string", "binary"),
        ("arrow", "string", "binary"),
        ("npy", "string", "binary"),
    )
}


_SEARCH_ANSWERS = json_of(SearchAnswer, files=_FILES)

ResultFormat = Annotated[export.Format, Query(description="Format of the answer.")]


@router.post("/v1/search", responses=_SEARCH_ANSWERS, openapi_extra=search_body())
async def search(request: Request, service: Shared, format: ResultFormat = "json") -> Response:
    """Search by record, by images, by several positive and negative examples, or by filters alone.

    Send images as a multipart form with the JSON in its part `request`.
    """
    return await _search(request, service, await _body(request, service), format)


_All = Annotated[bool, Query(description="All records that pass, not only a page of `k`.")]

_Marks = Annotated[
    str | None, Query(max_length=200, description="Id of a collection: adds its marks and notes.")
]


@router.get(
    "/v1/export",
    responses=_SEARCH_ANSWERS,
    openapi_extra=json_query(SearchRequest, "A search, as JSON."),
)
async def export_result(
    http: Request,
    service: Shared,
    request: Annotated[str, Query(max_length=8_192, include_in_schema=False)],
    format: ResultFormat = "geojson",
    all: _All = False,
    collection: _Marks = None,
) -> Response:
    """Download the result of a search as a file; `X-Row-Count` is its number of rows."""
    body = Body(parse_json(SearchRequest, request), {})
    return await _search(http, service, body, format, every=all, collection=collection)


@router.post("/v1/export", responses=_SEARCH_ANSWERS, openapi_extra=search_body())
async def export_search(
    request: Request,
    service: Shared,
    format: ResultFormat = "geojson",
    all: _All = False,
    collection: _Marks = None,
) -> Response:
    """Download the result of a search, which is the body, as a file."""
    body = await _body(request, service, every=all)
    return await _search(request, service, body, format, every=all, collection=collection)


@router.post("/v1/scores", responses=json_of(ScoresAnswer), openapi_extra=search_body())
async def count_scores(
    request: Request,
    service: Shared,
    bins: Annotated[int, Query(ge=1, le=1_000, description="Number of ranges.")] = 50,
) -> Response:
    """Count the records that match a search by their scores, and those that reach `min_score`."""
    body = await _body(request, service, every=True)
    served = choose(request, body.search.archive)
    least = body.search.min_score
    body = replace(body, search=body.search.model_copy(update={"min_score": None}))

    def work() -> dict[str, Any]:
        found = run_search(served, service.with_kept(body, served), service.decoders, every=True)
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

    return JSONResponse(await service.surveys.run(work))


@router.post("/v1/map", responses=json_of(PlacesAnswer), openapi_extra=search_body())
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
    body = await _body(request, service, every=True)
    served = choose(request, body.search.archive)
    box = Bounds.parse(bbox)

    def work() -> dict[str, Any]:
        found = run_search(served, service.with_kept(body, served), service.decoders, every=True)
        view = served.archive.map_view(box, zoom, found=found, most=most, label=label)
        return {"archive": served.name, "records": len(served.archive), **view.to_json()}

    return JSONResponse(await service.surveys.run(work))


@router.post(
    "/v1/picture",
    responses=file_of("image/png", format="binary"),
    response_class=Response,
    openapi_extra=search_body(),
)
async def get_picture(
    request: Request,
    service: Shared,
    bands: Annotated[
        str | None,
        Query(pattern=r"^\d{1,4}(,\d{1,4}){2}$", description="Red, green and blue, from 1."),
    ] = None,
    scale: Annotated[
        str | None,
        Query(max_length=80, description="`auto`, `percentile:2,98` or `fixed:0,3000`."),
    ] = None,
    side: Annotated[int, Query(ge=1, le=4_096, description="Most pixels of a side.")] = 2_048,
) -> Response:
    """Return the part `image` of a form as the model sees it: bands and scale chosen, a PNG.

    `X-Image-Size` is the width and the height before it was reduced to `side`.
    """
    body = await _body(request, service)
    if set(body.images) != {"image"}:
        raise ProblemError(400, "send one image: the part 'image' of a form")
    served = choose(request, body.search.archive)
    if scale is not None:
        Scale.parse(scale)

    def work() -> tuple[bytes, int, int]:
        scenes = scenes_of(served.archive)
        if bands is not None:
            scenes["bands"] = [int(one) for one in bands.split(",")]
        if scale is not None:
            scenes["scale"] = scale
        return service.decoders.picture(body.images["image"][0], scenes, side)

    png, width, height = await service.encoders.run(work)
    return Response(png, 200, {"X-Image-Size": f"{width},{height}"}, "image/png")


async def _body(request: Request, service: Service, *, every: bool = False) -> Body:
    if request.headers.get("content-type", "").startswith("multipart/"):
        (service.surveys if every else service.encoders).check()
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
    pool = service.encoders if body.any else service.searches
    if every:  # all records: seconds where they are many, for which no page of hits waits
        pool = service.surveys
    if kind != "json":
        service.check_files()

    def work() -> tuple[bytes | IO[bytes], str, dict[str, str]]:
        wanted = service.with_kept(body, served)
        found = run_search(served, wanted, service.decoders, every=every)
        headers = {"X-Row-Count": str(len(found))} if kind != "json" or every else {}
        if kind in ("arrow", "npy"):  # a .npy file cannot say of which space its embeddings are
            headers["X-Model-Fingerprint"] = served.archive.space.fingerprint
        if kind == "json":
            if len(found) > MAX_DEPTH:
                raise ProblemError(413, f"{len(found):,} rows are too many for JSON: use geojson")
            return export.to_json(served, found, predicted=body.search.predicted), "", headers
        marks = None if collection is None else service.collections.marks(collection, served.name)
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(tempfile.SpooledTemporaryFile(_IN_MEMORY))
            try:
                export.write(served, found, kind, file, base=base, marks=marks)
            except OSError as error:
                _log.error("a file of results", extra={"facts": {"error": str(error)}})
                raise ProblemError(503, "there is no room for the file: ask for less") from None
            stack.pop_all()
        return file, export.file_name(found, kind), headers

    data, name, headers = await pool.run(work)
    if isinstance(data, bytes):
        return Response(data, 200, headers, export.MEDIA_TYPES[kind])
    return send_file(service, data, name, export.MEDIA_TYPES[kind], headers)
