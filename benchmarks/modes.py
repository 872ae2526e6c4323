"""Search modes over a real archive of many records, through the public API.

    landcue index DATA/uc_merced archive
    python benchmarks/modes.py archive [--records 1000000] [--queries 200] [--keep FOLDER]

The records are the images of that archive, each many times with noise on its embedding and some
bits of its code flipped, imported from a Parquet table. Recall is measured on the images alone,
too. Raw engines run in the same process. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from landcue.archive.archive import ArchiveFolder
from landcue.archive.import_columns import ImportColumns
from landcue.archive.importing import import_table
from landcue.codes import compiled
from landcue.codes.engine import frozen, room
from landcue.codes.hamming import CodeIndex
from landcue.codes.packing import to_words
from landcue.search import Archive, ById, SearchOptions
from landcue.search.exact import FloatIndex

K, SHORTLIST = 20, 200
NOISE, FLIPS = 0.25, 0.03  # length of the noise, share of bits


def main() -> None:
    """Print latencies, ratios to raw engines, and recalls."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path, help="Made by a model with a hash head.")
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--keep", type=Path, help="Folder that keeps the large archive.")
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    print(f"{platform.machine()}, {cores} cores, load {os.getloadavg()[0]:.1f}")
    real = ArchiveFolder.open(args.archive)
    real_recall(real)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.keep or Path(temporary)) / f"of-{args.records}"
        if not folder.exists():
            started = time.perf_counter()
            build(real, folder, args.records)
            print(f"{args.records:,} records imported in {time.perf_counter() - started:.0f} s")
        large(folder, args.queries)


