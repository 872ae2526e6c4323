"""Exact search against raw faiss, both in one run: milliseconds and ratios.

    python benchmarks/search.py --rows 1000000 --bits 64 --k 20

Hamming: CodeIndex (numba and NumPy) against faiss IndexBinaryFlat on random codes, on clustered
codes and on rows sorted by falling distance (the worst order for a running top-k). Then what the
public call, a filter and a batch cost beside the compiled scan alone, on one thread, by least times
of searches that take turns; and how long a fresh process takes from its start to its first hit.
Float: FloatIndex against faiss IndexFlatIP on clustered unit vectors.
A ratio above 1 means that LandCue is faster than faiss. Answers are compared while timing.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np

from landcue.codes import compiled
from landcue.codes.engine import frozen, room
from landcue.codes.hamming import CodeIndex, hamming_distances
from landcue.codes.packing import pack_bits, to_words
from landcue.search.exact import FloatIndex

N_BATCH = 100


def describe_machine() -> str:
    """Return processor, cores, threads, load and versions in one line."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    return (
        f"{model}, {len(os.sched_getaffinity(0))} usable of {os.cpu_count()} cores, "
        f"faiss {faiss.__version__} with {faiss.omp_get_max_threads()} threads, "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}, "
        f"numpy {np.__version__}, load {load}"
    )


def timed(search: Callable[[int], object], repeats: int) -> tuple[float, float]:
    """Return p50 and p99 milliseconds of ``search(i)``, after one unmeasured call."""
    search(0)
    taken = []
    for i in range(repeats):
        start = time.perf_counter()
        search(i)
        taken.append((time.perf_counter() - start) * 1e3)
    return float(np.percentile(taken, 50)), float(np.percentile(taken, 99))


def compare(title: str, searches: dict[str, Callable[[int], object]], repeats: int) -> None:
    """Time the searches one after another; the first is the reference of the ratios."""
    reference = 0.0
    for name, search in searches.items():
        p50, p99 = timed(search, repeats)
        reference = reference or p50
        ratio = f"{reference / p50:6.2f}x"
        print(f"{title:34} {name:14} p50 {p50:9.3f} ms  p99 {p99:9.3f} ms  {ratio}", flush=True)


def least(searches: dict[str, Callable[[int], object]], repeats: int) -> dict[str, float]:
    """Return the least milliseconds of every search; they take turns, each after a warming call."""
    taken = dict.fromkeys(searches, float("inf"))
    for i in range(repeats):
        for name, search in searches.items():
            search(i)
            start = time.perf_counter()
            search(i + 1)
            taken[name] = min(taken[name], (time.perf_counter() - start) * 1e3)
    return taken


