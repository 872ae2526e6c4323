"""Parquet and GeoParquet tables of images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, cast

from landcue.data.imageset import ImageSet, make_image_set
from landcue.data.label_table import parse_time
from landcue.data.names import clean_id
from landcue.data.objects import shown
from landcue.data.places import place_of
from landcue.data.sources.folder import NamedFiles, local_copy
from landcue.data.sources.stac import stac_images
from landcue.errors import DataError, first_line
from landcue.interval import in_utc
from landcue.types import Problem, Record

_IDS = ("id", "unique_id")
_GROUPS = ("group", "product_id", "collection")
_TIMES = ("time", "datetime", "timestamp")
_SENSORS = ("sensor", "constellation", "platform")
_SIDES = ("west", "south", "east", "north")
_ENCODINGS = {"WKB", "point", "linestring", "polygon", "multipolygon"}
_DEGREES = {("OGC", "CRS84"), ("EPSG", "4326")}


def read_parquet(path: Path, asset: str | None = None) -> ImageSet:
    """Read the images a Parquet table lists, paths relative to the table's folder.

    Columns: ``path``; and, where there are any, ``id``, ``labels`` (a list, or text joined by
    ``;``), ``group``, ``time`` (``datetime``, ``timestamp``), ``sensor`` (``constellation``,
    ``platform``), and a footprint as ``geometry`` (GeoParquet, WKB, in degrees), ``bbox`` or
    ``west``, ``south``, ``east``, ``north``. Rows whose image does not exist are reported.

    A table with a column ``assets`` holds STAC items (stac-geoparquet); ``asset`` then is which of
    an item's assets is the image.

    Raises:
        DataError: A broken table, no ``path`` column, a geometry that is not in degrees, or no
            image left.
    """
    import pyarrow as pa
    import pyarrow.parquet

    reader: Any = pyarrow.parquet
    try:
        with local_copy(path) as opened, reader.ParquetFile(opened) as file:
            names = list(file.schema_arrow.names)
            geometry = _geometry_column(path, file.schema_arrow.metadata or {})
            stac = "assets" in names and "path" not in names
            known = {"path", "labels", "bbox", geometry, *_IDS, *_GROUPS, *_TIMES, *_SENSORS}
            wanted = [name for name in names if stac or name in known or name in _SIDES]
            if "path" not in names and not stac:
                raise DataError(f"{shown(path)} has no 'path' column, only {', '.join(names[:8])}")
            rows = [row for part in file.iter_batches(columns=wanted) for row in _rows(part)]
    except (pa.ArrowException, OSError) as error:
        line = first_line(error)
        raise DataError(f"{shown(path)} is not a readable Parquet file ({line})") from None
    numbered = [(n, row) for n, row in enumerate(rows) if row is not None]
    what = "has a time outside of the years 1 to 9999"
    problems = [Problem(f"{path.name} row {n}", what) for n, row in enumerate(rows) if row is None]
    if stac:
        items = [(f"{path.name} row {n}", path.parent, _item(row)) for n, row in numbered]
        return stac_images(path, items, asset, problems)
    names = (row["path"] for _, row in numbered)
    files = NamedFiles(path.parent, (name for name in names if isinstance(name, str)))
    records: list[Record] = []
    for number, row in numbered:
        where = f"{path.name} row {number}"
        try:
            record = _record(row, files)
            try:
                records.append(replace(record, **_where(row, geometry)))
            except DataError as error:
                problems.append(Problem(where, f"{error}; indexed without a place"))
                records.append(record)
        except DataError as error:
            problems.append(Problem(where, str(error)))
    labels = sorted({name for record in records for name in record.labels or ()})
    return make_image_set("table", path.parent, records, labels, problems)


def _rows(batch: Any) -> list[dict[str, Any] | None]:
    """Return rows as Python values, ``None`` for those whose time Python has no value for."""
    try:
        return batch.to_pylist()
    except OverflowError:
        if len(batch) == 1:
            return [None]
        return [row for i in range(len(batch)) for row in _rows(batch.slice(i, 1))]


def _item(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of a stac-geoparquet table as an item."""
    own = ("id", "assets", "collection", "geometry", "links")
    item = {name: row.get(name) for name in own}
    item["assets"] = {k: v for k, v in (row["assets"] or {}).items() if v}
    box = row.get("bbox")
    if isinstance(box, dict):
        sides = ("xmin", "ymin", "xmax", "ymax")
        item["bbox"] = [cast(dict[str, Any], box).get(k) for k in sides]
    else:
        item["bbox"] = box
    properties = {k: v for k, v in row.items() if k not in item and v is not None}
    for name in _TIMES:
        if isinstance(properties.get(name), datetime):
            properties[name] = properties[name].isoformat()
    return {**item, "type": "Feature", "properties": properties}


