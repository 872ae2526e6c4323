"""Archives as GeoJSON features and as STAC items."""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from landcue.archive.archive import ArchiveFolder
from landcue.archive.export.geometry import Row, geojson_box, geometry_of
from landcue.archive.export.write import Progress, exported_rows
from landcue.archive.manifest import Manifest
from landcue.archive.schema import in_utc
from landcue.data.objects import is_object, joined, url
from landcue.errors import DataError
from landcue.files import replacing

STAC_VERSION = "1.1.0"


def write_geojson(
    archive: ArchiveFolder, out: Path, *, vectors: bool = True, progress: Progress | None = None
) -> int:
    """Write a FeatureCollection (RFC 7946), a feature per record.

    Features without a footprint have null geometry. Codes are hexadecimal text.

    Returns:
        The number of features.

    Raises:
        LandcueError: The archive is broken or the file cannot be written.
    """

    def features() -> Iterator[dict[str, Any]]:
        for rows in exported_rows(archive, vectors=vectors, progress=progress):
            yield from (_feature(row) for row in rows)

    head = {"type": "FeatureCollection", "landcue": model_facts(archive.manifest)}
    return _write(out, head, features())


def write_stac(
    archive: ArchiveFolder,
    out: Path,
    *,
    vectors: bool = True,
    time: datetime | None = None,
    progress: Progress | None = None,
) -> int:
    """Write a STAC 1.1 ItemCollection, an item per record, with the model in each.

    Args:
        archive: What to write.
        out: The file (.json).
        vectors: Whether items hold their embedding and code.
        time: Acquisition time of records that have none, because an item must have one.
        progress: Called as records are written.

    Returns:
        The number of items.

    Raises:
        DataError: A record has no time and none was given.
        LandcueError: The archive is broken or the file cannot be written.
    """

    def items() -> Iterator[dict[str, Any]]:
        for rows in exported_rows(archive, vectors=vectors, progress=progress):
            yield from (_item(row, archive.manifest, time) for row in rows)

    return _write(out, {"type": "FeatureCollection"}, items())


def model_facts(manifest: Manifest) -> dict[str, Any]:
    """Return what an export tells of the model, in the names of the embeddings extension."""
    return {
        "emb:dimensions": manifest.dim,
        "data_type": "float32",
        "landcue:model": manifest.model.get("name"),
        "landcue:model_fingerprint": manifest.fingerprint,
        "landcue:code_bits": manifest.n_bits,
        "landcue:metric": "cosine",
    }


def _feature(row: Row) -> dict[str, Any]:
    properties = _properties(row)
    if row["time"] is not None:
        properties["datetime"] = _iso(row["time"])
    geometry = geometry_of(row)
    feature = {"type": "Feature", "id": row["id"], "geometry": geometry, "properties": properties}
    if geometry is not None:
        feature["bbox"] = geojson_box(row, geometry)
    return feature


def _item(row: Row, manifest: Manifest, default: datetime | None) -> dict[str, Any]:
    time = row["time"] or in_utc(default)
    if time is None:
        raise DataError(
            f"record {row['id']!r} has no time, and a STAC item needs one; add --datetime for "
            "records without"
        )
    item: dict[str, Any] = {"stac_version": STAC_VERSION, "stac_extensions": [], **_feature(row)}
    item["properties"] |= {"datetime": _iso(time), **model_facts(manifest)}
    if row["sensor"] is not None:
        item["properties"]["platform"] = item["properties"].pop("sensor")
    path = joined(Path(manifest.source_root), row["path"])
    href = url(path) if is_object(path) else path.as_posix()
    asset: dict[str, Any] = {"href": href, "roles": ["data"]}
    kind = mimetypes.guess_type(path.name)[0]
    if kind is not None:
        asset["type"] = kind
    item["links"], item["assets"] = [], {"image": asset} if row["path"] else {}
    return item


def _properties(row: Row) -> dict[str, Any]:
    """Return the columns of a row that are set, as JSON values."""
    names = ("path", "labels", "predicted_labels", "group", "part", "sensor", "pixel_bbox")
    found = {name: row[name] for name in names if row[name] not in (None, "")}
    if "embedding" in row:
        found["embedding"] = row["embedding"]
    if "code" in row:
        found["code"] = bytes(row["code"]).hex()
    return found


def _iso(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


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