def benchmark_costs(rows: int, bits: int, k: int, repeats: int, rng: np.random.Generator) -> None:
    """Compare the public call, filters and batches with the compiled scan alone, on one thread."""
    codes, queries = code_sets(rows, bits, rng)["random"]
    faiss.omp_set_num_threads(1)
    reference = faiss.IndexBinaryFlat(codes.shape[1] * 8)
    reference.add(codes)
    index = CodeIndex(codes, bits, engine="numba", threads=1)
    planes, words = frozen(to_words(codes)), frozen(to_words(queries).T)
    keys, found = np.empty((1, room(k, rows)), np.uint64), np.empty(1, np.int64)
    scan = compiled.scan()
    masks = {share: rng.random(rows) < share for share in (0.9, 0.5, 0.1, 0.01)}
    singles = [queries[i : i + 1] for i in range(N_BATCH)]

    def bare(i: int) -> None:
        at = i % N_BATCH
        scan(planes, 0, rows, words[at : at + 1], k, keys, found)

    def masked(mask: np.ndarray) -> Callable[[int], object]:
        return lambda i: index.search(singles[i % N_BATCH], k, mask)

    searches: dict[str, Callable[[int], object]] = {
        "bare": bare,
        "faiss": lambda i: reference.search(singles[i % N_BATCH], k),
        "public": lambda i: index.search(singles[i % N_BATCH], k),
        **{f"mask {share:.0%}": masked(mask) for share, mask in masks.items()},
    }
    taken = least(searches, repeats)
    both = CodeIndex(codes, bits, engine="numba")
    batches = {
        "batch, one thread": lambda _: index.search(queries, k),
        "batch, all threads": lambda _: both.search(queries, k),
    }
    per_query = least(batches, max(3, repeats // 20))
    title = f"{rows:,} x {bits} bit, one thread"
    print(f"{title:34} compiled scan  {taken['bare']:9.3f} ms")
    print(f"{title:34} faiss          {taken['faiss'] / taken['bare']:9.2f}x the compiled scan")
    print(f"{title:34} public call    {taken['public'] / taken['bare']:9.2f}x the compiled scan")
    for name in (name for name in taken if name.startswith("mask")):
        ratio = taken[name] / taken["public"]
        print(f"{title:34} {name:14} {ratio:9.2f}x the call without")
    for name, milliseconds in per_query.items():
        ratio = taken["public"] / (milliseconds / N_BATCH)
        print(f"{title:34} {name}: {ratio:.2f}x the rate one by one", flush=True)


def benchmark_start(rows: int, bits: int, k: int, rng: np.random.Generator) -> None:
    """Time a fresh process from its start to its first hit in a saved index."""
    codes = pack_bits(rng.integers(0, 2, (rows, bits), dtype=np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "codes.bin"
        CodeIndex(codes, bits).save(path)
        script = (
            "import sys, pathlib, numpy; from landcue.codes.hamming import CodeIndex; "
            "index = CodeIndex.open(pathlib.Path(sys.argv[1])); "
            f"index.search(numpy.zeros((1, {codes.shape[1]}), numpy.uint8), {k})"
        )
        taken = []
        for _ in range(4):  # the first fills numba's cache where it is empty
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", script, str(path)], check=True)
            taken.append(time.perf_counter() - start)
    print(f"{rows:,} x {bits} bit: from the start of a process to its first hit {min(taken):.2f} s")


def code_sets(
    rows: int, bits: int, rng: np.random.Generator
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return packed codes ``[rows, B]`` and ``N_BATCH`` queries for each kind of data."""
    codes = pack_bits(rng.integers(0, 2, (rows, bits), dtype=np.uint8))
    queries = pack_bits(rng.integers(0, 2, (N_BATCH, bits), dtype=np.uint8))
    centers = rng.integers(0, 2, (200, bits), dtype=np.uint8)

    def near_centers(n: int) -> np.ndarray:
        flips = rng.random((n, bits), dtype=np.float32) < 0.1
        return pack_bits(centers[rng.integers(0, 200, n)] ^ flips)

    order = np.argsort(-hamming_distances(queries[:1], codes)[0].astype(int), kind="stable")
    return {
        "random": (codes, queries),
        "clustered": (near_centers(rows), near_centers(N_BATCH)),
        "falling": (codes[order], np.repeat(queries[:1], N_BATCH, axis=0)),
    }


def benchmark_codes(rows: int, bits: int, k: int, repeats: int, rng: np.random.Generator) -> None:
    """Compare Hamming search for one code length."""
    for kind, (codes, queries) in code_sets(rows, bits, rng).items():
        reference = faiss.IndexBinaryFlat(codes.shape[1] * 8)
        reference.add(codes)
        compiled = CodeIndex(codes, bits, engine="numba")
        plain = CodeIndex(codes, bits, engine="numpy")
        expected, _ = reference.search(queries, k)
        for index in (compiled, plain):
            if not np.array_equal(index.search(queries, k)[0], expected):
                raise SystemExit(f"{kind}: {index.engine} and faiss disagree on the distances")
        singles = [queries[i : i + 1] for i in range(N_BATCH)]
        compare(
            f"{rows:,} x {bits} bit {kind}, 1",
            {
                "faiss": lambda i: reference.search(singles[i % N_BATCH], k),  # noqa: B023
                "landcue numba": lambda i: compiled.search(singles[i % N_BATCH], k),  # noqa: B023
                "landcue numpy": lambda i: plain.search(singles[i % N_BATCH], k),  # noqa: B023
            },
            repeats,
        )
        compare(
            f"{rows:,} x {bits} bit {kind}, {N_BATCH}",
            {
                "faiss": lambda _: reference.search(queries, k),  # noqa: B023
                "landcue numba": lambda _: compiled.search(queries, k),  # noqa: B023
                "landcue numpy": lambda _: plain.search(queries, k),  # noqa: B023
            },
            max(3, repeats // 40),
        )


def benchmark_floats(rows: int, dim: int, k: int, repeats: int, rng: np.random.Generator) -> None:
    """Compare float search for one dimension."""
    centers = rng.standard_normal((200, dim), dtype=np.float32)

    def near_centers(n: int) -> np.ndarray:
        found = rng.standard_normal((n, dim), dtype=np.float32)
        found += centers[rng.integers(0, 200, n)]
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    embeddings, queries = near_centers(rows), near_centers(N_BATCH)
    reference = faiss.IndexFlatIP(dim)
    reference.add(embeddings)
    index = FloatIndex(embeddings)
    scores, _ = reference.search(queries[:8], k)
    if not np.allclose(1 - scores, index.search(queries[:8], k)[0], atol=1e-5):
        raise SystemExit("float: landcue and faiss disagree on the distances")
    for n_query, times in ((1, max(5, repeats // 10)), (N_BATCH, 3)):
        part = queries[:n_query]
        compare(
            f"{rows:,} x {dim} float32, {n_query}",
            {
                "faiss": lambda _: reference.search(part, k),  # noqa: B023
                "landcue": lambda _: index.search(part, k),  # noqa: B023
            },
            times,
        )


def main() -> None:
    """Run every comparison and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--bits", type=int, nargs="+", default=[64])
    parser.add_argument("--dim", type=int, default=128, help="float dimensions; 0 skips floats")
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if min(options.rows, options.k, options.repeats, *options.bits) < 1:
        parser.error("--rows, --bits, --k and --repeats must be at least 1")
    k = min(options.k, options.rows)

    print(describe_machine())
    print(f"top-{k}; the ratio is faiss's p50 over ours")
    rng = np.random.default_rng(options.seed)
    for bits in options.bits:
        benchmark_codes(options.rows, bits, k, options.repeats, rng)
        benchmark_costs(options.rows, bits, k, options.repeats, rng)
        benchmark_start(options.rows, bits, k, rng)
    if options.dim:
        benchmark_floats(options.rows, options.dim, k, options.repeats, rng)


if __name__ == "__main__":
    main()
