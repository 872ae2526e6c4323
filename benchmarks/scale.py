"""Ingest with Ray's workers against plain processes, and what a killed worker changes.

    python benchmarks/scale.py [--chips 20000] [--workers 2] [--runs plain ray killed driver]

Chips are 256-pixel synthetic JPEGs and the model is the built-in one, opened the same way with one
thread for every contestant. Each plain process indexes its share of the files into an archive of
its own. Rates are of the steady state: from a tenth to nine tenths of the images; start-up is
reported apart. CPU seconds are those of all processes that a run started and of this one. In a
third run a worker is killed half-way, and the rows are compared with those of the undisturbed run.
Rows of Ray Data come in bursts: below some 5,000 chips its rate means little. One machine stands in
for many: workers share its disk and memory, and no network lies between them. On a machine with
other work, start ``--runs plain`` and ``--runs ray killed`` at the same time on one ``--source``.

What the driver commits alone is measured by giving it rows that are encoded already, by a model of
the same shape that does no work.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import itertools
import multiprocessing
import os
import pickle
import platform
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import psutil

from ingest import write_images
from landcue.archive.archive import ArchiveFolder
from landcue.archive.encoding import Encoded, EncodingOptions, encoding_here
from landcue.archive.ingest import ingest
from landcue.archive.plan import SourceImages, Task
from landcue.archive.ray_encoding import ModelFiles, RayEngine
from landcue.data.scenes import SceneOptions
from landcue.data.sources import open_source
from landcue.models.load import BUILTIN, find_model, load_model
from landcue.types import ByteArray, Encoder, Encoding

GOAL = 0.85
BATCH = 64
RUNS = ["plain", "ray", "killed", "driver"]
Times = list[tuple[float, int]]


def steady(times: Times, n: int) -> float:
    """Return images per second between a tenth and nine tenths of n images."""
    first = next(point for point in times if point[1] >= n / 10)
    last = next(point for point in times if point[1] >= 9 * n / 10)
    if last[0] <= first[0]:
        raise SystemExit(f"{n} chips are too few for a rate; give more --chips")
    return (last[1] - first[1]) / (last[0] - first[0])


def model(device: str = "cpu") -> ModelFiles:
    """Return the model of all contestants, as it travels to workers."""
    return ModelFiles.read(find_model(BUILTIN), functools.partial(load, device))


def load(device: str, folder: Path, threads: int) -> Encoder:
    """Open the model's files."""
    return load_model(folder, device=device, threads=threads)


def plain(source: Path, folder: Path, part: int, parts: int, points: multiprocessing.Queue) -> None:
    """Index every ``parts``-th image with one thread, telling when how many were done."""
    images = open_source(source)
    ingest(
        SourceImages(images.records[part::parts], images.root),
        folder,
        model()(1),
        options=EncodingOptions(batch_size=BATCH, workers=1),
        progress=lambda done, _: points.put((part, time.perf_counter(), done)),
    )


