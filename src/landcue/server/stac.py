"""A STAC API of the archives: core, collections, features and item search (version 1.0.0).

A collection is an archive, an item one of its records; assets are the thumbnail and the chip. The
standard describes these paths, so that the OpenAPI document does not.
"""

from __future__ import annotations

import base64
import functools
import json
from datetime import datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import shapely.geometry
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import JSONResponse, Response

from landcue.errors import UsageError
from landcue.search import Filter, SearchOptions
from landcue.search.pages import Cursor
from landcue.search.place import read_polygon
from landcue.server.archives import Served
from landcue.server.errors import InvalidError, ProblemError
from landcue.server.routes.base import Service, service_of
from landcue.server.schemas.searches import MAX_CORNERS, MAX_DEPTH, count_positions
from landcue.types import Bounds, Record

VERSION = "1.1.0"
CONFORMS = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0/ogcapi-features",
    "https://api.stacspec.org/v1.0.0/item-search",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson",
]
MAX_LIMIT = 1_000
_GEOJSON = "application/geo+json"
_UNKNOWN_FROM = "1900-01-01T00:00:00Z"
_INSTANT = timedelta(milliseconds=1)

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
    limit: int = Field(10, ge=1, le=10_000)
    token: str | None = Field(None, max_length=8_192)


