"""Serialize the columns of a record, except its id, to one JSON string, and parse them back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from landcue.archive.manifest import Manifest
from landcue.search.records import COLUMNS, Records

_START = datetime(1970, 1, 1, tzinfo=UTC)
# Checksums depend on the order of the names.
_PLAIN = tuple(name for name in COLUMNS if name not in ("id", "time", "geometry"))
_to_json = json.JSONEncoder(separators=(",", ":")).encode


def record_to_json(fact: Mapping[str, Any]) -> str:
    """Serialize the columns of a record, except its id, as JSON in ASCII."""
    value: dict[str, Any] = {name: fact[name] for name in _PLAIN if fact[name] is not None}
    if fact["time"] is not None:
        value["time"] = microseconds(fact["time"])
    if fact["geometry"] is not None:
        value["geometry"] = fact["geometry"].hex()
    return _to_json(value)


def parse_records(ids: Sequence[str], texts: Sequence[str]) -> list[dict[str, Any]]:
    """Parse the strings that :func:`record_to_json` returned; absent values are null."""
    rows: list[dict[str, Any]] = []
    for id_, text in zip(ids, texts, strict=True):
        value = json.loads(text)
        if "time" in value:
            value["time"] = _START + timedelta(microseconds=value["time"])
        if "geometry" in value:
            value["geometry"] = bytes.fromhex(value["geometry"])
        rows.append({"id": id_, **value})
    return rows


def to_records(ids: Sequence[str], texts: Sequence[str], manifest: Manifest) -> Records:
    """Parse the strings of :func:`record_to_json` into records, in the order of ``ids``."""
    wide = pa.large_string()  # as in the sorted records of an archive folder
    schema = pa.schema(
        pa.field(name, wide if name in ("id", "path") else manifest.schema.field(name).type)
        for name in COLUMNS
    )
    return Records(pa.Table.from_pylist(parse_records(ids, texts), schema).combine_chunks())


def microseconds(time: datetime) -> int:
    """Return a time as microseconds since 1970."""
    return (time - _START) // timedelta(microseconds=1)
