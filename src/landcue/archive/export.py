"""Archives as GeoParquet, GeoJSON and STAC items."""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import shapely
import shapely.geometry
from shapely.geometry import mapping

from landcue.archive.archive import ArchiveFolder
from landcue.archive.manifest import FITTED_FROM, SPACE, Manifest
from landcue.archive.schema import METADATA_NAMES, footprint_of
from landcue.codes.packing import code_width
from landcue.data.names import stored_name
from landcue.data.objects import is_object, url
from landcue.data.places import area_of
from landcue.errors import DataError
from landcue.files import replacing
from landcue.interval import in_utc
from landcue.types import Area, Bounds, to_iso

Progress = Callable[[int, int], object]
"""Called with (records done, records)."""

ROWS_AT_ONCE = 1024


def exported_rows(
    archive: ArchiveFolder, *, vectors: bool, progress: Progress | None
) -> Iterator[list[dict[str, Any]]]:
    """Yield rows in the order of the table."""
    present = archive.manifest.schema.names
    names = [*METADATA_NAMES, "predicted_labels"]
    names += [name for name in ("embedding", "code") if vectors and name in present]
    names += [name for name in ("reading",) if name in present]
    total, rows = archive.count, 0
    for batch in archive.batches(names, ROWS_AT_ONCE):
        yield batch.to_pylist()
        rows += len(batch)
        if progress is not None:
            progress(rows, total)


Row = dict[str, Any]


def bounds_of(row: Row) -> Bounds | None:
    """Return the box of a stored row."""
    if row["west"] is None:
        return None
    return Bounds(row["west"], row["south"], row["east"], row["north"])


def shape_of(row: Row) -> Area | None:
    """Return the footprint of a stored row, or else its box, as RFC 7946 wants it."""
    bounds = bounds_of(row)
    return footprint_of(row["geometry"]) or (None if bounds is None else area_of(bounds))


STAC_VERSION = "1.1.0"


def write_geojson(
    archive: ArchiveFolder,
    out: str | Path,
    *,
    vectors: bool = True,
    progress: Progress | None = None,
) -> int:
    """Write a FeatureCollection (RFC 7946), a feature per record.

    Features without a footprint have null geometry. Codes are hexadecimal text.

    Returns:
        The number of features.

    Raises:
        LandcueError: The archive is broken or the file cannot be written.

    >>> from landcue.archive import ArchiveFolder
    >>> write_geojson(ArchiveFolder.open(folder), "records.geojson")
    4
    """
    out = Path(out)

    def features() -> Iterator[dict[str, Any]]:
        for rows in exported_rows(archive, vectors=vectors, progress=progress):
            yield from (_feature(row) for row in rows)

    head = {"type": "FeatureCollection", "landcue": model_facts(archive.manifest)}
    return _write(out, head, features())


def write_stac(
    archive: ArchiveFolder,
    out: str | Path,
    *,
    vectors: bool = True,
    time: datetime | None = None,
    progress: Progress | None = None,
) -> int:
    """Write STAC 1.1 by the embeddings extension v0.0.1.

    Three files are written: the items (``NAME.json``), their Collection (``NAME-collection.json``),
    which names model, dimensions and sources, and, with vectors, a GeoParquet file of all records
    (``NAME.parquet``), the asset ``embeddings`` of each item. Slashes in ids become ``__``; the
    property ``landcue:id`` then holds the id.

    Args:
        out: The file of the items (.json).
        vectors: Whether to write the embeddings and codes; without them the extension is not
            claimed.
        time: Acquisition time for records without one; a STAC item must have a time.
        progress: Called as records are written.

    Returns:
        The number of items.

    Raises:
        DataError: A record has no time and ``time`` is not set.
        LandcueError: The archive is broken or a file cannot be written.

    >>> from datetime import UTC, datetime
    >>> from landcue.archive import ArchiveFolder
    >>> time = datetime(2024, 1, 1, tzinfo=UTC)
    >>> write_stac(ArchiveFolder.open(folder), "items.json", time=time)
    4
    """
    out = Path(out)
    writer = _Stac(archive, out, vectors, time and in_utc(time))
    n = _write(out, {"type": "FeatureCollection"}, writer.items(progress))
    if vectors:
        write_geoparquet(archive, writer.table)
    with replacing(writer.collection) as path:
        path.write_text(_json(writer.describe()) + "\n", encoding="utf-8")
    return n


_EMBEDDINGS = "https://stac-extensions.github.io/embeddings/v0.0.1/schema.json"
_PARQUET = "application/vnd.apache.parquet"


