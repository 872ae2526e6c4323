"""The columns of an archive, and how encoded images become rows."""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import shapely
from shapely import MultiPolygon, Polygon

from landcue.codes.packing import code_width
from landcue.errors import ArchiveError
from landcue.types import Area, Bounds, Encoding, Window

LABEL_THRESHOLD = 0.5
"""A label is predicted when its score is at least this."""

_STRINGS = pa.list_(pa.string())
_METADATA: dict[str, Any] = {
    "source": pa.string(),
    "path": pa.string(),
    "labels": _STRINGS,
    "west": pa.float64(),
    "south": pa.float64(),
    "east": pa.float64(),
    "north": pa.float64(),
    "time": pa.timestamp("us", tz="UTC"),
    "group": pa.string(),
    "part": pa.string(),
    "pixel_bbox": pa.list_(pa.int32()),
    "sensor": pa.string(),
    "geometry": pa.binary(),
    "size": pa.int64(),
    "mtime_ns": pa.int64(),
}
METADATA_NAMES = ("id", *_METADATA)
"""The columns that :func:`metadata_checks` covers."""

# Columns that are named otherwise than the field of a record.
_FIELDS = {"time": "datetime"}
_PLAIN = ("id", "source", "path", "labels", "time", "group", "part", "sensor", "size", "mtime_ns")


@dataclass(frozen=True, slots=True)
class Metadata:
    """All columns of a record that do not come from its pixels.

    Attributes:
        id: The record's id.
        path: Posix path, relative to the root of the source when below it.
        labels: Annotated labels; ``None`` without annotation.
        bbox: Box around its footprint, in degrees.
        datetime: Acquisition time, aware, in UTC.
        group: Scene, product or class of the image.
        part: ``train``, ``val``, ``test`` or ``None``.
        window: The pixels of a scene that make a chip; ``None`` for a whole image.
        sensor: Sensor of the image.
        geometry: Outline in degrees (see :class:`landcue.types.Record`).
        size: Bytes of the image's files: see :func:`landcue.data.images.image_version`.
        mtime_ns: Modification time of the latest of them.
        source: Name of the source in the archive's manifest.
    """

    id: str
    path: str
    labels: tuple[str, ...] | None
    bbox: Bounds | None
    datetime: dt.datetime | None
    group: str | None
    part: str | None
    window: Window | None
    sensor: str | None
    geometry: Area | None
    size: int
    mtime_ns: int
    source: str = ""


def record_schema(dim: int, n_bits: int, n_labels: int, n_regions: int = 0) -> pa.Schema:
    """Return the columns of an archive; ``code`` and ``label_scores`` only if the model has them.

    ``regions`` holds the embeddings of regions of an image, one after the other, if there are any.
    ``metadata_check`` is the checksum of the columns before it (see :func:`metadata_checks`),
    ``check`` that of the model's outputs (see :func:`row_check`).
    """
    columns: dict[str, Any] = {"id": pa.string(), **_METADATA}
    columns |= {"metadata_check": pa.binary(), "content": pa.string(), "reading": pa.string()}
    columns["embedding"] = pa.list_(pa.float32(), dim)
    if n_bits:
        columns["code"] = pa.list_(pa.uint8(), code_width(n_bits))
    if n_labels:
        columns["label_scores"] = pa.list_(pa.float32(), n_labels)
    if n_regions:
        columns["regions"] = pa.list_(pa.int8(), n_regions * dim)
    columns["predicted_labels"] = _STRINGS
    columns["thumbnail"] = pa.binary()
    columns["check"] = pa.binary()
    return pa.schema(list(columns.items()))


def metadata_rows(metadata: Sequence[Metadata]) -> pa.Table:
    """Return only id and metadata columns, for updates that do not change the pixels' columns."""
    columns: dict[str, list[Any]] = {name: [] for name in ("id", *_METADATA)}
    for row in metadata:
        for name in _PLAIN:
            columns[name].append(getattr(row, _FIELDS.get(name, name)))
        columns["pixel_bbox"].append(pixel_bbox(row.window))
        for name in ("west", "south", "east", "north"):
            columns[name].append(None if row.bbox is None else getattr(row.bbox, name))
    columns["geometry"] = list(to_wkb([row.geometry for row in metadata]))
    fields: list[tuple[str, Any]] = [("id", pa.string()), *_METADATA.items()]
    return with_metadata_checks(pa.table(columns, schema=pa.schema(fields)))


def with_metadata_checks(rows: pa.Table) -> pa.Table:
    """Return rows of id and metadata columns with their checksums as one more column."""
    return rows.append_column("metadata_check", pa.array(metadata_checks(rows), pa.binary()))


def metadata_checks(rows: pa.Table | pa.RecordBatch) -> list[bytes]:
    """Return the 8-byte checksum of each row's id and metadata columns."""
    columns = [rows[name] for name in METADATA_NAMES]
    plain = [c.cast(pa.int64()) if pa.types.is_timestamp(c.type) else c for c in columns]
    values = zip(*(column.to_pylist() for column in plain), strict=True)
    return [hashlib.blake2b(repr(row).encode(), digest_size=8).digest() for row in values]


def pixel_bbox(window: Window | None) -> list[int] | None:
    """Return first column, first row, last column + 1 and last row + 1 of a chip in its scene."""
    if window is None:
        return None
    return [window.col, window.row, window.col + window.width, window.row + window.height]


def window_of(bbox: Sequence[int] | None) -> Window | None:
    """Return the chip that :func:`pixel_bbox` described.

    >>> window_of([512, 256, 768, 512])
    Window(col=512, row=256, width=256, height=256)
    """
    if bbox is None:
        return None
    left, top, right, bottom = bbox
    return Window(left, top, right - left, bottom - top)


