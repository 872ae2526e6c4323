"""A result as JSON, GeoJSON, CSV or GeoParquet. None of them contains local paths."""

from __future__ import annotations

import csv
import io
import json
from typing import Any, Literal

import orjson
import pyarrow as pa
import pyarrow.parquet
import shapely
import shapely.geometry
from shapely.geometry.base import BaseGeometry

from landcue.search import Result
from landcue.server.archives import Served
from landcue.types import Hit

Format = Literal["json", "geojson", "csv", "geoparquet"]

MEDIA_TYPES: dict[str, str] = {
    "json": "application/json",
    "geojson": "application/geo+json",
    "csv": "text/csv; charset=utf-8",
    "geoparquet": "application/vnd.apache.parquet",
}
SUFFIXES = {"json": "json", "geojson": "geojson", "csv": "csv", "geoparquet": "parquet"}

pq: Any = pyarrow.parquet

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_SIDES = ("west", "south", "east", "north")


def answer(served: Served, result: Result, *, predicted: bool = False) -> dict[str, Any]:
    """Return a result as plain values."""
    value = result.to_json(explain=True)
    for hit in value["hits"]:
        del hit["path"]
        if predicted:
            hit["predicted"] = served.archive.predicted_of(hit["id"])
    return {"archive": served.name, **value}


def write(served: Served, result: Result, kind: Format, *, predicted: bool = False) -> bytes:
    """Return a result as a file; with labels that were ``predicted`` only as JSON."""
    if kind == "geojson":
        return _geojson(served, result)
    if kind == "csv":
        return _csv(result)
    if kind == "geoparquet":
        return _geoparquet(served, result)
    return _dump(answer(served, result, predicted=predicted))


def _box(hit: Hit) -> dict[str, float | None]:
    return {side: getattr(hit.bounds, side, None) for side in _SIDES}


def _about(served: Served, result: Result) -> dict[str, Any]:
    return {
        "archive": served.name,
        "query": result.query,
        "mode": result.mode,
        "fingerprint": served.archive.manifest.fingerprint,
        "cursor": result.cursor,
    }


def _geojson(served: Served, result: Result) -> bytes:
    features: list[dict[str, Any]] = []
    for rank, hit in enumerate(answer(served, result)["hits"], start=1):
        found = result[rank - 1]
        geometry = None if found.geometry is None else shapely.geometry.mapping(found.geometry)
        kept = {key: value for key, value in hit.items() if key not in ("bounds", "footprint")}
        properties = {"rank": rank, **kept, "datetime": kept.pop("time")}
        properties.pop("time")
        feature: dict[str, Any] = {"type": "Feature", "id": hit["id"], "geometry": geometry}
        if geometry is not None:
            feature["bbox"] = list(_box(found).values())
        features.append({**feature, "properties": properties})
    head = {"type": "FeatureCollection", "landcue": _about(served, result)}
    return _dump({**head, "features": features})


def _csv(result: Result) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    names = ("rank", "id", "distance", "score", "labels", "shared", *_SIDES, "time", "sensor")
    writer.writerow((*names, "group", "percentile"))
    for rank, hit in enumerate(result.hits, start=1):
        texts = [hit.id, "; ".join(hit.labels), "; ".join(hit.shared), hit.sensor, hit.group]
        id_, labels, shared, sensor, group = (_cell(text) for text in texts)
        time = "" if hit.time is None else hit.time.isoformat().replace("+00:00", "Z")
        box = _box(hit).values()
        numbers = (hit.distance, hit.score)
        writer.writerow(
            (rank, id_, *numbers, labels, shared, *box, time, sensor, group, hit.percentile)
        )
    return out.getvalue().encode()


def _cell(text: str | None) -> str:
    """Return text that a spreadsheet does not run as a formula."""
    if not text:
        return ""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _geoparquet(served: Served, result: Result) -> bytes:
    geometries = [hit.geometry for hit in result.hits]
    strings = pa.list_(pa.string())
    columns: dict[str, tuple[Any, list[Any]]] = {
        "id": (pa.string(), [hit.id for hit in result.hits]),
        "rank": (pa.int32(), list(range(1, len(result.hits) + 1))),
        "distance": (pa.float64(), [hit.distance for hit in result.hits]),
        "score": (pa.float64(), [hit.score for hit in result.hits]),
        "percentile": (pa.float64(), [hit.percentile for hit in result.hits]),
        "labels": (strings, [list(hit.labels) for hit in result.hits]),
        "shared": (strings, [list(hit.shared) for hit in result.hits]),
        "time": (pa.timestamp("us", tz="UTC"), [hit.time for hit in result.hits]),
        "sensor": (pa.string(), [hit.sensor for hit in result.hits]),
        "group": (pa.string(), [hit.group for hit in result.hits]),
        "geometry": (pa.binary(), [_wkb(geometry) for geometry in geometries]),
    }
    known = [geometry for geometry in geometries if geometry is not None]
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": sorted({geometry.geom_type for geometry in known}),
        "orientation": "counterclockwise",
        "edges": "planar",
    }
    if known:
        column["bbox"] = shapely.total_bounds(known).tolist()
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    schema = pa.schema([(name, kind) for name, (kind, _) in columns.items()]).with_metadata(
        {"geo": json.dumps(geo), "landcue": json.dumps(_about(served, result))}
    )
    table = pa.table({name: values for name, (_, values) in columns.items()}, schema=schema)
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()


def _wkb(geometry: BaseGeometry | None) -> bytes | None:
    return None if geometry is None else shapely.to_wkb(geometry, byte_order=1)


def _dump(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value)
