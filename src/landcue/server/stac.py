"""A STAC API of the archives: core, collections, features and item search (version 1.0.0).

A collection is an archive, an item one of its records; assets are the thumbnail and the chip. The
standard describes these paths, so that the OpenAPI document does not.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import json
from dataclasses import replace
from typing import Annotated, Any, Literal, cast
from urllib.parse import quote, urlencode

import numpy as np
import shapely
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json
from shapely.geometry.base import BaseGeometry
from starlette.responses import JSONResponse, Response

from landcue.errors import UsageError, refusal
from landcue.interval import parse_interval
from landcue.search import Filter, SearchOptions, cql2
from landcue.search.pages import Cursor
from landcue.search.place import check_geometry, read_polygon
from landcue.server.errors import ProblemError
from landcue.server.queries import check_effort
from landcue.server.routes.base import Service, service_of
from landcue.server.schemas.searches import MAX_CORNERS, MAX_DEPTH, count_positions
from landcue.server.stac_items import (
    GEOJSON,
    QUERYABLES,
    SCHEMA,
    VERSION,
    collection_value,
    item_value,
    link,
    queryables_value,
)
from landcue.types import Bounds

CONFORMS = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0/ogcapi-features",
    "https://api.stacspec.org/v1.0.0/item-search",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson",
    "https://api.stacspec.org/v1.0.0/item-search#filter",
    "http://www.opengis.net/spec/ogcapi-features-3/1.0/conf/filter",
    "http://www.opengis.net/spec/ogcapi-features-3/1.0/conf/features-filter",
    "http://www.opengis.net/spec/cql2/1.0/conf/cql2-text",
    "http://www.opengis.net/spec/cql2/1.0/conf/cql2-json",
]
MAX_LIMIT = 1_000

router = APIRouter(prefix="/stac", include_in_schema=False)
_Shared = Annotated[Service, Depends(service_of)]


class ItemSearch(BaseModel):
    """The parameters of an item search, as a client posts them."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    collections: list[Annotated[str, Field(max_length=200)]] = Field([], max_length=100)
    ids: list[Annotated[str, Field(max_length=1_024)]] = Field([], max_length=1_000)
    bbox: list[float] | None = Field(None, min_length=4, max_length=6)
    intersects: dict[str, Any] | None = None
    datetime: str | None = Field(None, max_length=100)
    limit: int = Field(10, ge=1)
    token: str | None = Field(None, max_length=8_192)
    filter: str | dict[str, Any] | None = None
    filter_lang: Literal["cql2-text", "cql2-json"] | None = Field(None, alias="filter-lang")


@router.get("")
async def landing(request: Request, service: _Shared) -> Response:
    """Return the landing page: a catalog with links to everything else."""
    root = _root(request)
    links = [
        link("self", root, title="This document"),
        link("root", root),
        link("conformance", f"{root}/conformance"),
        link("data", f"{root}/collections"),
        link("search", f"{root}/search", GEOJSON, method="GET"),
        link("search", f"{root}/search", GEOJSON, method="POST"),
        link(QUERYABLES, f"{root}/queryables", SCHEMA),
        link(
            "service-desc",
            f"{root.removesuffix('/stac')}/openapi.json",
            "application/json",
        ),
        link("service-doc", f"{root.removesuffix('/stac')}/docs", "text/html"),
        *(
            link("child", f"{root}/collections/{quote(name, safe='')}", title=name)
            for name in service.catalog.names
        ),
    ]
    return JSONResponse(
        {
            "type": "Catalog",
            "stac_version": VERSION,
            "id": "landcue",
            "title": "LandCue",
            "description": "Archives of embedded images.",
            "conformsTo": CONFORMS,
            "links": links,
        }
    )


@router.get("/conformance")
async def conformance() -> Response:
    """Return the classes of the standards that the service conforms to."""
    return JSONResponse({"conformsTo": CONFORMS})


@router.get("/queryables")
async def queryables(request: Request, service: _Shared) -> Response:
    """Return the properties that filters may use, as a JSON schema."""
    names = dict.fromkeys(
        name for served in service.catalog for name in served.archive.manifest.label_names
    )
    value = queryables_value(f"{_root(request)}/queryables", names)
    return JSONResponse(value, media_type=SCHEMA)


@router.get("/collections/{name}/queryables")
async def queryables_of(name: str, request: Request, service: _Shared) -> Response:
    """Return the properties that filters of an archive may use."""
    names = service.catalog.get(name).archive.manifest.label_names
    at = f"{_root(request)}/collections/{quote(name, safe='')}/queryables"
    return JSONResponse(queryables_value(at, names), media_type=SCHEMA)