class _Stac:
    """Writes the items of an archive, and gathers what their Collection says."""

    def __init__(
        self, archive: ArchiveFolder, out: Path, vectors: bool, time: datetime | None
    ) -> None:
        self.archive, self.out, self.vectors, self.time = archive, out, vectors, time
        self.table = out.with_name(f"{out.stem}.parquet")
        self.collection = out.with_name(f"{out.stem}-collection.json")
        self.id = _stac_id(out.stem)
        self.bounds: list[float] = []
        self.times: list[datetime] = []
        self._ids: set[str] = set()

    def items(self, progress: Progress | None) -> Iterator[dict[str, Any]]:
        for rows in exported_rows(self.archive, vectors=False, progress=progress):
            for row in rows:
                yield self._item(row)

    def describe(self) -> dict[str, Any]:
        """Return the Collection; after all items."""
        manifest, model = self.archive.manifest, self.archive.model_folder
        head: dict[str, Any] = {
            "type": "Collection",
            "stac_version": STAC_VERSION,
            "stac_extensions": [_EMBEDDINGS] if self.vectors else [],
            "id": self.id,
            "description": f"Embeddings of {self.archive.count} images by the model "
            f"{manifest.model.get('name') or manifest.fingerprint[:12]}",
            "license": "other",
            "extent": {
                "spatial": {"bbox": [self.bounds or [-180, -90, 180, 90]]},
                "temporal": {"interval": [[to_iso(time) for time in self.times] or [None, None]]},
            },
        }
        name = str(manifest.model.get("name") or manifest.fingerprint[:12])
        where = f"urn:sha256:{manifest.fingerprint}" if model is None else model.as_posix()
        links = [{"rel": "items", "href": f"./{self.out.name}", "type": "application/geo+json"}]
        links.append({"rel": "emb:model", "href": where, "title": name})
        for title, source in manifest.sources.items():
            links.append({"rel": "emb:source-data", "href": source.shown, "title": title})
        facts = model_facts(manifest)
        if self.vectors:
            asset = {"href": f"./{self.table.name}", "type": _PARQUET, "roles": ["data"]}
            facts |= {"emb:type": "chip", "assets": {"embeddings": asset}}
        else:
            facts = {key: value for key, value in facts.items() if not key.startswith("emb:")}
        return {**head, **facts, "links": links}

    def _item(self, row: Row) -> dict[str, Any]:
        time = row["time"] or self.time
        if time is None:
            raise DataError(
                f"record {row['id']!r} has no time, and a STAC item needs one; add --datetime for "
                "records without"
            )
        self.times = [min([time, *self.times]), max([time, *self.times])]
        item: dict[str, Any] = {
            "stac_version": STAC_VERSION,
            "stac_extensions": [_EMBEDDINGS] if self.vectors else [],
            **_feature(row),
            "collection": self.id,
        }
        if item["geometry"] is not None:
            self.bounds = _around(self.bounds, [shapely.geometry.shape(item["geometry"]).bounds])
        item["properties"] |= {"datetime": to_iso(time)}
        if row["sensor"] is not None:
            item["properties"]["platform"] = item["properties"].pop("sensor")
        item["id"] = self._free_id(row["id"])
        if item["id"] != row["id"]:
            item["properties"]["landcue:id"] = row["id"]
        href = f"./{self.collection.name}"
        item["links"] = [{"rel": "collection", "href": href, "type": "application/json"}]
        assets: dict[str, Any] = {}
        if self.vectors:
            assets["embeddings"] = {
                "href": f"./{self.table.name}", "type": _PARQUET, "roles": ["data"],
            }  # fmt: skip
        if row["path"]:
            path = self.archive.manifest.file(row["source"], row["path"])
            href = url(path) if is_object(path) else stored_name(path.as_posix())
            item["links"].append({"rel": "emb:source-data", "href": href})
            assets["image"] = {"href": href, "roles": ["data"]}
            kind = mimetypes.guess_type(path.name)[0]
            if kind is not None:
                assets["image"]["type"] = kind
        item["assets"] = assets
        return item

    def _free_id(self, id_: str) -> str:
        """Return an id without slashes that no item has yet."""
        name = free = _stac_id(id_)
        number = 1
        while free in self._ids:
            number += 1
            free = f"{name}__{number}"
        self._ids.add(free)
        return free


def _stac_id(text: str) -> str:
    return text.replace("/", "__")


def model_facts(manifest: Manifest) -> dict[str, Any]:
    """Return the model's properties, in the names of the STAC embeddings extension."""
    fitted = manifest.model.get(FITTED_FROM)
    return {
        "emb:dimensions": manifest.dim,
        "data_type": "float32",
        "landcue:model": manifest.model.get("name"),
        "landcue:model_fingerprint": manifest.model.get(SPACE, manifest.fingerprint),
        **({} if fitted is None else {f"landcue:{FITTED_FROM}": fitted}),
        "landcue:code_bits": manifest.n_bits,
        "landcue:metric": "cosine",
    }


