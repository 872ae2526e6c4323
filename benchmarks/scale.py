"""Ingest with Ray's workers against plain processes, and what a killed worker changes.

    python benchmarks/scale.py [--chips 20000] [--workers 2] [--driver-only]

Chips are 256-pixel synthetic JPEGs and the model is the built-in one, in torch, opened the same way
with one thread for every contestant. Each plain process indexes its share of the files into an
archive of its own. Rates are of the steady state: from a tenth to nine tenths of the images;
start-up is reported apart. A run in which a worker is killed takes the first quarter of the chips,
and its rows are compared with the first rows of the undisturbed run. Rows of Ray Data come in
bursts: below some 5,000 chips its rate means little. One machine stands in for
many: workers share its disk and memory, and no network lies between them.

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
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from ingest import write_images
from landcue.archive.archive import ArchiveFolder
from landcue.archive.encoding import Encoded, encoding_here
from landcue.archive.ingest import ingest
from landcue.archive.plan import Task
from landcue.archive.ray_encoding import ModelFiles, RayEngine
from landcue.data.scenes import SceneOptions
from landcue.data.sources import open_source
from landcue.models.load import BUILTIN, find_model, load_model
from landcue.types import ByteArray, Encoder, Encoding

GOAL = 0.85
BATCH = 64
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
    import torch

    torch.set_num_threads(1)
    images = open_source(source)
    ingest(
        images.records[part::parts], folder, model()(1), source_root=images.root,
        batch_size=BATCH, workers=1,
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
    encoder = model()(1)
    engine = RayEngine("local", model, encoder.fingerprint, workers=workers, batch_size=BATCH)
    times, killed = Times(), list[int]()

    def progress(done: int, total: int) -> None:
        times.append((time.perf_counter(), done))
        if kill and not killed and done >= total / 2:
            killed.append(next(iter(engine.nodes.values())).workers[0])
            os.kill(killed[0], signal.SIGKILL)

    images = open_source(source)
    with engine.connection():
        report = ingest(
            images.records[:n], folder, encoder, source_root=images.root, batch_size=BATCH,
            engine=engine, progress=progress,
        )  # fmt: skip
    rate = steady(times, n)
    note = ", a worker killed" if kill else ""
    print(
        f"Ray, {workers} workers {rate:7.1f} images/s   first batch after "
        f"{engine.startup_seconds:.1f} s{note}; {report.summary()}"
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
        with encoding_here(
            tasks, encoder, None, batch_size=BATCH, workers=2, overlap=True
        ) as encoded:
            sent = [pickle.dumps(part) for part in encoded]
        yield (pickle.loads(part) for part in sent)

    images = open_source(source)
    report = ingest(images.records, folder, encoder, source_root=images.root, engine=ready)
    print(f"driver commits {report.images_per_second:,.0f} rows/s")
    return report.images_per_second


def content(folder: Path, n: int) -> str:
    """Return a digest of the first n rows in their order, each with the checksum of its values."""
    archive = ArchiveFolder.open(folder)
    digest = hashlib.sha256()
    rows = itertools.chain.from_iterable(
        batch.to_pylist() for batch in archive.batches(["id", "check", "metadata_check"])
    )
    for row in itertools.islice(rows, n):
        digest.update(repr(row).encode())
    archive.close()
    return digest.hexdigest()


def check(what: str, good: Callable[[], bool]) -> None:
    """Print whether a goal is reached."""
    print(f"{what}: {'reached' if good() else 'MISSED'}")


def main() -> None:
    """Print rates, their ratio, and whether a killed worker changes anything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chips", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--driver-only", action="store_true")
    args = parser.parse_args()
    n, workers = args.chips, args.workers
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        source = folder / "source"
        source.mkdir()
        write_images(source, n)
        if not args.driver_only:
            compare(source, folder, n, workers)
        run_driver(source, folder / "driver")


def compare(source: Path, folder: Path, n: int, workers: int) -> None:
    """Run all contestants."""
    print(f"model {BUILTIN}, {type(model()(1)).__name__}, 1 thread a worker, batches of {BATCH}")
    alone = run_plain(source, folder, n, workers)
    spread = run_ray(source, folder / "ray", n, workers, kill=False)
    part = max(n // 4 // BATCH, 4) * BATCH
    run_ray(source, folder / "killed", part, workers, kill=True)
    ratio = spread / alone
    check(f"Ray / processes {ratio:.2f}, goal {GOAL}", lambda: ratio >= GOAL)
    same = content(folder / "ray", part) == content(folder / "killed", part)
    check("a killed worker leaves the archive identical", lambda: same)


if __name__ == "__main__":
    main()
