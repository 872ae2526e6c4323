"""The service on loopback, beside the same searches without it: latencies, errors, memory.

    python benchmarks/serve.py [--archive FOLDER] [--seconds 60] [--clients 50] [--requests 20000]
                               [--workers 1]

Without an archive one of ``--records`` random records is made (a few minutes; ``--keep`` keeps it).
The server is a process of its own, ``landcue serve``, started and ended here; with ``--workers``
there are several, whose CPU time and memory are added up. Clients are in this
process and send their next request when the last one is answered. Uploads are searched for with the
built-in encoder in an archive of rendered images. Every line tells what was aimed at. Run it on an
idle machine: with all clients busy a request waits for all others, so the CPU time per request,
which is printed too, says what a loaded machine would do.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from http_load import Load, children, cpu_seconds, load, post, resident_mb
from landcue.archive.archive import ArchiveFolder
from landcue.archive.import_columns import ImportColumns
from landcue.archive.importing import import_table
from landcue.codes.hamming import CodeIndex
from landcue.search import Archive, ById

K, DIM, BITS = 20, 128, 64
Address = tuple[str, int]


def main() -> None:
    """Print one line per measurement, with its goal where there is one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archive", type=Path, help="of many records with codes")
    parser.add_argument("--records", type=int, default=1_000_000, help="to make without one")
    parser.add_argument("--keep", type=Path, help="folder that keeps what is made")
    parser.add_argument("--mode", default="code")
    parser.add_argument("--seconds", type=float, default=60, help="with all clients; 0 skips")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--requests", type=int, default=20_000, help="for memory; 0 skips")
    parser.add_argument("--workers", "--processes", type=int, default=1, help="that serve")
    parser.add_argument("--uploads", type=int, default=100, help="0 skips")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    print(f"{platform.machine()}, {cores} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        place = options.keep or Path(temporary)
        large = options.archive or make_records(place / f"random-{options.records}", options)
        ids, raw = measure_raw(large, options.mode)
        with serving(large, options.workers) as (processes, address):
            measure_searches(processes, address, ids, raw, options)
            measure_whole(processes, address, ids)
        if options.uploads:
            images, archive = make_images(place)
            with serving(archive, options.workers) as (_, address):
                measure_uploads(address, images, options.uploads)


def make_records(folder: Path, options: argparse.Namespace) -> Path:
    """Import random unit vectors and codes."""
    if folder.exists():
        return folder
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "table.parquet"
        writer = None
        for first in range(0, options.records, 65_536):
            n = min(65_536, options.records - first)
            vectors = rng.standard_normal((n, DIM), np.float32)
            codes = rng.integers(0, 256, (n, BITS // 8), np.uint8)
            west, south = rng.uniform(-170, 170, n).round(3), rng.uniform(-60, 70, n).round(3)
            days = np.datetime64("2015-01-01") + rng.integers(0, 3_650, n)
            columns = {
                "id": [f"{row:09}" for row in range(first, first + n)],
                "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM),
                "code": pa.array([code.tobytes() for code in codes], pa.binary()),
                "labels": [[f"label {row % 17}"] for row in range(n)],
                "geometry": shapely.to_wkb(shapely.box(west, south, west + 0.01, south + 0.01)),
                "datetime": days.astype("datetime64[us]"),
            }
            table = pa.table(columns)
            writer = writer or pq.ParquetWriter(file, table.schema)
            writer.write_table(table)
        if writer is None:
            raise SystemExit("--records must be at least 1")
        writer.close()
        wanted = ImportColumns(
            "embedding", "id", "geometry", "code", time="datetime", labels="labels"
        )
        import_table(file, folder, wanted, commit_every=65_536)
    return folder


def measure_raw(folder: Path, mode: str) -> tuple[list[str], float]:
    """Print what a search takes in this process; return ids to ask for and its p50."""
    searcher = Archive(ArchiveFolder.open(folder))
    n = len(searcher)
    rows = np.random.default_rng(1).integers(0, n, 2_000).tolist()
    ids = [searcher.backend.records.id(row) for row in rows]
    taken = _times(
        [lambda id_=id_: searcher.search(ById(id_), k=K, mode=mode) for id_ in ids[:300]]
    )
    raw = float(np.percentile(taken, 50))
    late = np.percentile(taken, 99)
    print(f"{n:,} records, mode {mode}, in process: p50 {raw:.3f} ms, p99 {late:.3f} ms")
    if mode == "code":
        codes = searcher.backend.vectors.code
        index = CodeIndex(codes, searcher.manifest.n_bits)
        taken = _times([lambda row=row: index.search(codes[[row]], K + 1) for row in rows[:300]])
        print(f"  its scan alone: p50 {np.percentile(taken, 50):.3f} ms", flush=True)
    return ids, raw


def _times(runs: list) -> list[float]:
    taken = []
    for run in [runs[0], *runs]:
        started = time.perf_counter()
        run()
        taken.append((time.perf_counter() - started) * 1e3)
    return taken[1:]


@contextlib.contextmanager
def serving(archive: Path, processes: int) -> Iterator[tuple[list[int], Address]]:
    """Run ``landcue serve`` on a free port until the end; yield its processes and its address."""
    command = [sys.executable, "-m", "landcue.cli.main", "serve", str(archive), "--port", "0"]
    command += ["--processes", str(processes)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        try:
            if process.stderr is None:
                raise SystemExit("the service has no output")
            line = process.stderr.readline().decode()
            if not line.startswith("serving "):
                raise SystemExit(f"the service did not start: {line}")
            keep = subprocess.Popen(["cat"], stdin=process.stderr, stdout=log)
            host, _, port = line.rsplit("/", 1)[-1].strip().rpartition(":")
            address = host, int(port)
            until_ready(address)
            # One that serves alone has children that decode, which are left out here and there.
            yield [process.pid, *(children(process.pid) if processes > 1 else [])], address
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        keep.wait(60)


def until_ready(address: Address) -> None:
    """Wait until models and vectors are loaded."""
    ask = f"GET /readyz HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\n\r\n".encode()
    for _ in range(600):
        if not load(address, lambda _: ask, clients=1, seconds=1, most=1).errors:
            return
        time.sleep(0.1)
    raise SystemExit("the service was not ready in a minute")


def measure_searches(
    processes: list[int], address: Address, ids: list[str], raw: float, options: argparse.Namespace
) -> None:
    """Search by record id with one client, with all, and for long."""
    bodies = [json.dumps({"id": id_, "mode": options.mode, "k": K}).encode() for id_ in ids]
    asked = [post(address, "/v1/search", "application/json", body) for body in bodies]

    def request(number: int) -> bytes:
        return asked[number % len(asked)]

    load(address, request, clients=2 * options.workers, seconds=30, most=200)  # warm
    computed = computed_by(processes)
    one = load(address, request, clients=1, seconds=max(options.seconds / 4, 2), most=10_000)
    computed = computed_by(processes) - computed
    told("1 client", one, computed)
    goal("p50 beyond the search in process", one.at(50) - raw, 3, "ms")
    if options.seconds:
        computed = computed_by(processes)
        many = load(address, request, clients=options.clients, seconds=options.seconds)
        told(f"{options.clients} clients", many, computed_by(processes) - computed)
        goal("p99", many.at(99), 30, "ms")
        goal("errors", sum(many.errors.values()), 0, "")
    if options.requests:
        held = [held_by(processes)]
        errors = 0
        for _ in range(10):
            part = load(address, request, clients=8, seconds=600, most=options.requests // 10)
            errors += sum(part.errors.values())
            held.append(held_by(processes))
        shown = " ".join(f"{value:.0f}" for value in held)
        print(f"private memory over {options.requests:,} requests: {shown} MB, {errors} errors")
        goal("growth after the first tenth", held[-1] - held[1], 5, "MB")


def measure_whole(processes: list[int], address: Address, ids: list[str]) -> None:
    """Count the scores of all records, and place them on a map: new queries, and one again."""
    for path, most in (("/v1/scores", 300), ("/v1/map", 2_000)):
        for mode in ("embedding", "code"):
            bodies = [json.dumps({"id": id_, "mode": mode}).encode() for id_ in (*ids[:6], ids[5])]
            taken, computed = [], computed_by(processes)
            for body in bodies:
                asked = post(address, path, "application/json", body)
                one = load(address, lambda _, asked=asked: asked, clients=1, seconds=60, most=1)
                if one.errors:
                    raise SystemExit(f"{path}: {one.errors}")
                taken.append(one.at(50))
            computed = (computed_by(processes) - computed) / len(bodies)
            print(
                f"{path}, mode {mode}: first {taken[0]:.0f} ms, next {np.median(taken[1:6]):.0f} "
                f"ms, the same again {taken[6]:.0f} ms; {computed:.2f} s of CPU each"
            )
            goal("next", float(np.median(taken[1:6])), most, "ms")


def computed_by(processes: list[int]) -> float:
    """Return the CPU seconds of all processes together."""
    return sum(map(cpu_seconds, processes))


def held_by(processes: list[int]) -> float:
    """Return the private memory of all processes together, in MB."""
    return sum(map(resident_mb, processes))


def told(who: str, found: Load, computed: float) -> None:
    """Print what some clients saw, and what the service computed for it."""
    n = len(found.milliseconds)
    print(
        f"{who}: {n:,} answers in {found.seconds:.1f} s, p50 {found.at(50):.2f} ms, "
        f"p99 {found.at(99):.2f} ms, {n / found.seconds:,.0f} per second, "
        f"{computed * 1e3 / max(n, 1):.3f} ms of CPU each; errors {found.errors or 'none'}",
        flush=True,
    )


def goal(what: str, value: float, most: float, unit: str) -> None:
    """Print a value beside what it should not exceed."""
    verdict = "reached" if value <= most else "missed"
    print(f"  {what}: {value:.3g} {unit} (goal: at most {most} {unit}): {verdict}", flush=True)


def make_images(place: Path) -> tuple[list[Path], Path]:
    """Render images and index them with the built-in encoder."""
    from landcue.demo import write_demo_archive

    source, archive = place / "rendered", place / "rendered-archive"
    if not archive.exists():
        write_demo_archive(source, n=140, progress=lambda _, __: None)
        command = ["index", str(source), str(archive), "--model", "builtin"]
        subprocess.run([sys.executable, "-m", "landcue.cli.main", *command], check=True)
    return sorted(source.rglob("*.tif")), archive


def measure_uploads(address: Address, images: list[Path], n: int) -> None:
    """Upload images one after another."""
    kind, asked = "multipart/form-data; boundary=b", []
    for path in images[:50]:
        head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
        asked.append(post(address, "/v1/search", kind, head + path.read_bytes() + b"\r\n--b--\r\n"))
    load(address, lambda i: asked[i % len(asked)], clients=1, seconds=30, most=5)  # warm
    found = load(address, lambda i: asked[i % len(asked)], clients=1, seconds=60, most=n)
    print(
        f"uploads, 1 client: {len(found.milliseconds)} answers, p50 {found.at(50):.1f} ms, "
        f"p99 {found.at(99):.1f} ms, errors {found.errors or 'none'}"
    )
    goal("p50 from upload to results", found.at(50), 150, "ms")


if __name__ == "__main__":
    main()