def to_wkb(footprints: Sequence[Area | None]) -> list[bytes | None]:
    """Return footprints as little-endian WKB."""
    return list(shapely.to_wkb(np.array(footprints, object), byte_order=1)) if footprints else []


def footprint_of(data: bytes | None) -> Area | None:
    """Return the footprint that :func:`to_wkb` wrote."""
    if data is None:
        return None
    shape: Any = shapely.from_wkb(data, on_invalid="ignore")
    if not isinstance(shape, Polygon | MultiPolygon):
        raise ArchiveError("a footprint of the archive is damaged; run 'landcue archive verify'")
    return shape


def encoded_rows(
    metadata: Sequence[Metadata],
    contents: Sequence[str],
    thumbnails: Sequence[bytes],
    encoding: Encoding,
    label_names: Sequence[str],
    schema: pa.Schema,
    readings: Sequence[str | None] | None = None,
) -> pa.Table:
    """Return whole rows for n encoded images.

    ``readings`` say as JSON how the numbers of rasters became pictures; ``None`` of other images.
    """
    readings = readings or [None] * len(metadata)
    rows = metadata_rows(metadata)
    columns: dict[str, Any] = {name: rows[name] for name in rows.schema.names}
    columns["content"] = pa.array(contents, pa.string())
    columns["reading"] = pa.array(readings, pa.string())
    columns["embedding"] = _fixed(encoding.embedding)
    if encoding.n_bits:
        columns["code"] = _fixed(encoding.code)
    if label_names:
        columns["label_scores"] = _fixed(encoding.label_scores)
    vectors: list[npt.NDArray[Any]] = [encoding.embedding, encoding.code, encoding.label_scores]
    if encoding.regions is not None:
        columns["regions"] = _fixed(encoding.regions)
        vectors.append(encoding.regions)
    columns["predicted_labels"] = pa.array(
        predicted_labels(encoding.label_scores, label_names), _STRINGS
    )
    columns["thumbnail"] = pa.array(thumbnails, pa.binary())
    checks = [
        row_check(row.id, content, reading, thumbnail, *outputs)
        for row, content, reading, thumbnail, *outputs in zip(
            metadata, contents, readings, thumbnails, *vectors, strict=True
        )
    ]
    columns["check"] = pa.array(checks, pa.binary())
    return pa.table([columns[name] for name in schema.names], schema=schema)


def predicted_labels(scores: npt.NDArray[np.float32], names: Sequence[str]) -> list[list[str]]:
    """Return the names whose scores ``[n, C]`` reach the threshold."""
    return [list(itertools.compress(names, row >= LABEL_THRESHOLD)) for row in scores]


def row_check(
    id_: str, content: str, reading: str | None, thumbnail: bytes, *vectors: npt.NDArray[Any]
) -> bytes:
    """Return the 8-byte checksum of a row's id, digest, reading, thumbnail and model outputs."""
    digest = hashlib.blake2b(f"{id_}\0{content}\0{reading or ''}".encode(), digest_size=8)
    digest.update(thumbnail)
    for vector in vectors:
        digest.update(np.ascontiguousarray(vector).tobytes())
    return digest.digest()


def from_fixed(column: pa.ChunkedArray, width: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return a fixed-size list column as ``[n, width]``, without a copy if it is one chunk."""
    if not len(column):
        return np.empty((0, width), dtype)
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # one that is too large for a single chunk
        return np.concatenate(
            [from_fixed(pa.chunked_array([c]), width, dtype) for c in array.chunks]
        )
    return array.flatten().to_numpy(zero_copy_only=True).reshape(-1, width)


def _fixed(values: npt.NDArray[Any]) -> pa.FixedSizeListArray:
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


_VECTORS = ("embedding", "code", "label_scores", "regions")


def row_faults(batch: pa.RecordBatch, label_names: Sequence[str] | None = None) -> list[str | None]:
    """Compare whole rows with their checksums.

    Returns:
        The problem of each row, or ``None``.
    """
    n = len(batch)
    if not n:
        return []
    present = batch.schema.names
    vectors = [_matrix(batch, name) for name in _VECTORS if name in present]
    scores = _matrix(batch, "label_scores") if label_names else np.empty((n, 0), np.float32)
    expected = predicted_labels(scores, label_names or ())
    metadata = metadata_checks(batch)
    columns = ("id", "content", "reading", "thumbnail", "check", "metadata_check")
    plain = zip(*(batch[name].to_pylist() for name in columns), strict=True)
    stored = batch["predicted_labels"].to_pylist()
    faults: list[str | None] = []
    for i, (id_, content, reading, thumbnail, check, metadata_check) in enumerate(plain):
        outputs = (vector[i] for vector in vectors)
        if row_check(id_ or "", content or "", reading, thumbnail or b"", *outputs) != check:
            faults.append("is damaged: its checksum differs")
        elif metadata[i] != metadata_check:
            faults.append("is damaged: the checksum of its metadata differs")
        elif label_names is not None and stored[i] != expected[i]:
            faults.append("is damaged: its predicted labels are not those of its scores")
        else:
            faults.append(None)
    return faults


def first_of_each(ids: list[str], seen: set[str]) -> list[bool]:
    """Return which ids are new, and add them to ``seen``."""
    fresh: list[bool] = []
    for id_ in ids:
        fresh.append(id_ not in seen)
        seen.add(id_)
    return fresh


def only(batch: pa.RecordBatch, wanted: list[bool]) -> pa.Table:
    """Return the wanted rows of a batch."""
    return pa.Table.from_batches([batch.filter(pa.array(wanted, pa.bool_()))])


def _matrix(batch: pa.RecordBatch, name: str) -> npt.NDArray[Any]:
    return batch[name].flatten().to_numpy(zero_copy_only=False).reshape(len(batch), -1)
