"""Ingest with Ray's workers against plain processes, and what a killed worker changes.

    python benchmarks/scale.py [--chips 20000] [--workers 2]

Chips are 256-pixel synthetic JPEGs and the model is the built-in one. Each plain process indexes
its share of the files, with one thread, into an archive of its own. Rates are of the steady state:
from a tenth to nine tenths of the images; start-up is reported apart. One machine stands in for
many: workers share its disk and memory, and no network lies between them.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import platform
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from ingest import write_images
from landcue.archive.archive import Archive
from landcue.archive.ingest import ingest
from landcue.data.sources import open_source
from landcue.models.builtin import BUILTIN, find_model
from landcue.models.load import load_model
from landcue.ray.engine import RayEngine
from landcue.ray.worker import ModelFiles

GOAL = 0.85
Times = list[tuple[float, int]]


def steady(times: Times, n: int) -> float:
    """Return images per second between a tenth and nine tenths of n images."""
    first = next(point for point in times if point[1] >= n / 10)
    last = next(point for point in times if point[1] >= 9 * n / 10)
    return (last[1] - first[1]) / (last[0] - first[0])


def plain(source: Path, folder: Path, part: int, parts: int, points: multiprocessing.Queue) -> None:
    """Index every ``parts``-th image with one thread, telling when how many were done."""
    import torch

    torch.set_num_threads(1)
    images = open_source(source)
    ingest(
        images.records[part::parts], folder, load_model(BUILTIN).encoder,
        source_root=images.root, workers=1,
        progress=lambda done, _: points.put((part, time.perf_counter(), done)),
    )  # fmt: skip


def run_plain(source: Path, folder: Path, n: int, workers: int) -> float:
    """Return images per second of some processes together."""
    spawn = multiprocessing.get_context("spawn")
    points = spawn.Queue()
    processes = [
        spawn.Process(target=plain, args=(source, folder / f"plain{i}", i, workers, points))
        for i in range(workers)
    ]
    started = time.perf_counter()
    for process in processes:
        process.start()
    done, times = dict.fromkeys(range(workers), 0), Times()
    while sum(done.values()) < n:
        part, now, count = points.get()
        done[part] = count
        times.append((now, sum(done.values())))
    for process in processes:
        process.join()
    rate = steady(times, n)
    first = times[0][0] - started
    print(f"{workers} processes   {rate:7.1f} images/s   first batch after {first:.1f} s")
    return rate


def run_ray(source: Path, folder: Path, n: int, workers: int, kill: bool) -> float:
    """Return images per second with Ray; with ``kill`` a worker dies in the middle."""
    encoder = load_model(BUILTIN).encoder
    engine = RayEngine(
        "local", lambda device: ModelFiles.read(find_model(BUILTIN), "auto", device),
        encoder.fingerprint, workers=workers,
    )  # fmt: skip
    times, killed = Times(), list[int]()

    def progress(done: int, total: int) -> None:
        times.append((time.perf_counter(), done))
        if kill and not killed and done >= total / 2:
            killed.append(next(iter(engine.nodes.values())).workers[0])
            os.kill(killed[0], signal.SIGKILL)

    images = open_source(source)
    report = ingest(
        images.records, folder, encoder, source_root=images.root, engine=engine, progress=progress
    )
    rate = steady(times, n)
    note = f", {engine.deaths} worker killed" if kill else ""
    print(
        f"Ray, {workers} workers {rate:7.1f} images/s   first worker ready after "
        f"{engine.startup_seconds:.1f} s{note}; {report.summary()}"
    )
    return rate


def content(folder: Path) -> str:
    """Return a digest of all rows in their order: ids, digests of files, thumbnails, vectors."""
    archive = Archive.open(folder)
    digest = hashlib.sha256()
    for batch in archive.batches(["id", "check", "metadata_check"]):
        digest.update(repr(batch.to_pylist()).encode())
    return digest.hexdigest()


def check(what: str, good: Callable[[], bool]) -> None:
    """Print whether a goal is reached."""
    print(f"{what}: {'reached' if good() else 'MISSED'}")


def main() -> None:
    """Print rates, their ratio, and whether a killed worker changes anything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chips", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    n, workers = args.chips, args.workers
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "source").mkdir()
        write_images(folder / "source", n)
        alone = run_plain(folder / "source", folder, n, workers)
        spread = run_ray(folder / "source", folder / "ray", n, workers, kill=False)
        run_ray(folder / "source", folder / "killed", n, workers, kill=True)
        ratio = spread / alone
        check(f"Ray / processes {ratio:.2f}, goal {GOAL}", lambda: ratio >= GOAL)
        same = content(folder / "ray") == content(folder / "killed")
        check("a killed worker leaves the archive identical", lambda: same)


if __name__ == "__main__":
    main()