@router.get("")
async def landing(request: Request, service: _Shared) -> Response:
    """Return the landing page: a catalog with links to everything else."""
    root = _root(request)
    links = [
        _link("self", root, title="This document"),
        _link("root", root),
        _link("conformance", f"{root}/conformance"),
        _link("data", f"{root}/collections"),
        _link("search", f"{root}/search", _GEOJSON, method="GET"),
        _link("search", f"{root}/search", _GEOJSON, method="POST"),
        _link(
            "service-desc",
            f"{root.removesuffix('/stac')}/openapi.json",
            "application/vnd.oai.openapi+json;version=3.1",
        ),
        *(
            _link("child", f"{root}/collections/{quote(name, safe='')}", title=name)
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


@router.get("/collections")
async def collections(request: Request, service: _Shared) -> Response:
    """Return all archives as collections."""
    root = _root(request)

    def work() -> list[dict[str, Any]]:
        return [_collection(served, root) for served in service.catalog]

    found = await service.searches.run(work)
    links = [_link("self", f"{root}/collections"), _link("root", root)]
    return JSONResponse({"collections": found, "links": links})


@router.get("/collections/{name}")
async def collection(name: str, request: Request, service: _Shared) -> Response:
    """Return an archive as a collection."""
    served = service.catalog.get(name)
    work = functools.partial(_collection, served, _root(request))
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
        return _item(served, served.archive.record(served.check_id(id)), _root(request))

    return JSONResponse(await service.searches.run(work), media_type=_GEOJSON)


@router.get("/search")
async def search(request: Request, service: _Shared) -> Response:
    """Search items; the parameters are those of STAC."""
    return await _search(request, service, _parse(_parameters(request)), "search")


@router.post("/search")
async def search_posted(request: Request, service: _Shared) -> Response:
    """Search items; the parameters are those of STAC, in the body."""
    try:
        given = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise ProblemError(400, "the body is not valid JSON") from None
    if not isinstance(given, dict):
        raise ProblemError(400, "the body is not a JSON object")
    return await _search(request, service, _parse(given), "search", given)


def _parameters(request: Request) -> dict[str, Any]:
    """Return a search in the query string, with its lists and its geometry."""
    given: dict[str, Any] = dict(request.query_params)
    for name in ("collections", "ids", "bbox"):
        if name in given:
            given[name] = [part for part in str(given[name]).split(",") if part]
    if "intersects" in given:
        try:
            given["intersects"] = json.loads(given["intersects"])
        except (ValueError, RecursionError):
            raise ProblemError(400, "intersects is not valid JSON") from None
    return given


def _parse(given: dict[str, Any]) -> ItemSearch:
    try:
        return ItemSearch.model_validate(given)
    except ValidationError as error:
        raise InvalidError(error) from None


async def _search(
    request: Request,
    service: Service,
    wanted: ItemSearch,
    path: str,
    posted: dict[str, Any] | None = None,
) -> Response:
    root = _root(request)

    def work() -> dict[str, Any]:
        features, token = _page(service, wanted, root)
        links = [_link("self", f"{root}/{path}", _GEOJSON), _link("root", root)]
        if token is not None and posted is None:
            asked = {**dict(request.query_params), "token": token}
            links.append(_link("next", f"{root}/{path}?{urlencode(asked)}", _GEOJSON, method="GET"))
        elif token is not None:
            body = {**(posted or {}), "token": token}
            where = f"{root}/{path}"
            links.append({**_link("next", where, _GEOJSON, method="POST"), "body": body})
        return {
            "type": "FeatureCollection",
            "features": features,
            "links": links,
            "numberReturned": len(features),
        }

    return JSONResponse(await service.searches.run(work), media_type=_GEOJSON)


def _page(
    service: Service, wanted: ItemSearch, root: str
) -> tuple[list[dict[str, Any]], str | None]:
    """Return the items of a page and the token of the next one."""
    known = service.catalog.names
    names = [name for name in known if not wanted.collections or name in wanted.collections]
    limit = min(wanted.limit, MAX_LIMIT)
    name, cursor = _read_token(wanted.token)
    if cursor is not None and Cursor.decode(cursor).seen > MAX_DEPTH:
        raise ProblemError(400, f"pages reach down to item {MAX_DEPTH:,}: narrow the search")
    where = _filter(wanted)
    features: list[dict[str, Any]] = []
    for place, one in enumerate(names):
        if name is not None and known.index(one) < known.index(name):
            continue
        served = service.catalog.get(one)
        if wanted.ids:
            archive = served.archive
            records = [archive.record(id_) for id_ in dict.fromkeys(wanted.ids) if id_ in archive]
            kept = [record for record in records if _matches(record, where)]
            features += [_item(served, record, root) for record in kept]
            continue
        if not len(served.archive):
            continue
        options = SearchOptions(cursor=cursor)
        room = limit - len(features)
        result = served.archive.search(None, where=where, k=room, options=options)
        cursor = None
        features += [_item(served, served.archive.record(id_), root) for id_ in result.ids]
        if result.cursor is not None:
            return features, _token(one, result.cursor)
        if len(features) >= limit and place + 1 < len(names):
            return features, _token(names[place + 1], None)
    return features, None


def _filter(wanted: ItemSearch) -> Filter:
    if wanted.bbox is not None and wanted.intersects is not None:
        raise ProblemError(400, "give bbox or intersects, not both")
    box = wanted.bbox
    if box is not None:
        if len(box) == 5:
            raise ProblemError(400, "bbox needs four numbers, or six with heights")
        west, south, east, north = box if len(box) == 4 else (box[0], box[1], box[3], box[4])
        bounds = Bounds(west, south, east, north)
    else:
        bounds = None
    polygon = None
    if wanted.intersects is not None:
        if count_positions(wanted.intersects) > MAX_CORNERS:
            raise ProblemError(400, f"intersects has more than {MAX_CORNERS:,} corners")
        polygon = read_polygon(json.dumps(wanted.intersects))
    after, before = _interval(wanted.datetime)
    return Filter(bbox=bounds, polygon=polygon, after=after, before=before)


def _interval(text: str | None) -> tuple[datetime | None, datetime | None]:
    """Return the first time of an interval, and the first one after it."""
    if not text:
        return None, None
    parts = text.split("/")
    if len(parts) > 2:
        raise ProblemError(400, f"datetime {text[:60]!r}: write a time, or two and a slash")
    try:
        times = [
            None if part in ("", "..") else datetime.fromisoformat(part.upper()) for part in parts
        ]
        if any(time is not None and time.tzinfo is None for time in times):
            raise ValueError
        last = times[-1]
        return times[0], None if last is None else last + _INSTANT
    except (ValueError, OverflowError):
        raise ProblemError(
            400, f"datetime {text[:60]!r}: write times as 2024-06-01T00:00:00Z"
        ) from None


def _matches(record: Record, where: Filter) -> bool:
    time, box = record.time, where.bbox
    if (where.after or where.before) and time is None:
        return False
    if time is not None and where.after is not None and time < where.after:
        return False
    if time is not None and where.before is not None and time >= where.before:
        return False
    shape = where.polygon
    if box is not None:
        east = box.east if box.west <= box.east else box.east + 360
        shape = shapely.geometry.box(box.west, box.south, east, box.north)
    if shape is None:
        return True
    own = _outline(record)
    return own is not None and bool(shape.intersects(own))


def _outline(record: Record) -> Any:
    if record.footprint is not None:
        return record.footprint
    box = record.bounds
    if box is None:
        return None
    east = box.east if box.west <= box.east else box.east + 360
    return shapely.geometry.box(box.west, box.south, east, box.north)


def _item(served: Served, record: Record, root: str) -> dict[str, Any]:
    name = quote(served.name, safe="")
    at = f"{root}/collections/{name}"
    outline, time = _outline(record), record.time
    value: dict[str, Any] = {
        "type": "Feature",
        "stac_version": VERSION,
        "stac_extensions": [],
        "id": record.id,
        "collection": served.name,
        "geometry": None if outline is None else shapely.geometry.mapping(outline),
    }
    if record.bounds is not None:
        box = record.bounds
        value["bbox"] = [box.west, box.south, box.east, box.north]
    properties: dict[str, Any] = {"datetime": None if time is None else _iso(time)}
    if time is None:  # it was taken at some time before it was indexed
        updated = datetime.fromisoformat(served.archive.manifest.updated)
        properties |= {"start_datetime": _UNKNOWN_FROM, "end_datetime": _iso(updated)}
    if record.sensor is not None:
        properties["platform"] = record.sensor
    if record.labels is not None:
        properties["labels"] = list(record.labels)
    properties["predicted_labels"] = list(record.predicted)
    images = f"{root.removesuffix('/stac')}/v1/records/{quote(record.id)}"
    asked = urlencode({"archive": served.name})
    value["properties"] = properties
    value["links"] = [
        _link("self", f"{at}/items/{quote(record.id)}", _GEOJSON),
        _link("root", root),
        _link("parent", at),
        _link("collection", at),
    ]
    value["assets"] = {
        kind: {"href": f"{images}/{kind}?{asked}", "type": "image/jpeg", "roles": [role]}
        for kind, role in (("thumbnail", "thumbnail"), ("chip", "overview"))
    }
    return value


def _collection(served: Served, root: str) -> dict[str, Any]:
    archive, name = served.archive, quote(served.name, safe="")
    summary = archive.summary() if len(archive) else None
    bounds = list(summary.bounds) if summary is not None and summary.bounds else []
    if bounds and bounds[0] > bounds[2]:
        bounds = [-180.0, bounds[1], 180.0, bounds[3]]
    times = [f"{time[:19]}Z" for time in summary.times] if summary is not None else []
    at = f"{root}/collections/{name}"
    return {
        "type": "Collection",
        "stac_version": VERSION,
        "stac_extensions": [],
        "id": served.name,
        "description": f"{len(archive)} images with embeddings.",
        "license": "other",
        "extent": {
            "spatial": {"bbox": [bounds or [-180, -90, 180, 90]]},
            "temporal": {"interval": [times or [None, None]]},
        },
        "links": [
            _link("self", at),
            _link("root", root),
            _link("parent", root),
            _link("items", f"{at}/items", _GEOJSON),
        ],
    }


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


def _link(rel: str, href: str, kind: str = "application/json", **more: str) -> dict[str, Any]:
    return {"rel": rel, "href": href, "type": kind, **more}


def _root(request: Request) -> str:
    return f"{str(request.base_url).rstrip('/')}/stac"


def _iso(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")