def real_recall(archive: ArchiveFolder) -> None:
    """Print two-stage's share of the true neighbors on the images themselves."""
    searcher = Archive(archive, cache=False)
    names = searcher.ids()[:: max(1, archive.count // 500)]
    print(
        f"real images, {archive.count:,} records, {len(names)} queries, shortlist {SHORTLIST}: "
        f"two-stage finds {overlap(searcher, names, 'two-stage'):.2%} of the true {K}"
    )


def overlap(searcher: Archive, names: list[str], mode: str) -> float:
    """Return the mean share of the exact first K that a mode finds."""
    found = 0
    for name in names:
        true = {hit.id for hit in searcher.search(ById(name), k=K, mode="embedding").hits}
        hits = searcher.search(
            ById(name), k=K, mode=mode, options=SearchOptions(shortlist=SHORTLIST)
        ).hits
        found += len(true & {hit.id for hit in hits})
    return found / (K * len(names))


def build(real: ArchiveFolder, folder: Path, n: int) -> None:
    """Import n records drawn around the real ones."""
    columns = real.columns()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "table.parquet"
        writer = None
        for first in range(0, n, 65_536):
            size = min(65_536, n - first)
            chosen = rng.integers(len(columns), size=size)
            vectors = columns.embedding[chosen]
            noise = rng.standard_normal(vectors.shape, np.float32)
            vectors = vectors + NOISE * noise / np.linalg.norm(noise, axis=1, keepdims=True)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            flips = rng.random((size, columns.code.shape[1], 8)) < FLIPS
            codes = columns.code[chosen] ^ np.packbits(flips, axis=2)[..., 0]
            labels = [list(columns.labels_of(int(row))) for row in chosen]
            table = pa.table(
                {
                    "id": [f"{row:09}" for row in range(first, first + size)],
                    "embedding": pa.FixedSizeListArray.from_arrays(
                        pa.array(vectors.reshape(-1)), vectors.shape[1]
                    ),
                    "code": pa.array([code.tobytes() for code in codes], pa.binary()),
                    "labels": labels,
                }
            )
            writer = writer or pq.ParquetWriter(file, table.schema)
            writer.write_table(table)
        assert writer is not None
        writer.close()
        wanted = ImportColumns("embedding", id="id", code="code", labels="labels")
        import_table(file, folder, wanted, commit_every=65_536)


def large(folder: Path, n_queries: int) -> None:
    """Time every mode on a large archive, beside the engine that it rests on."""
    started = time.perf_counter()
    first_searcher = Archive(ArchiveFolder.open(folder))
    ids = first_searcher.ids()
    names = ids[:: max(1, len(ids) // n_queries)][:n_queries]
    for mode in ("code", "two-stage"):
        first_searcher.search(ById(names[0]), k=K, mode=mode)
    print(f"derived files of code and two-stage built in {time.perf_counter() - started:.1f} s")
    started = time.perf_counter()
    searcher = Archive(ArchiveFolder.open(folder))
    searcher.search(ById(names[0]), k=K, mode="code")
    print(f"open to first hit by code: {time.perf_counter() - started:.2f} s")
    for mode in ("code", "two-stage", "embedding"):
        report(
            mode,
            [
                lambda name=name, mode=mode: searcher.search(ById(name), k=K, mode=mode)
                for name in names[: 50 if mode == "embedding" else None]
            ],
        )
    print(f"two-stage finds {overlap(searcher, names[:50], 'two-stage'):.2%} of the true {K}")

    columns = ArchiveFolder.open(folder).columns()
    rows = [columns.find(name) for name in names]
    costs_of_codes(searcher, columns.code, rows, names)
    exact = FloatIndex(columns.embedding)
    take_turns(
        [
            lambda i: exact.search(columns.embedding[[rows[i]]], k=K + 1),
            lambda i: searcher.search(ById(names[i]), k=K, mode="embedding"),
        ],
        ["exact float, in memory", "exact float through the API"],
        min(30, len(names)),
    )
    ann(searcher, columns, names)


def costs_of_codes(searcher: Archive, codes: np.ndarray, rows: list[int], names: list[str]) -> None:
    """Compare the compiled scan alone with what is built on it, up to decoded hits."""
    index = CodeIndex(codes, 64)
    planes, n = frozen(to_words(codes)), len(codes)
    queries = [codes[[row]] for row in rows]
    words = [frozen(to_words(query).T) for query in queries]
    keys, found = np.empty((1, room(K + 2, n)), np.uint64), np.empty(1, np.int64)
    scan = compiled.scan()

    def api(i: int) -> Any:
        return searcher.search(ById(names[i]), k=K, mode="code").hits

    take_turns(
        [
            lambda i: scan(planes, 0, n, words[i], K + 2, keys, found),
            lambda i: index.search(queries[i], K + 2),
            api,
            lambda i: api(i).ids,
            lambda i: tuple(api(i)),
        ],
        [
            "compiled scan of codes",
            "CodeIndex",
            "mode code through the API",
            "... ids read",
            "... hits decoded",
        ],
        len(names),
    )


def take_turns(runs: list[Callable[[int], object]], titles: list[str], n: int) -> None:
    """Print the median over n queries of the least of some times, and its ratio to the first."""
    best = np.full((len(runs), n), np.inf)
    for _ in range(5):
        for i in range(n):
            for run, taken in zip(runs, best, strict=True):
                run(i)
                started = time.perf_counter()
                run(i)
                taken[i] = min(taken[i], (time.perf_counter() - started) * 1e3)
    middles = np.median(best, axis=1)
    for title, middle in zip(titles, middles, strict=True):
        print(f"{title:<32} {middle:8.3f} ms, {middle / middles[0]:.2f}x", flush=True)


def ann(searcher: Archive, columns: Any, names: list[str]) -> None:
    """Compare the approximate mode with raw FAISS on the same kind of index."""
    import faiss

    started = time.perf_counter()
    facts = searcher.build_ann()
    took = time.perf_counter() - started
    print(f"{facts['kind']} built and measured in {took:.0f} s: recall {facts['recall']}")
    result = searcher.search(ById(names[0]), k=K, mode="ann")
    plan = result.plan
    assert plan is not None
    rows = [columns.find(name) for name in names]
    quantizer = faiss.IndexFlatIP(columns.embedding.shape[1])
    lists = 1024
    raw = faiss.IndexIVFScalarQuantizer(
        quantizer,
        columns.embedding.shape[1],
        lists,
        faiss.ScalarQuantizer.QT_8bit,
        faiss.METRIC_INNER_PRODUCT,
    )
    sample = np.random.default_rng(0).choice(len(columns), min(len(columns), 64 * lists), False)
    raw.train(columns.embedding[np.sort(sample)])
    raw.add(columns.embedding)
    raw.nprobe = plan.lists
    truth = FloatIndex(columns.embedding)
    true = [set(truth.search(columns.embedding[[row]], k=K)[1][0].tolist()) for row in rows[:50]]
    found = [set(raw.search(columns.embedding[[row]], k=K)[1][0].tolist()) for row in rows[:50]]
    recall = np.mean([len(a & b) / K for a, b in zip(true, found, strict=True)])
    peer = report(
        f"raw faiss IVF{lists},SQ8 nprobe {raw.nprobe}",
        [lambda row=row: raw.search(columns.embedding[[row]], k=K) for row in rows],
    )
    ours = report(
        "mode ann through the API",
        [lambda name=name: searcher.search(ById(name), k=K, mode="ann") for name in names],
    )
    print(
        f"ann over raw faiss: {ours / peer:.2f}x; raw recall@{K} {recall:.3f}, measured recall "
        f"{plan.recall:.3f}, found {overlap(searcher, names[:50], 'ann'):.3f}"
    )


def report(what: str, runs: list[Callable[[], object]]) -> float:
    """Run each once untimed and once timed; print and return the median in ms."""
    times = []
    for run in runs:
        run()
        started = time.perf_counter()
        run()
        times.append((time.perf_counter() - started) * 1e3)
    middle, late = np.percentile(times, [50, 99])
    print(f"{what:<32} p50 {middle:8.3f} ms, p99 {late:8.3f} ms", flush=True)
    return float(middle)


if __name__ == "__main__":
    main()
