"""A result as JSON, as a table or with its embeddings. None of them contains local paths."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import IO, Any, Literal
from urllib.parse import quote, urlencode

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet
import shapely
import shapely.geometry
from shapely.geometry.base import BaseGeometry

from landcue.archive.export import geo_metadata
from landcue.data.label_table import quote_cell
from landcue.search import Result
from landcue.server.archives import Served
from landcue.types import FloatArray, Hit, to_iso

Format = Literal["json", "geojson", "csv", "geoparquet", "arrow", "npy"]
Marks = Mapping[str, tuple[str | None, str | None]]

MEDIA_TYPES: dict[str, str] = {
    "json": "application/json",
    "geojson": "application/geo+json",
    "csv": "text/csv; charset=utf-8",
    "geoparquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.stream",
    "npy": "application/x-npy",
}
SUFFIXES = {kind: kind for kind in MEDIA_TYPES} | {"geoparquet": "parquet"}

pq: Any = pyarrow.parquet

_AT_ONCE = 5_000
_STRINGS = pa.list_(pa.string())
_COLUMNS: dict[str, Any] = {
    "rank": pa.int32(),
    "id": pa.string(),
    "path": pa.string(),
    "score": pa.float64(),
    "percentile": pa.float64(),
    "distance": pa.float64(),
    "mark": pa.string(),
    "note": pa.string(),
    "labels": _STRINGS,
    "shared": _STRINGS,
    "predicted": pa.map_(pa.string(), pa.float32()),
    "datetime": pa.timestamp("us", tz="UTC"),
    "window": pa.list_(pa.int64()),
    "near": pa.int32(),
    "sensor": pa.string(),
    "group": pa.string(),
    "source": pa.string(),
    "thumbnail": pa.string(),
    "geometry": pa.binary(),
}
_REGIONS: dict[str, Any] = {
    "region": pa.list_(pa.float64()),
    "region_window": pa.list_(pa.int64()),
}
"""Further columns in mode ``regions``."""


def answer(served: Served, result: Result, *, predicted: bool = False) -> dict[str, Any]:
    """Return a result as plain values."""
    value = result.to_json(explain=True)
    for hit in value["hits"]:
        del hit["path"]
        if predicted:
            hit["predicted"] = served.archive.predicted_of(hit["id"])
    return {"archive": served.name, **value}


def to_json(served: Served, result: Result, *, predicted: bool = False) -> bytes:
    """Return a result as JSON."""
    return orjson.dumps(answer(served, result, predicted=predicted))


def file_name(result: Result, kind: Format) -> str:
    """Return a file name that holds the name of the query.

    >>> from landcue.server.export import file_name
    >>> file_name(archive.search("a.png"), "csv")
    'landcue-a-png.csv'
    """
    name = re.sub(r"[^A-Za-z0-9]+", "-", result.query)[-80:].strip("-")
    return f"landcue-{name or 'result'}.{SUFFIXES[kind]}"


def write(
    served: Served,
    result: Result,
    kind: Format,
    file: IO[bytes],
    *,
    base: str = "",
    marks: Marks | None = None,
) -> None:
    """Write all hits of a result as a file, some thousand at a time.

    In mode ``regions`` the geometry is that of the part of the image that matches best; two more
    columns hold its box as shares of the image, and its window in pixels of the scene.

    Args:
        served: The archive.
        result: The hits.
        kind: ``geojson``, ``csv`` or ``geoparquet``; ``arrow`` adds the embeddings to the columns
            of these, ``npy`` holds them alone, float32 ``[n, d]`` in the order of the hits.
        file: Where to.
        base: Address of the service, for thumbnails.
        marks: Mark and note by id.
    """
    if kind == "npy":
        _npy(served, result, file)
        return
    rows = _rows(served, result, base, marks or {})
    about = {
        "archive": served.name,
        "query": result.query,
        "mode": result.mode,
        "fingerprint": served.archive.space.fingerprint,
        "rows": len(result),
        "cursor": result.cursor,
    }
    columns = {name: kind for name, kind in _COLUMNS.items() if name != "geometry"}
    columns |= _REGIONS if result.mode == "regions" else {}
    columns["geometry"] = _COLUMNS["geometry"]
    if kind == "geojson":
        _geojson(rows, about, file)
    elif kind == "csv":
        _csv(rows, columns, file)
    elif kind == "arrow":
        _arrow(served, rows, pa.schema(list(columns.items())), about, file)
    else:
        _geoparquet(rows, pa.schema(list(columns.items())), about, file)


def _rows(
    served: Served, result: Result, base: str, marks: Marks
) -> Iterator[tuple[Hit, dict[str, Any]]]:
    """Yield each hit with the values of :data:`_COLUMNS` but the geometry."""
    asked = urlencode({"archive": served.name})
    for first in range(0, len(result), _AT_ONCE):
        part = result.take(np.arange(first, min(first + _AT_ONCE, len(result))))
        for rank, (hit, predicted) in enumerate(
            zip(part, part.predicted(), strict=True), start=first + 1
        ):
            mark, note = marks.get(hit.id, (None, None))
            window, region = hit.window, hit.region
            where: dict[str, Any] = {}
            if region is not None:
                where["region"] = list(region.box)
                where["region_window"] = region.window and region.window.to_list()
            yield (
                hit,
                {
                    "rank": rank,
                    "id": hit.id,
                    "path": None if _absolute(hit.path) else hit.path,
                    "score": hit.score,
                    "percentile": hit.percentile,
                    "distance": hit.distance,
                    "mark": mark,
                    "note": note,
                    "labels": list(hit.labels),
                    "shared": list(hit.shared),
                    "predicted": predicted,
                    "datetime": hit.datetime,
                    "window": window and window.to_list(),
                    "near": hit.near,
                    "sensor": hit.sensor,
                    "group": hit.group,
                    "source": hit.source,
                    "thumbnail": f"{base}/v1/records/{quote(hit.id)}/thumbnail?{asked}",
                    **where,
                },
            )


def _area(hit: Hit) -> BaseGeometry | None:
    """Return what a hit covers: the part that matches best, or its footprint."""
    return hit.geometry if hit.region is None else hit.region.geometry


def _absolute(path: str) -> bool:
    """Whether a path says where files lie on the machine of the service."""
    windows, posix = PureWindowsPath(path).is_absolute(), PurePosixPath(path).is_absolute()
    return windows or posix or ":/" in path


def _geojson(
    rows: Iterator[tuple[Hit, dict[str, Any]]], about: dict[str, Any], file: IO[bytes]
) -> None:
    head = orjson.dumps({"type": "FeatureCollection", "landcue": about})
    file.write(head[:-1] + b',"features":[')
    for i, (hit, row) in enumerate(rows):
        feature: dict[str, Any] = {"type": "Feature", "id": hit.id, "geometry": None}
        area = _area(hit)
        if area is not None:
            feature["geometry"] = shapely.geometry.mapping(area)
        if hit.bbox is not None and hit.region is None:
            feature["bbox"] = hit.bbox.to_list()
        feature["properties"] = {**row, "datetime": row["datetime"] and to_iso(row["datetime"])}
        file.write((b"," if i else b"") + orjson.dumps(feature))
    file.write(b"]}")


def _csv(
    rows: Iterator[tuple[Hit, dict[str, Any]]], columns: Mapping[str, Any], file: IO[bytes]
) -> None:
    text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    for hit, row in rows:
        area = _area(hit)
        predicted = "; ".join(
            name if score is None else f"{name} {score:g}"
            for name, score in row["predicted"].items()
        )
        flat = row | {
            "labels": "; ".join(row["labels"]),
            "shared": "; ".join(row["shared"]),
            "predicted": predicted,
            "datetime": row["datetime"] and to_iso(row["datetime"]),
            "geometry": None if area is None else area.wkt,
        }
        for name in ("window", *_REGIONS):
            if row.get(name) is not None:
                flat[name] = " ".join(map(str, row[name]))
        writer.writerow(
            [quote_cell(value) if isinstance(value, str) else value for value in flat.values()]
        )
    text.detach()


def _embeddings(served: Served, ids: Sequence[str]) -> FloatArray:
    view = served.archive.backend.view()
    places = [view.records.find(id_) for id_ in ids]
    return view.read_vectors("embedding", np.array(places, np.int64)).astype(np.float32)


def _npy(served: Served, result: Result, file: IO[bytes]) -> None:
    shape = (len(result), served.archive.manifest.dim)
    head = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, head)
    for first in range(0, len(result), _AT_ONCE):
        part = result.take(np.arange(first, min(first + _AT_ONCE, len(result))))
        file.write(_embeddings(served, part.ids).astype("<f4").tobytes())


def _arrow(
    served: Served,
    rows: Iterator[tuple[Hit, dict[str, Any]]],
    plain: pa.Schema,
    about: dict[str, Any],
    file: IO[bytes],
) -> None:
    size = served.archive.manifest.dim
    schema = plain.append(pa.field("embedding", pa.list_(pa.float32(), size)))
    schema = schema.with_metadata({"landcue": json.dumps(about)})
    with pa.ipc.new_stream(file, schema) as stream:
        while some := list(itertools.islice(rows, _AT_ONCE)):
            table = _table(some, plain)
            vectors = _embeddings(served, [hit.id for hit, _ in some])
            flat = pa.array(vectors.ravel(), pa.float32())
            column = pa.FixedSizeListArray.from_arrays(flat, size)
            stream.write_table(table.append_column("embedding", column).cast(schema))


def _table(rows: Sequence[tuple[Hit, dict[str, Any]]], schema: pa.Schema) -> pa.Table:
    values: list[dict[str, Any]] = []
    for hit, row in rows:
        area = _area(hit)
        wkb = None if area is None else shapely.to_wkb(area, byte_order=1)
        values.append({**row, "predicted": list(row["predicted"].items()), "geometry": wkb})
    return pa.Table.from_pylist(values, schema)


def _geoparquet(
    rows: Iterator[tuple[Hit, dict[str, Any]]],
    schema: pa.Schema,
    about: dict[str, Any],
    file: IO[bytes],
) -> None:
    kinds: set[str] = set()
    sides: list[Any] = []
    # A stored schema would hide the metadata, which is known at the end, from pyarrow's readers.
    with pq.ParquetWriter(file, schema, compression="zstd", store_schema=False) as writer:
        while some := list(itertools.islice(rows, _AT_ONCE)):
            writer.write_table(_table(some, schema))
            areas = [area for hit, _ in some if (area := _area(hit)) is not None]
            kinds.update(area.geom_type for area in areas)
            if areas:
                sides.append(shapely.total_bounds(areas))
        whole: list[float] = []
        if sides:
            whole = [*np.min(sides, axis=0)[:2].tolist(), *np.max(sides, axis=0)[2:].tolist()]
        geo = geo_metadata(sorted(kinds), whole, covering=False)
        writer.add_key_value_metadata({"geo": json.dumps(geo), "landcue": json.dumps(about)})
