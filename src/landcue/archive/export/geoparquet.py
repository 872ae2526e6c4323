"""Archives as GeoParquet 1.1, in the column names of Major TOM's embedding tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from landcue.archive.archive import ArchiveFolder
from landcue.archive.export.features import model_facts
from landcue.archive.export.geometry import Row, geometry_of, planar_box, to_wkb
from landcue.archive.export.write import Progress, exported_rows
from landcue.codes.packing import code_width
from landcue.files import replacing

pq: Any = pyarrow.parquet

VERSION = "1.1.0"

_SIDES = ("xmin", "ymin", "xmax", "ymax")
_BOX = pa.struct([(name, pa.float64()) for name in _SIDES])


def write_geoparquet(
    archive: ArchiveFolder, out: Path, *, vectors: bool = True, progress: Progress | None = None
) -> int:
    """Write all records with WKB geometry, box columns, and embeddings as fixed-size lists.

    Geometry over the antimeridian is a MultiPolygon, whose ``bbox`` then reaches from -180 to 180.

    Returns:
        The number of rows.

    Raises:
        LandcueError: The archive is broken or the file cannot be written.
    """
    schema = _schema(archive, vectors=vectors)
    n = 0
    with replacing(out) as path, pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for rows in exported_rows(archive, vectors=vectors, progress=progress):
            writer.write_table(pa.Table.from_pylist([_plain(row) for row in rows], schema=schema))
            n += len(rows)
    return n


def _schema(archive: ArchiveFolder, *, vectors: bool) -> pa.Schema:
    dim, n_bits = archive.manifest.dim, archive.manifest.n_bits
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
    kinds, whole = _extent(archive)
    facts = {"geo": _geo(kinds, whole), "landcue": model_facts(archive.manifest)}
    return pa.schema(fields, {name: json.dumps(value) for name, value in facts.items()})


def _extent(archive: ArchiveFolder) -> tuple[list[str], list[float]]:
    """Return the kinds of geometry that occur and the box around all of them."""
    kinds: set[str] = set()
    whole: list[float] = []
    for rows in exported_rows(archive, vectors=False, progress=None):
        present = [geometry for row in rows if (geometry := geometry_of(row)) is not None]
        kinds |= {geometry["type"] for geometry in present}
        whole = _around(whole, [planar_box(geometry) for geometry in present])
    return sorted(kinds), whole


def _plain(row: Row) -> Row:
    geometry = geometry_of(row)
    lon, lat = _center(row)
    box = None if geometry is None else dict(zip(_SIDES, planar_box(geometry), strict=True))
    renamed = {"unique_id": row["id"], "product_id": row["group"], "timestamp": row["time"]}
    places = {"centre_lon": lon, "centre_lat": lat, "geometry": to_wkb(geometry), "bbox": box}
    return {**row, **renamed, **places}


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