@contextlib.contextmanager
def cpu_clock() -> Generator[Callable[[], float]]:
    """Yield a function that returns CPU seconds of this process and its descendants since now."""
    used: dict[tuple[int, float], float] = {}
    ended = threading.Event()

    def sample() -> float:
        own = psutil.Process()
        for process in [own, *own.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                used[process.pid, process.create_time()] = times.user + times.system
        return sum(used.values())

    def watch() -> None:
        while not ended.wait(0.5):
            sample()

    before = sample()
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lambda: sample() - before
    finally:
        ended.set()
        thread.join()


def run_plain(source: Path, folder: Path, n: int, workers: int) -> float:
    """Return images per second of some processes together."""
    spawn = multiprocessing.get_context("spawn")
    points = spawn.Queue()
    processes = [
        spawn.Process(target=plain, args=(source, folder / f"plain{i}", i, workers, points))
        for i in range(workers)
    ]
    started = time.perf_counter()
    with cpu_clock() as cpu:
        for process in processes:
            process.start()
        done, times = dict.fromkeys(range(workers), 0), Times()
        while sum(done.values()) < n:
            part, now, count = points.get()
            done[part] = count
            times.append((now, sum(done.values())))
        for process in processes:
            process.join()
        used = cpu()
    rate = steady(times, n)
    first, took = times[0][0] - started, time.perf_counter() - started
    print(
        f"{workers} processes   {rate:7.1f} images/s   first batch after {first:.1f} s; "
        f"{took:.1f} s, {used:.1f} CPU seconds",
        flush=True,
    )
    return rate


def run_ray(source: Path, folder: Path, n: int, workers: int, kill: bool) -> float:
    """Return images per second with Ray; with ``kill`` a worker dies in the middle."""
    encoder = model()(1)
    engine = RayEngine("local", model, encoder.fingerprint, workers=workers, batch_size=BATCH)
    times, killed = Times(), list[int]()

    def progress(done: int, total: int) -> None:
        times.append((time.perf_counter(), done))
        if kill and not killed and done >= total / 2:
            killed.append(next(iter(engine.nodes.values())).workers[0])
            os.kill(killed[0], signal.SIGKILL)

    images = open_source(source)
    started = time.perf_counter()
    with cpu_clock() as cpu, engine.connection():
        report = ingest(
            SourceImages(images.records[:n], images.root),
            folder,
            encoder,
            options=EncodingOptions(batch_size=BATCH),
            engine=engine,
            progress=progress,
        )
        used = cpu()
    rate, took = steady(times, n), time.perf_counter() - started
    note = ", a worker killed" if kill else ""
    print(
        f"Ray, {workers} workers {rate:7.1f} images/s   first batch after "
        f"{engine.startup_seconds:.1f} s{note}; {report.summary()}; {took:.1f} s, "
        f"{used:.1f} CPU seconds",
        flush=True,
    )
    return rate


class NoWork:
    """Gives vectors of another model's shape without a look at the pixels."""

    fingerprint = hashlib.sha256(b"no work").hexdigest()

    def __init__(self, like: Encoder) -> None:
        self.dim, self.n_bits, self.label_names = like.dim, like.n_bits, like.label_names
        self._random = np.random.default_rng(0)

    def prepare(self, image: ByteArray) -> ByteArray:
        """Take one pixel."""
        return image[:1, :1]

    def encode(self, pixels: Sequence[ByteArray] | ByteArray) -> Encoding:
        """Draw vectors of length 1, codes and scores."""
        n = len(pixels)
        embedding = self._random.normal(size=(n, self.dim)).astype(np.float32)
        embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
        codes = self._random.integers(0, 256, (n, -(-self.n_bits // 8)), np.uint8)
        if self.n_bits % 8:
            codes[:, -1] &= (1 << self.n_bits % 8) - 1
        scores = self._random.random((n, len(self.label_names)), np.float32)
        return Encoding(embedding, codes, self.n_bits, scores)


def run_driver(source: Path, folder: Path) -> float:
    """Return rows per second that one process takes from workers and commits, if they wait."""
    encoder = NoWork(model()(1))

    @contextlib.contextmanager
    def ready(tasks: Sequence[Task], scenes: SceneOptions | None) -> Generator[Iterator[Encoded]]:
        options = EncodingOptions(BATCH, workers=2, overlap=True)
        with encoding_here(tasks, encoder, None, options) as encoded:
            sent = [pickle.dumps(part) for part in encoded]
        yield (pickle.loads(part) for part in sent)

    images = open_source(source)
    report = ingest(SourceImages(images.records, images.root), folder, encoder, engine=ready)
    print(f"driver commits {report.images_per_second:,.0f} rows/s")
    return report.images_per_second


def content(folder: Path) -> str:
    """Return a digest of all rows in their order, each with the checksum of its values."""
    archive = ArchiveFolder.open(folder)
    digest = hashlib.sha256()
    rows = itertools.chain.from_iterable(
        batch.to_pylist() for batch in archive.batches(["id", "check", "metadata_check"])
    )
    for row in rows:
        digest.update(repr(row).encode())
    archive.close()
    return digest.hexdigest()


def check(what: str, good: bool) -> None:
    """Print whether a goal is reached."""
    print(f"{what}: {'reached' if good else 'MISSED'}", flush=True)


def main() -> None:
    """Print rates, their ratio, and whether a killed worker changes anything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chips", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=RUNS)
    parser.add_argument("--source", type=Path, help="folder of the chips, written if it is new")
    args = parser.parse_args()
    n, workers = args.chips, args.workers
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"model {BUILTIN}, {type(model()(1)).__name__}, 1 thread a worker, batches of {BATCH}")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        source = args.source or folder / "source"
        if not source.exists():
            source.mkdir()
            write_images(source, n)
        rates = dict[str, float]()
        if "plain" in args.runs:
            rates["plain"] = run_plain(source, folder, n, workers)
        for name in ("ray", "killed"):
            if name in args.runs:
                rates[name] = run_ray(source, folder / name, n, workers, kill=name == "killed")
        if {"plain", "ray"} <= set(rates):
            ratio = rates["ray"] / rates["plain"]
            check(f"Ray / processes {ratio:.2f}, goal {GOAL}", ratio >= GOAL)
        if {"ray", "killed"} <= set(rates):
            same = content(folder / "ray") == content(folder / "killed")
            check(f"{n:,} rows identical after a worker was killed", same)
        if "driver" in args.runs:
            run_driver(source, folder / "driver")


if __name__ == "__main__":
    main()