def _feature(row: Row) -> dict[str, Any]:
    properties = _properties(row)
    if row["time"] is not None:
        properties["datetime"] = to_iso(row["time"])
    geometry, bounds = shape_of(row), bounds_of(row)
    shape = None if geometry is None else mapping(geometry)
    feature = {"type": "Feature", "id": row["id"], "geometry": shape, "properties": properties}
    if bounds is not None:
        feature["bbox"] = bounds.to_list()
    return feature


def _properties(row: Row) -> dict[str, Any]:
    """Return the columns of a row that are set, as JSON values."""
    names = (
        "source",
        "path",
        "labels",
        "predicted_labels",
        "group",
        "part",
        "sensor",
        "pixel_bbox",
    )
    found = {name: row[name] for name in names if row[name] not in (None, "")}
    if "embedding" in row:
        found["embedding"] = row["embedding"]
    if "code" in row:
        found["code"] = bytes(row["code"]).hex()
    if row.get("reading"):
        found["reading"] = json.loads(row["reading"])
    return found


def _write(out: Path, head: dict[str, Any], features: Iterator[dict[str, Any]]) -> int:
    n = 0
    with replacing(out) as path, path.open("w", encoding="utf-8") as file:
        file.write(_json(head)[:-1] + ', "features": [')
        for n, feature in enumerate(features, start=1):
            file.write((",\n" if n > 1 else "\n") + _json(feature))
        file.write("\n]}\n")
    return n


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


pq: Any = pyarrow.parquet

VERSION = "1.1.0"

_SIDES = ("xmin", "ymin", "xmax", "ymax")
_BOX = pa.struct([(name, pa.float64()) for name in _SIDES])


def write_geoparquet(
    archive: ArchiveFolder,
    out: str | Path,
    *,
    vectors: bool = True,
    progress: Progress | None = None,
) -> int:
    """Write all records with WKB geometry, box columns, and embeddings as fixed-size lists.

    Geometry over the antimeridian is a MultiPolygon, whose ``bbox`` then reaches from -180 to 180.

    Returns:
        The number of rows.

    Raises:
        LandcueError: The archive is broken or the file cannot be written.

    >>> from landcue.archive import ArchiveFolder
    >>> write_geoparquet(ArchiveFolder.open(folder), "records.parquet")
    4
    """
    out = Path(out)
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
        ("source", pa.string()),
        ("path", pa.string()),
        ("product_id", pa.string()),
        ("timestamp", pa.timestamp("us", tz="UTC")),
        ("sensor", pa.string()),
        ("pixel_bbox", pa.list_(pa.int32())),
        ("labels", strings),
        ("predicted_labels", strings),
        ("part", pa.string()),
        ("reading", pa.string()),  # JSON
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
    facts = {"geo": geo_metadata(kinds, whole), "landcue": model_facts(archive.manifest)}
    return pa.schema(fields, {name: json.dumps(value) for name, value in facts.items()})


def _extent(archive: ArchiveFolder) -> tuple[list[str], list[float]]:
    """Return the geometry types that occur and their common bounding box."""
    kinds: set[str] = set()
    whole: list[float] = []
    for rows in exported_rows(archive, vectors=False, progress=None):
        present = [found for row in rows if (found := shape_of(row)) is not None]
        kinds |= {found.geom_type for found in present}
        whole = _around(whole, [found.bounds for found in present])
    return sorted(kinds), whole


def _plain(row: Row) -> Row:
    found = shape_of(row)
    lon, lat = _center(row)
    box = None if found is None else dict(zip(_SIDES, found.bounds, strict=True))
    geometry = None if found is None else shapely.to_wkb(found, byte_order=1)
    renamed = {"unique_id": row["id"], "product_id": row["group"], "timestamp": row["time"]}
    places = {"centre_lon": lon, "centre_lat": lat, "geometry": geometry, "bbox": box}
    return {**row, **renamed, **places}


def _center(row: Row) -> tuple[float | None, float | None]:
    """Return the center of the box, longitude first."""
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


def geo_metadata(kinds: list[str], whole: list[float], *, covering: bool = True) -> dict[str, Any]:
    """Return the value of a GeoParquet file's ``geo`` key, for a WKB column ``geometry``."""
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": kinds,
        "orientation": "counterclockwise",
        "edges": "planar",
    }
    if covering:
        column["covering"] = {"bbox": {name: ["bbox", name] for name in _SIDES}}
    if whole:
        column["bbox"] = whole
    return {"version": VERSION, "primary_column": "geometry", "columns": {"geometry": column}}
