"""Read and check the columns of a Parquet table of embeddings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet

from landcue.archive.manifest import FITTED_FROM, SPACE
from landcue.archive.schema import Metadata
from landcue.codes.packing import code_width
from landcue.data.places import area_of, place_of
from landcue.errors import DataError, UsageError, did_you_mean, first_line
from landcue.interval import in_utc
from landcue.types import Area, Bounds, ByteArray, Encoding, FloatArray, Problem

pq: Any = pyarrow.parquet
types: Any = pa.types


def _places(
    values: list[bytes | None], faults: list[str | None]
) -> list[tuple[Bounds | None, Area | None]]:
    """Return box and outline of WKB geometries.

    Args:
        values: Geometries in longitude and latitude.
        faults: The first error of each row; extended by rows with invalid geometries.
    """
    found: list[tuple[Bounds | None, Area | None]] = []
    for i, value in enumerate(values):
        try:
            place = place_of(value)
        except DataError as error:
            faults[i] = faults[i] or str(error)
            place = None
        outline = None if place is None else place.geometry
        if place is not None and outline is not None and outline.equals(area_of(place.bbox)):
            outline = None  # it is its box
        found.append((None if place is None else place.bbox, outline))
    return found


def _matrix(
    column: Any, width: int, dtype: npt.DTypeLike, faults: list[str | None], what: str
) -> npt.NDArray[Any]:
    """Return lists as ``[n, width]``; those that are unset or of another length are marked."""
    if types.is_fixed_size_list(column.type) and column.type.list_size == width:
        flat = column.flatten()
        if not column.null_count + flat.null_count:
            return flat.to_numpy(zero_copy_only=False).reshape(-1, width).astype(dtype)
    found = np.zeros((len(column), width), dtype)
    for i, value in enumerate(column):
        if not value.is_valid:
            faults[i] = faults[i] or f"lacks {what}"
            continue
        row = (
            value.values
            if types.is_nested(column.type)
            else pa.array(np.frombuffer(value.as_py(), np.uint8))
        )
        if len(row) != width:
            faults[i] = faults[i] or f"has {len(row)} values in {what}, not {width}"
        elif row.null_count:
            faults[i] = faults[i] or f"has unset values in {what}"
        else:
            found[i] = row.to_numpy(zero_copy_only=False)
    return found


def _values(column: Any, faults: list[str | None]) -> list[Any]:
    """Return Python values; those that there are none for, as times of the year 10000, as None."""
    try:
        return column.to_pylist()
    except OverflowError:
        if len(column) > 1:
            found: list[Any] = []
            for i in range(len(column)):
                own = faults[i : i + 1]
                found += _values(column.slice(i, 1), own)
                faults[i] = own[0]
            return found
        faults[0] = faults[0] or "has a time outside of the years 1 to 9999"
        return [None]


def _mark(faults: list[str | None], where: Any, what: str) -> None:
    """Set the error of the rows where ``where`` is true, unless they already have one."""
    for i in np.flatnonzero(where).tolist():
        faults[i] = faults[i] or what


def _is_list(kind: Any, of: Callable[[Any], bool]) -> bool:
    lists = types.is_list, types.is_large_list, types.is_fixed_size_list
    return any(fits(kind) for fits in lists) and of(kind.value_type)


def _is_text(kind: Any) -> bool:
    return types.is_string(kind) or types.is_large_string(kind)


def _is_bytes(kind: Any) -> bool:
    binary = types.is_binary(kind) or types.is_fixed_size_binary(kind)
    return binary or _is_list(kind, types.is_uint8)


_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "embedding": (lambda kind: _is_list(kind, types.is_floating), "lists of floats"),
    "code": (_is_bytes, "lists of uint8, or binary"),
    "geometry": (lambda kind: types.is_binary(kind) or types.is_large_binary(kind), "WKB (binary)"),
    "id": (lambda kind: _is_text(kind) or types.is_integer(kind), "text or integers"),
    "time": (types.is_timestamp, "timestamps"),
    "labels": (lambda kind: _is_list(kind, _is_text), "lists of text"),
    "path": (_is_text, "text"),
    "group": (_is_text, "text"),
}
"""The types that a column may have, by its meaning, and how messages call them."""


ROWS_AT_ONCE = 4096
MAX_DIM = 65_536
_IDS = ("unique_id", "id")


_LON_LAT = {"CRS84", "4326"}


@dataclass(frozen=True, slots=True)
class ImportColumns:
    """The columns of a table by their meaning; ``None`` for an absent one.

    Attributes:
        embedding: Lists of floats of one length.
        id: Text or integers; by default ``unique_id`` or ``id`` if there is one, else
            the row's number.
        geometry: WKB in longitude and latitude.
        code: Lists of bytes, or binary of one length; bit 0 is the least significant of byte 0.
        bits: Bits of a code; by default 8 per byte.
        time: Timestamps, taken as UTC without a zone.
        labels: Lists of text.
        path: Text: path or address of the image.
        group: Text: the scene or product of the image.

    >>> ImportColumns("embedding", geometry="geometry", time="acquired").id is None
    True
    """

    embedding: str
    id: str | None = None
    geometry: str | None = None
    code: str | None = None
    bits: int | None = None
    time: str | None = None
    labels: str | None = None
    path: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """The valid rows of a batch, and the errors of the others.

    Attributes:
        metadata: n rows.
        embedding: float32 ``[n, d]``, unit norm.
        code: uint8 ``[n, w]``.
        n_bits: Bits of a code.
        norms: float64 ``[n]``, lengths before scaling.
        problems: Rows left out.
    """

    metadata: list[Metadata]
    embedding: FloatArray
    code: ByteArray
    n_bits: int
    norms: npt.NDArray[np.float64]
    problems: list[Problem]

    def encoding(self, rows: Sequence[int]) -> Encoding:
        """Return the vectors of some rows."""
        scores = np.empty((len(rows), 0), np.float32)
        return Encoding(self.embedding[rows], self.code[rows], self.n_bits, scores)


class TableReader:
    """A Parquet table, opened and its columns checked.

    Attributes:
        rows: Number of rows.
        dim: Length of an embedding.
        n_bits: Bits of a code; 0 without codes.
    """

    def __init__(self, file: Path, columns: ImportColumns) -> None:
        self._name = file.name
        try:
            self._file = pq.ParquetFile(file)
        except (OSError, pa.ArrowException) as error:
            line = first_line(error)
            raise DataError(f"{file} cannot be read as a Parquet table ({line})") from None
        self._schema: pa.Schema = self._file.schema_arrow
        self.rows = int(self._file.metadata.num_rows)
        if not self.rows:
            raise DataError(f"{file} has no rows")
        self._columns = self._checked(columns)
        self.dim, width = self._widths()
        self.n_bits = 0 if width == 0 else self._bits(width)

    def pieces(self) -> Iterator[tuple[int, Piece]]:
        """Yield the number of rows read so far, and the rows of a batch."""
        names = {name for option in _KINDS if (name := getattr(self._columns, option))}
        done = 0
        try:
            for batch in self._file.iter_batches(ROWS_AT_ONCE, columns=sorted(names)):
                yield done + len(batch), self._piece(batch, done)
                done += len(batch)
        except (OSError, pa.ArrowException) as error:
            line = first_line(error)
            raise DataError(f"{self._name} is damaged after row {done} ({line})") from None

    @property
    def model_facts(self) -> dict[str, str]:
        """Of which space embeddings are that LandCue exported; empty where it is not known."""
        if self._columns.embedding != "embedding":
            return {}
        try:
            facts = json.loads((self._schema.metadata or {}).get(b"landcue", b"{}"))
            named = {
                name: facts.get(f"landcue:{key}")
                for name, key in ((SPACE, "model_fingerprint"), (FITTED_FROM, FITTED_FROM))
            }
        except (ValueError, AttributeError):
            return {}
        return {name: value for name, value in named.items() if value and isinstance(value, str)}

    def _checked(self, columns: ImportColumns) -> ImportColumns:
        present = self._schema.names
        given = {name: getattr(columns, name) for name in _KINDS}
        if given["id"] is None:
            given["id"] = next((name for name in _IDS if name in present), None)
        for option, name in given.items():
            if name is not None and name not in present:
                raise UsageError(
                    f"--{option}: {self._name} has no column {name!r}{did_you_mean(name, present)}"
                )
        for option, (fits, wanted) in _KINDS.items():
            name = given[option]
            if name is not None and not fits(self._schema.field(name).type):
                found = self._schema.field(name).type
                raise UsageError(f"--{option}: column {name!r} holds {found}, not {wanted}")
        if given["geometry"] is not None:
            self._check_crs(given["geometry"])
        return ImportColumns(**given, bits=columns.bits)

    def _check_crs(self, name: str) -> None:
        raw = (self._schema.metadata or {}).get(b"geo")
        try:
            column = json.loads(raw)["columns"].get(name, {}) if raw else {}
            crs = column.get("crs")
            code = "CRS84" if crs is None else str((crs.get("id") or {}).get("code"))
        except (ValueError, KeyError, AttributeError, TypeError):
            raise DataError(
                f"{self._name} has broken GeoParquet metadata; write it again"
            ) from None
        if column.get("encoding", "WKB") != "WKB":
            raise UsageError(f"--geometry: column {name!r} is not WKB; write it as WKB")
        if code not in _LON_LAT:
            called = (crs or {}).get("name", code)
            raise UsageError(
                f"--geometry: column {name!r} is in CRS {called!r}, not longitude and latitude; "
                "reproject it to EPSG:4326"
            )

    def _widths(self) -> tuple[int, int]:
        """Return the lengths of the first embedding and the first code that are set."""
        dim = self._width(self._columns.embedding)
        if not 1 <= dim <= MAX_DIM:
            raise DataError(f"{self._name}: embeddings have {dim} values, not 1 to {MAX_DIM}")
        return dim, self._width(self._columns.code) if self._columns.code else 0

    def _width(self, name: str) -> int:
        kind = self._schema.field(name).type
        if types.is_fixed_size_list(kind):
            return int(kind.list_size)
        if types.is_fixed_size_binary(kind):
            return int(kind.byte_width)
        for batch in self._file.iter_batches(ROWS_AT_ONCE, columns=[name]):
            for value in batch[name]:
                if value.is_valid:
                    return len(value.as_py())
        raise DataError(f"{self._name}: column {name!r} is empty")

    def _bits(self, width: int) -> int:
        bits = self._columns.bits or 8 * width
        if code_width(bits) != width:
            raise UsageError(f"--bits {bits}: codes of {width} bytes have {8 * width} bits or less")
        return bits

    def _piece(self, batch: pa.RecordBatch, first: int) -> Piece:
        n = len(batch)
        faults: list[str | None] = [None] * n
        c = self._columns
        embedding = _matrix(batch[c.embedding], self.dim, np.float64, faults, "its embedding")
        code = np.empty((n, 0), np.uint8)
        if c.code:
            code = _matrix(batch[c.code], code_width(self.n_bits), np.uint8, faults, "its code")
            if self.n_bits % 8:
                beyond = (code[:, -1] >> (self.n_bits % 8)) > 0
                _mark(faults, beyond, f"has code bits beyond {self.n_bits}")
        finite = np.isfinite(embedding).all(axis=1)
        _mark(faults, ~finite, "has an embedding that is not finite")
        embedding[~finite] = 0
        norms = np.linalg.norm(embedding, axis=1)
        _mark(faults, norms <= 1e-12, "has an embedding of length 0")
        with np.errstate(all="ignore"):
            scaled = (embedding / norms[:, None]).astype(np.float32)
        metadata = self._metadata(batch, first, faults)
        good = [i for i in range(n) if not faults[i]]
        problems = [
            Problem(f"{self._name} row {first + i}", what) for i, what in enumerate(faults) if what
        ]
        return Piece(
            metadata,
            scaled[good],
            np.ascontiguousarray(code[good]),
            self.n_bits,
            norms[good],
            problems,
        )

    def _metadata(
        self, batch: pa.RecordBatch, first: int, faults: list[str | None]
    ) -> list[Metadata]:
        """Return the metadata of the rows without a fault."""
        c, n = self._columns, len(batch)

        def values(name: str | None) -> list[Any]:
            return _values(batch[name], faults) if name else [None] * n

        ids = values(c.id) if c.id else [f"{first + i:09}" for i in range(n)]
        where = _places(values(c.geometry), faults)
        others = map(values, (c.time, c.labels, c.path, c.group))
        rows: list[Metadata] = []
        columns = zip(ids, where, *others, strict=True)
        for i, (id_, (bbox, outline), time, labels, path, group) in enumerate(columns):
            if id_ is None or id_ == "":
                faults[i] = faults[i] or "has no id"
            if faults[i]:
                continue
            rows.append(
                Metadata(
                    id=str(id_),
                    path=path or "",
                    labels=None if labels is None else tuple(filter(None, labels)),
                    bbox=bbox,
                    datetime=time and in_utc(time),
                    group=group,
                    part=None,
                    window=None,
                    sensor=None,
                    geometry=outline,
                    size=0,
                    mtime_ns=0,
                )
            )
        return rows
