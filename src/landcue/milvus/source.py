"""The source of a push: the records of an archive folder sorted by id, and their checksums."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute

from landcue.archive.archive import ArchiveFolder
from landcue.milvus.record_json import record_to_json
from landcue.milvus.tiling import Range
from landcue.search.local import CACHE_FROM
from landcue.search.records import Records, read_records
from landcue.search.store import Store
from landcue.search.vectors import Vectors

pc: Any = pyarrow.compute

NAMED = ("group", "part", "sensor")
"""Short texts of a record."""

_LISTS = ("labels", "predicted_labels")
_ROWS_AT_ONCE = 8_192
_PLAIN_RECORD = 4_096


@dataclass(slots=True)
class Part:
    """Some rows of an archive, read once.

    Attributes:
        where: Which.
        facts: Of each record.
        texts: Each record as JSON, see :func:`landcue.milvus.record_json.record_to_json`.
        stamps: A checksum of each record, by id.
        shared: The columns that all collections have, once they are made.
    """

    where: Range
    facts: list[dict[str, Any]]
    texts: list[str]
    stamps: dict[str, str]
    shared: dict[str, list[Any]] | None = None


class PushSource:
    """The records of an archive folder in the order of their ids, read where they are needed."""

    def __init__(self, archive: ArchiveFolder) -> None:
        """Open the files that searches derive from an archive, or make them."""
        self.archive = archive
        self.manifest = archive.manifest
        store = Store(archive, on_disk=archive.count >= CACHE_FROM)
        self.table = store.table("records", functools.partial(read_records, archive))
        self.records = Records(self.table)
        self.vectors = Vectors(archive, store)

    def __len__(self) -> int:
        return len(self.table)

    def part(self, where: Range) -> Part:
        """Read a range of the archive."""
        facts = self._facts(where.first, where.last)
        texts = [record_to_json(fact) for fact in facts]
        rows, vectors = slice(where.first, where.last), self.vectors
        columns: list[npt.NDArray[Any]] = [vectors.embedding[rows]]
        if self.manifest.n_bits:
            columns.append(vectors.code[rows])
        if self.manifest.label_names:
            columns.append(vectors.scores[rows])
        stamps: dict[str, str] = {}
        for fact, text, *values in zip(facts, texts, *columns, strict=True):
            digest = hashlib.blake2b(text.encode(), digest_size=12)
            for value in values:
                digest.update(np.ascontiguousarray(value).data)
            stamps[fact["id"]] = digest.hexdigest()
        return Part(where, facts, texts, stamps)

    def longest(self) -> dict[str, int]:
        """Return the sizes of the largest values, by the names of a collection's field limits."""
        sizes = {name: _longest(self.table[name]) for name in ("id", "path", *NAMED)}
        lists = {name: _most(self.table[name]) for name in _LISTS}
        names = self.records.label_names | set(self.manifest.label_names)
        return {
            "id": sizes["id"],
            "path": sizes["path"],
            "text": max(sizes[name] for name in NAMED),
            "record": self._longest_record(sizes, lists),
            "labels": max(len(names), *lists.values()),
        }

    def _longest_record(self, sizes: dict[str, int], lists: dict[str, int]) -> int:
        """Bound the bytes of the largest record: names, numbers and texts at their longest."""
        loose = 400 + 2 * _longest(self.table["geometry"])
        loose += sum(6 * sizes[name] for name in ("path", *NAMED))
        for name, most in lists.items():
            loose += most * (6 * _longest(pc.list_flatten(self.table[name])) + 4)
        if loose <= _PLAIN_RECORD:
            return loose
        # Escapes are rare: measure the records themselves where the bound is too loose.
        return max(
            len(record_to_json(fact))
            for first in range(0, len(self), _ROWS_AT_ONCE)
            for fact in self._facts(first, min(first + _ROWS_AT_ONCE, len(self)))
        )

    def _facts(self, first: int, last: int) -> list[dict[str, Any]]:
        return self.table.slice(first, last - first).to_pylist()


def _longest(column: Any) -> int:
    return int(pc.max(pc.binary_length(column)).as_py() or 0)


def _most(column: Any) -> int:
    return int(pc.max(pc.list_value_length(column)).as_py() or 0)