def _record(row: Mapping[str, Any], files: NamedFiles) -> Record:
    name = row["path"]
    if not isinstance(name, str) or not name:
        raise DataError("no path")
    file = files.find(name)
    if file is None:
        raise DataError(f"no image {name!r}")
    return Record(
        id=clean_id(_text(row, _IDS) or Path(name).as_posix()),
        path=file,
        labels=_labels(row.get("labels")),
        group=_text(row, _GROUPS),
        datetime=_time(next((row[n] for n in _TIMES if row.get(n) is not None), None)),
        sensor=_text(row, _SENSORS),
    )


def _where(row: Mapping[str, Any], geometry: str | None) -> dict[str, Any]:
    """Return bounds and footprint of a row."""
    box: Any = row.get("bbox")
    if isinstance(box, dict):  # GeoParquet's covering; it cannot cross the antimeridian
        box = [cast(dict[str, Any], box).get(k) for k in ("xmin", "ymin", "xmax", "ymax")]
    sides = [row.get(side) for side in _SIDES]
    if not isinstance(box, list) or any(value is None for value in cast(list[Any], box)):
        box = None if any(value is None for value in sides) else sides
    place = place_of(shape_of(row.get(geometry) if geometry else None), box)
    return {} if place is None else {"bbox": place.bbox, "geometry": place.geometry}


def shape_of(value: Any) -> Any:
    """Return a geometry of any GeoParquet encoding as WKB or GeoJSON; ``None`` if it is unset."""
    if value is None or isinstance(value, bytes):
        return value
    depth, first = 0, value
    while isinstance(first, list):
        depth, first = depth + 1, cast(list[Any], first)[0] if first else None
    names = ("Point", "LineString", "Polygon", "MultiPolygon")
    return {"type": names[depth], "coordinates": _coordinates(value)}


def _coordinates(value: Any) -> Any:
    if isinstance(value, dict):
        point = cast(dict[str, float], value)
        return (point["x"], point["y"])
    return [_coordinates(part) for part in value]


def _text(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((str(row[name]) for name in names if row.get(name) not in (None, "")), None)


def _labels(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, str | list):
        raise DataError(f"labels {value!r} are neither a list nor text joined by ;")
    names = value.split(";") if isinstance(value, str) else cast(list[Any], value)
    return tuple(dict.fromkeys(text for name in names if (text := str(name).strip())))


def _time(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return in_utc(value)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return parse_time("" if value is None else str(value), "its time")


def _geometry_column(path: Path, metadata: Mapping[bytes, bytes]) -> str | None:
    """Return the name of the WKB column of a GeoParquet file."""
    if b"geo" not in metadata:
        return None
    try:
        geo = json.loads(metadata[b"geo"])
        name = str(geo["primary_column"])
        column = geo["columns"][name]
        crs = column.get("crs", {"id": {"authority": "OGC", "code": "CRS84"}})
        encoding = column.get("encoding")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DataError(
            f"{shown(path)}: its GeoParquet metadata is broken; write it again"
        ) from None
    id_ = crs.get("id") if isinstance(crs, dict) else None
    if not isinstance(id_, dict) or (id_.get("authority"), str(id_.get("code"))) not in _DEGREES:
        raise DataError(f"{shown(path)}: its geometry is not in EPSG:4326; reproject it first")
    if encoding not in _ENCODINGS:
        raise DataError(f"{shown(path)}: its geometry is encoded as {encoding!r}; write WKB")
    return name
