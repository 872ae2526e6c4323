"""Pushes to a Milvus server against plain inserts of the same rows, and searches of the collection.

    python benchmarks/scale_milvus.py [--rows 200000] [--server milvus://127.0.0.1:19530]

Without ``--server`` the standalone server of the PyPI package ``milvus`` is started for the run, on
the same cores, which both sides share; 1,000,000 rows take it some minutes. The archive is
synthetic: clustered 128-d unit vectors, 64-bit codes, 17 label scores, groups and footprints. Plain
inserts send the same rows to the same three collections with ``MilvusClient.insert``, one batch
after the other, as its manual does; the rows are made beforehand and cost it nothing. It inserts
``--plain`` of them, half before the push and half after it. A push reads the rows from the archive,
computes checksums and sketches, and notes each batch. Both end when the server has acknowledged
the last batch; indexing, which the server does by itself, is reported apart. What the folder's own
searches derive (sorted records, the projection of sketches) is there beforehand: its cost does not
grow with the records beyond 20,000.

Each mode of search stands beside the server's own search of the same collection for 20 neighbors.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import statistics
import tempfile
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from landcue.archive.archive import ArchiveFolder
from landcue.archive.layout import create_table
from landcue.archive.manifest import write_manifest
from landcue.archive.schema import predicted_labels
from landcue.archive.sources import Source
from landcue.milvus import push as pushing
from landcue.milvus.link import Address, Link
from landcue.milvus.manifest import ROWS, make_collection, parts
from landcue.milvus.push import describe
from landcue.search import Archive, ById, Filter
from landcue.search.local import LocalBackend
from landcue.search.opened import open_storage
from landcue.search.vectors import Sketches
from landcue.types import Bounds

DIM, BITS = 128, 64
NAMES = tuple(f"label {i:02}" for i in range(17))
ROWS_AT_ONCE = 20_000
QUERIES = 30
GOAL = 0.8


class Model:
    """The sizes of an encoder, which are all that making an archive asks for."""

    dim, n_bits, label_names = DIM, BITS, NAMES
    fingerprint = hashlib.sha256(b"synthetic").hexdigest()

    def prepare(self, image: Any) -> Any:
        """Return the image."""
        return image

    def encode(self, pixels: Any) -> Any:
        """Refuse: there are no images here."""
        raise NotImplementedError


def make_archive(folder: Path, n: int, seed: int = 0) -> ArchiveFolder:
    """Write n synthetic records; their checksums stay empty, which nothing here reads."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(200, DIM))
    likely = rng.random((200, len(NAMES))) < 0.15
    folder.mkdir(parents=True)
    manifest, table = create_table(folder, Model(), {"made": Source.at(folder)}, None, {})
    schema = manifest.schema
    for first in range(0, n, ROWS_AT_ONCE):
        m = min(ROWS_AT_ONCE, n - first)
        kind = rng.integers(0, len(centers), m)
        vectors = centers[kind] + 0.7 * rng.normal(size=(m, DIM))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        scores = np.clip(0.8 * likely[kind] + 0.3 * rng.random((m, len(NAMES))), 0, 1)
        west, south = rng.uniform(-180, 179, m), rng.uniform(-80, 79, m)
        columns: dict[str, Any] = {
            "id": [f"scene{i // 1000:05}/chip{i:09}.tif" for i in range(first, first + m)],
            "path": [f"scene{i // 1000:05}.tif" for i in range(first, first + m)],
            "west": west,
            "south": south,
            "east": west + 0.02,
            "north": south + 0.02,
            "group": [f"scene{i // 1000:05}" for i in range(first, first + m)],
            "embedding": _fixed(vectors.astype(np.float32)),
            "code": _fixed(rng.integers(0, 256, (m, BITS // 8), dtype=np.uint8)),
            "label_scores": _fixed(scores.astype(np.float32)),
            "predicted_labels": predicted_labels(scores.astype(np.float32), NAMES),
            "size": np.ones(m, np.int64),
            "mtime_ns": np.ones(m, np.int64),
            "thumbnail": [b""] * m,
            "source": ["made"] * m,
        }
        arrays = [
            columns[f.name] if isinstance(columns.get(f.name), pa.Array)
            else pa.array(columns.get(f.name, [None] * m), f.type)
            for f in schema
        ]  # fmt: skip
        table.add(pa.table(arrays, schema=schema))
    write_manifest(folder, replace(manifest, records=n))
    return ArchiveFolder.open(folder)


def _fixed(values: Any) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


@contextlib.contextmanager
def server(given: str | None, folder: Path) -> Generator[tuple[str, int, int | None]]:
    """Give host, port and process of a server, started if none was given."""
    if given is not None:
        address = Address.parse(f"{given.rstrip('/')}/any")
        yield address.host, address.port, None
        return
    from milvus import MilvusServer

    started = MilvusServer(data_dir=str(folder))
    started.start()
    try:
        yield "127.0.0.1", started.listen_port, started.server_proc.pid
    finally:
        started.stop()


def resident(process: int | None) -> int:
    """Return the bytes of memory that a process holds; 0 if it is not known."""
    if process is None:
        return 0
    status = Path(f"/proc/{process}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return 1024 * int(line.split()[1])


def push_seconds(archive: ArchiveFolder, address: Address) -> tuple[float, float]:
    """Push; return the seconds until the last batch was acknowledged, and until all was indexed."""
    acknowledged: list[float] = []

    def tick(stage: str, done: int, total: int) -> None:
        if stage == "pushing" and done == total and not acknowledged:
            acknowledged.append(time.perf_counter())

    started = time.perf_counter()
    pushing.push(archive, address, progress=tick)
    return acknowledged[0] - started, time.perf_counter() - started


def plain_seconds(archive: ArchiveFolder, address: Address, first: int, last: int) -> float:
    """Insert some rows in the plainest way into collections as a push makes them."""
    link, source = Link(address), LocalBackend(archive)
    pushed = describe(source, address)
    for name in pushed.collections:
        make_collection(link, pushed, name)
    seconds = 0.0
    for part in parts(source, ROWS):
        if not first <= part.first < last:
            continue
        made: dict[str, list[dict[str, Any]]] = {}
        for name, columns in part.columns(pushed, part.facts):
            fields = [one["name"] for one in link.client.describe_collection(name)["fields"]]
            rows = zip(*(columns[field] for field in fields), strict=True)
            made[name] = [dict(zip(fields, row, strict=True)) for row in rows]
        started = time.perf_counter()
        for name, batch in made.items():
            link.client.insert(name, batch)
        seconds += time.perf_counter() - started
    for name in pushed.collections:
        link.client.drop_collection(name)
    link.close()
    return seconds


def latencies(archive: ArchiveFolder, address: Address) -> dict[str, Any]:
    """Return milliseconds per search, and in how many the folder gave the same ids."""
    near, far = Archive(archive), Archive(open_storage(Path(str(address))))
    rng = np.random.default_rng(1)
    rows = rng.integers(0, len(near), QUERIES).tolist()
    filters = {"": None, " + labels": Filter(any_labels=(NAMES[0], NAMES[1]))}
    filters[" + box"] = Filter(bbox=Bounds(-60, -30, 60, 30))
    found: dict[str, Any] = {}
    for mode in ("embedding", "code", "cue", "two-stage"):
        found[f"{mode}, by the server alone"] = {"p50_ms": raw_ms(near, address, mode, rows)}
        for name, where in filters.items():
            seconds: list[float] = []
            same = 0
            for row in rows:
                query = ById(near.backend.records.id(row))
                started = time.perf_counter()
                ids = [hit.id for hit in far.search(query, k=20, mode=mode, where=where).hits]
                seconds.append(time.perf_counter() - started)
                same += ids == [
                    hit.id for hit in near.search(query, k=20, mode=mode, where=where).hits
                ]
            found[mode + name] = {
                "p50_ms": round(1000 * statistics.median(seconds), 2),
                "p95_ms": round(1000 * float(np.quantile(seconds, 0.95)), 2),
                "same_as_folder": same / len(rows),
            }
    return found


def raw_ms(near: Archive, address: Address, mode: str, rows: list[int]) -> float:
    """Return the median milliseconds of the server's own search that a mode builds upon."""
    link = Link(address)
    name = address.collection
    sketcher, vectors = Sketches(near.backend.vectors, DIM).fitted(), near.backend.vectors
    seconds: list[float] = []
    for row in rows:
        embedding = np.array(vectors.embedding[row])
        asked: dict[str, tuple[str, Any]] = {
            "embedding": (name, np.append(embedding, np.zeros(len(NAMES), np.float32))),
            "two-stage": (f"{name}_sketch", sketcher.encode(embedding[None])[0].tobytes()),
        }
        collection, vector = asked.get(mode, (f"{name}_code", vectors.code[row].tobytes()))
        started = time.perf_counter()
        link.search(collection, [vector], 20)
        seconds.append(time.perf_counter() - started)
    link.close()
    return round(1000 * statistics.median(seconds), 2)


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--plain", type=int, default=100_000, help="rows of the plain inserts")
    parser.add_argument("--server", help="milvus://host:port; by default one is started")
    options = parser.parse_args()
    rows, sample = options.rows, min(options.plain, options.rows)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        archive = make_archive(folder / "archive", rows)
        for mode in ("embedding", "cue", "two-stage"):  # makes the derived files
            Archive(archive).search(ById("scene00000/chip000000000.tif"), k=1, mode=mode)
        with server(options.server, folder / "milvus") as (host, port, process):
            address = Address(host, port, f"bench_{int(time.time())}")
            other = replace(address, collection=f"{address.collection}_plain")
            plain = plain_seconds(archive, other, 0, sample // 2)
            before = resident(process)
            acknowledged, searchable = push_seconds(archive, address)
            held = resident(process) - before
            plain += plain_seconds(archive, other, sample // 2, sample)
            pushed_rate, plain_rate = rows / acknowledged, sample / plain
            result = {
                "records": rows,
                "records_of_plain_inserts": sample,
                "push_records_per_s": round(pushed_rate),
                "plain_records_per_s": round(plain_rate),
                "push_over_plain": round(pushed_rate / plain_rate, 3),
                "goal": GOAL,
                "seconds_until_searchable": round(searchable, 1),
                "server_bytes_per_record": round(held / rows) if process else None,
                "searches": latencies(archive, address),
            }
            print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