@router.get("/collections")
async def collections(request: Request, service: _Shared) -> Response:
    """Return all archives as collections."""
    root = _root(request)

    def work() -> list[dict[str, Any]]:
        return [collection_value(served, root) for served in service.catalog]

    found = await service.searches.run(work)
    links = [link("self", f"{root}/collections"), link("root", root)]
    return JSONResponse({"collections": found, "links": links})


@router.get("/collections/{name}")
async def collection(name: str, request: Request, service: _Shared) -> Response:
    """Return an archive as a collection."""
    served = service.catalog.get(name)
    work = functools.partial(collection_value, served, _root(request))
    return JSONResponse(await service.searches.run(work))


@router.get("/collections/{name}/items")
async def items(name: str, request: Request, service: _Shared) -> Response:
    """Return the records of an archive, page by page."""
    service.catalog.get(name)
    given = _parameters(request) | {"collections": [name]}
    path = f"collections/{quote(name, safe='')}/items"
    return await _search(request, service, _parse(given), path)


@router.get("/collections/{name}/items/{id:path}")
async def item(name: str, id: str, request: Request, service: _Shared) -> Response:
    """Return a record as an item."""
    served = service.catalog.get(name)

    def work() -> dict[str, Any]:
        return item_value(served, served.archive.record(served.check_id(id)), _root(request))

    return JSONResponse(await service.searches.run(work), media_type=GEOJSON)


@router.get("/search")
async def search(request: Request, service: _Shared) -> Response:
    """Search items; the parameters are those of STAC."""
    return await _search(request, service, _parse(_parameters(request)), "search")


@router.post("/search")
async def search_posted(request: Request, service: _Shared) -> Response:
    """Search items; the parameters are those of STAC, in the body."""
    body = await request.body()
    given = await asyncio.to_thread(_read_object, body)
    wanted = await asyncio.to_thread(_parse, given)
    return await _search(request, service, wanted, "search", given)


def _read_object(body: bytes) -> dict[str, Any]:
    try:
        given = from_json(body, allow_inf_nan=False)
        json.dumps(given, allow_nan=False)  # the next page's body holds it, and 1e999 is infinite
    except ValueError:
        raise ProblemError(400, "the body is not valid JSON") from None
    if not isinstance(given, dict):
        raise ProblemError(400, "the body is not a JSON object")
    return cast("dict[str, Any]", given)


def _parameters(request: Request) -> dict[str, Any]:
    """Return a search in the query string, with its lists and its geometry."""
    given: dict[str, Any] = dict(request.query_params)
    for name in ("collections", "ids", "bbox"):
        if name in given:
            given[name] = [part for part in str(given[name]).split(",") if part]
    if "intersects" in given:
        try:
            given["intersects"] = from_json(given["intersects"], allow_inf_nan=False)
        except ValueError:
            raise ProblemError(400, "intersects: this is not valid JSON") from None
    return given


def _parse(given: dict[str, Any]) -> ItemSearch:
    try:
        return ItemSearch.model_validate(given)
    except ValidationError as error:  # 400 by the standard, where other routes have 422
        first = error.errors(include_url=False)[0]
        at = ".".join(map(str, first["loc"]))
        raise ProblemError(400, f"{at}: {refusal(first['msg'])}") from None


async def _search(
    request: Request,
    service: Service,
    wanted: ItemSearch,
    path: str,
    posted: dict[str, Any] | None = None,
) -> Response:
    root = _root(request)

    def work() -> dict[str, Any]:
        features, token, matched = _page(service, wanted, root)
        links = [link("self", f"{root}/{path}", GEOJSON), link("root", root)]
        if token is not None and posted is None:
            asked = {**dict(request.query_params), "token": token}
            links.append(link("next", f"{root}/{path}?{urlencode(asked)}", GEOJSON, method="GET"))
        elif token is not None:
            body = {**(posted or {}), "token": token}
            where = f"{root}/{path}"
            links.append({**link("next", where, GEOJSON, method="POST"), "body": body})
        return {
            "type": "FeatureCollection",
            "features": features,
            "links": links,
            "numberReturned": len(features),
            **({} if matched is None else {"numberMatched": matched}),
        }

    answer = functools.partial(JSONResponse, media_type=GEOJSON)
    return await service.searches.run(lambda: answer(work()))


