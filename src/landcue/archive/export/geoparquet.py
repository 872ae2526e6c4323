"""Archives as GeoParquet 1.1, in the column names of Major TOM's embedding tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from landcue.archive.archive import Archive
from landcue.archive.export.features import model_facts
from landcue.archive.export.geometry import Row, geometry_of, planar_box, to_wkb
from landcue.archive.export.write import Progress, exported_rows, whole_file
from landcue.codes.packing import code_width

pq: Any = pyarrow.parquet

VERSION = "1.1.0"

_SIDES = ("xmin", "ymin", "xmax", "ymax")
_BOX = pa.struct([(name, pa.float64()) for name in _SIDES])


def write_geoparquet(
    archive: Archive, out: Path, *, vectors: bool = True, progress: Progress | None = None
) -> int:
    """Write all records with WKB geometry, box columns, and embeddings as fixed-size lists.

    Geometry over the antimeridian is a MultiPolygon, whose ``bbox`` then reaches from -180 to 180.

    Returns:
        The number of rows.

    Raises:
        LandcueError: The archive is broken or the file cannot be written.
    """
    manifest = archive.manifest
    schema = _schema(manifest.dim, manifest.n_bits, vectors=vectors)
    kinds: set[str] = set()
    whole: list[float] = []
    n = 0
    with whole_file(out) as path, pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for rows in exported_rows(archive, vectors=vectors, progress=progress):
            geometries = [geometry_of(row) for row in rows]
            boxes = [None if g is None else planar_box(g) for g in geometries]
            kinds |= {geometry["type"] for geometry in geometries if geometry is not None}
            whole = _around(whole, [box for box in boxes if box is not None])
            columns = [
                _plain(row, geometry, box)
                for row, geometry, box in zip(rows, geometries, boxes, strict=True)
            ]
            writer.write_table(pa.Table.from_pylist(columns, schema=schema))
            n += len(rows)
        writer.add_key_value_metadata(
            {
                "geo": json.dumps(_geo(sorted(kinds), whole)),
                "landcue": json.dumps(model_facts(manifest)),
            }
        )
    return n


def _schema(dim: int, n_bits: int, *, vectors: bool) -> pa.Schema:
    strings = pa.list_(pa.string())
    fields: list[Any] = [
        ("unique_id", pa.string()),
        ("path", pa.string()),
        ("product_id", pa.string()),
        ("timestamp", pa.timestamp("us", tz="UTC")),
        ("sensor", pa.string()),
        ("pixel_bbox", pa.list_(pa.int32())),
        ("labels", strings),
        ("predicted_labels", strings),
        ("part", pa.string()),
    ]
    if vectors:
        fields.append(("embedding", pa.list_(pa.float32(), dim)))
        if n_bits:
            fields.append(("code", pa.list_(pa.uint8(), code_width(n_bits))))
    fields += [
        ("centre_lon", pa.float64()),
        ("centre_lat", pa.float64()),
        ("geometry", pa.binary()),
        ("bbox", _BOX),
    ]
    return pa.schema(fields)


def _plain(
    row: Row, geometry: dict[str, Any] | None, box: tuple[float, float, float, float] | None
) -> Row:
    renamed = {"unique_id": row["id"], "product_id": row["group"], "timestamp": row["time"]}
    lon, lat = _center(row)
    return {
        **row,
        **renamed,
        "centre_lon": lon,
        "centre_lat": lat,
        "geometry": to_wkb(geometry),
        "bbox": None if box is None else dict(zip(_SIDES, box, strict=True)),
    }


def _center(row: Row) -> tuple[float | None, float | None]:
    """Return the middle of the box, longitude first."""
    if row["west"] is None:
        return None, None
    east = row["east"] + 360 if row["west"] > row["east"] else row["east"]
    lon = (row["west"] + east) / 2
    return lon - 360 if lon > 180 else lon, (row["south"] + row["north"]) / 2


def _around(whole: list[float], boxes: list[tuple[float, float, float, float]]) -> list[float]:
    every = [*boxes, whole] if whole else boxes
    if not every:
        return []
    west, south, east, north = zip(*every, strict=True)
    return [min(west), min(south), max(east), max(north)]


def _geo(kinds: list[str], whole: list[float]) -> dict[str, Any]:
    covering = {name: ["bbox", name] for name in _SIDES}
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": kinds,
        "orientation": "counterclockwise",
        "edges": "planar",
        "covering": {"bbox": covering},
    }
    if whole:
        column["bbox"] = whole
    return {"version": VERSION, "primary_column": "geometry", "columns": {"geometry": column}}
