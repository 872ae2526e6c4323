"""Archives and records as STAC has them: collections, items, and properties of filters."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

import shapely.geometry

from landcue.search import cql2
from landcue.server.archives import Served
from landcue.types import Record, to_iso

VERSION = "1.1.0"
GEOJSON = "application/geo+json"
SCHEMA = "application/schema+json"
QUERYABLES = "http://www.opengis.net/def/rel/ogc/1.0/queryables"
_UNKNOWN_FROM = "1900-01-01T00:00:00Z"


def queryables_value(at: str, labels: Iterable[str]) -> dict[str, Any]:
    """Return the properties that filters may use, as a JSON schema."""
    text = {"type": "string"}
    properties: dict[str, Any] = {
        "id": {"title": "Id", **text},
        "labels": {
            "title": "Labels: annotated, or predicted where there is no annotation",
            "type": "array",
            "items": text,
        },
        "datetime": {"title": "Acquisition time", **text, "format": "date-time"},
        "geometry": {"title": "Footprint", "$ref": "https://geojson.org/schema/Geometry.json"},
        **{name: {"title": name.capitalize(), **text} for name in ("path", *cql2.COLUMNS)},
    }
    for name in labels:
        title = f"Predicted score of {name}"
        properties[f"score:{name}"] = {"title": title, "type": "number", "minimum": 0, "maximum": 1}
    value = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": at,
        "title": "Properties of filters",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    return value


def item_value(served: Served, record: Record, root: str) -> dict[str, Any]:
    """Return a record as an item."""
    name = quote(served.name, safe="")
    at = f"{root}/collections/{name}"
    outline, time = _outline(record), record.datetime
    value: dict[str, Any] = {
        "type": "Feature",
        "stac_version": VERSION,
        "stac_extensions": [],
        "id": record.id,
        "collection": served.name,
        "geometry": None if outline is None else shapely.geometry.mapping(outline),
    }
    if record.bbox is not None:
        value["bbox"] = record.bbox.to_list()
    properties: dict[str, Any] = {"datetime": None if time is None else to_iso(time)}
    if time is None:  # it was taken at some time before it was indexed
        updated = datetime.fromisoformat(served.archive.manifest.updated)
        properties |= {"start_datetime": _UNKNOWN_FROM, "end_datetime": to_iso(updated)}
    if record.sensor is not None:
        properties["platform"] = record.sensor
    if record.labels is not None:
        properties["labels"] = list(record.labels)
    properties["predicted_labels"] = list(record.predicted)
    for name in ("group", "part", "source"):
        if getattr(record, name) is not None:
            properties[name] = getattr(record, name)
    images = f"{root.removesuffix('/stac')}/v1/records/{quote(record.id)}"
    asked = urlencode({"archive": served.name})
    value["properties"] = properties
    value["links"] = [
        link("self", f"{at}/items/{quote(record.id)}", GEOJSON),
        link("root", root),
        link("parent", at),
        link("collection", at),
    ]
    value["assets"] = {
        kind: {"href": f"{images}/{kind}?{asked}", "type": "image/jpeg", "roles": [role]}
        for kind, role in (("thumbnail", "thumbnail"), ("chip", "overview"))
    }
    return value


def _outline(record: Record) -> Any:
    if record.geometry is not None:
        return record.geometry
    box = record.bbox
    if box is None:
        return None
    east = box.east if box.west <= box.east else box.east + 360
    return shapely.geometry.box(box.west, box.south, east, box.north)


def collection_value(served: Served, root: str) -> dict[str, Any]:
    """Return an archive as a collection."""
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
            link("self", at),
            link("root", root),
            link("parent", root),
            link("items", f"{at}/items", GEOJSON),
            link(QUERYABLES, f"{at}/queryables", SCHEMA),
        ],
    }


def link(rel: str, href: str, kind: str = "application/json", **more: str) -> dict[str, Any]:
    """Return a link."""
    return {"rel": rel, "href": href, "type": kind, **more}