def _page(
    service: Service, wanted: ItemSearch, root: str
) -> tuple[list[dict[str, Any]], str | None, int | None]:
    """Return the items of a page, the token of the next one, and how many there are, if known."""
    known = service.catalog.names
    names = [name for name in known if not wanted.collections or name in wanted.collections]
    limit = min(wanted.limit, MAX_LIMIT)
    name, cursor = _read_token(wanted.token)
    if name is not None and name not in known:
        raise ProblemError(400, "the token is for another service: follow the link 'next'")
    if cursor is not None and Cursor.decode(cursor).seen > MAX_DEPTH:
        raise ProblemError(400, f"pages reach down to item {MAX_DEPTH:,}: narrow the search")
    where = _filter(wanted)
    features: list[dict[str, Any]] = []
    refused: list[UsageError] = []
    matched = 0
    for place, one in enumerate(names):
        if name is not None and known.index(one) < known.index(name):
            continue
        served = service.catalog.get(one)
        ids = tuple(id_ for id_ in dict.fromkeys(wanted.ids) if id_ in served.archive)
        if not len(served.archive) or (wanted.ids and not ids):
            continue
        options = SearchOptions(cursor=cursor)
        remaining = limit - len(features)
        chosen = replace(where, ids=ids)
        try:
            result = served.archive.search(None, where=chosen, k=remaining, options=options)
        except UsageError as error:  # such as a label that this archive does not have
            if where.cql2 is None or len(names) == 1:
                raise
            refused.append(error)
            continue
        cursor = None
        matched += 0 if result.plan is None else result.plan.allowed
        features += [item_value(served, one, root) for one in served.archive.records(result.ids)]
        total = matched if len(names) == 1 else None
        if result.cursor is not None:
            return features, _token(one, result.cursor), total
        if len(features) >= limit and place + 1 < len(names):
            return features, _token(names[place + 1], None), total
    if refused and len(refused) == len(names):
        raise refused[0]
    return features, None, matched if len(names) == 1 else None


def _filter(wanted: ItemSearch) -> Filter:
    if wanted.bbox is not None and wanted.intersects is not None:
        raise ProblemError(400, "give bbox or intersects, not both")
    box = wanted.bbox
    if box is not None:
        if len(box) == 5:
            raise ProblemError(400, "bbox: use four numbers, or six with heights")
        west, south, east, north = box if len(box) == 4 else (box[0], box[1], box[3], box[4])
        bounds = Bounds(west, south, east, north)
    else:
        bounds = None
    polygon = None
    if wanted.intersects is not None:
        if count_positions(wanted.intersects) > MAX_CORNERS:
            raise ProblemError(400, f"intersects: there are more than {MAX_CORNERS:,} corners")
        polygon = check_effort(_geometry(wanted.intersects), "intersects")
    if wanted.datetime:
        parse_interval(wanted.datetime, how="write 2024-06-01T00:00:00Z/..", rfc3339=True)
    text = wanted.filter if isinstance(wanted.filter, str) else None
    if wanted.filter is not None and text is None:
        if count_positions(wanted.filter) > MAX_CORNERS:
            raise ProblemError(400, f"the filter has more than {MAX_CORNERS:,} corners or values")
        text = json.dumps(wanted.filter)
    if text is not None:
        cql2.parse(text)  # which is not the archive's to refuse
    return Filter(bbox=bounds, polygon=polygon, datetime=wanted.datetime or None, cql2=text)


def _geometry(geometry: dict[str, Any]) -> BaseGeometry:
    """Return a geometry of any type."""
    if geometry.get("type") in ("Polygon", "MultiPolygon"):
        return read_polygon(json.dumps(geometry))
    try:
        shape = shapely.from_geojson(json.dumps(geometry))
    except (shapely.errors.ShapelyError, ValueError):
        shape = None
    if shape is None or shape.is_empty or not np.isfinite(shape.bounds).all():
        raise ProblemError(400, "intersects: use a GeoJSON geometry with coordinates")
    return check_geometry(shape, "intersects")


def _token(name: str, cursor: str | None) -> str:
    return base64.urlsafe_b64encode(json.dumps([name, cursor]).encode()).decode()


def _read_token(token: str | None) -> tuple[str | None, str | None]:
    if token is None:
        return None, None
    try:
        name, cursor = json.loads(base64.urlsafe_b64decode(token))
        if not isinstance(name, str) or not isinstance(cursor, str | None):
            raise ValueError
    except (ValueError, TypeError, RecursionError):
        raise UsageError("the token cannot be read: follow the link 'next' unchanged") from None
    return name, cursor


def _root(request: Request) -> str:
    return f"{str(request.base_url).rstrip('/')}/stac"
