"""Encode with Ray Data: workers on many nodes read and encode, this process writes the archive.

Only paths and windows are sent to the workers, only finished rows are returned, in the order of the
source. A worker that dies is restarted and its batch is encoded again; commits happen here, so
nothing is lost or stored twice.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from landcue import __version__
from landcue.archive.encoding import Encoded, EncodingOptions, encoding_here
from landcue.archive.plan import Task
from landcue.archive.ray_cluster import Sizing, connected, import_ray, size_workers
from landcue.archive.reading import SceneFacts
from landcue.data.objects import absolute, is_object, store_of
from landcue.data.scenes import SceneOptions
from landcue.errors import ArchiveError, LandcueError, ModelError, UsageError, first_line
from landcue.types import Encoder

_MOST_TRIES = 4
"""How often Ray may start the same images, which end the worker's process each time."""
_CHIP_BATCHES = 4
"""Batches of chips per call: neighbors share blocks of their file."""
_RAY_DATA_THREADS = ("iter_threaded", "StreamingExecutor-")
_THREAD_SECONDS = 60.0

OpenEncoder = Callable[[int], Encoder]
"""Loads the model on a worker's node, for a number of threads."""


@dataclass(slots=True)
class NodeRate:
    """Statistics of one node: process ids of its workers, images, start and end time."""

    host: str
    node: str
    started: float
    ended: float = 0.0
    workers: list[int] = field(default_factory=lambda: list[int]())
    images: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return plain values; images per second are from its first batch to its last."""
        return {
            "host": self.host,
            "node": self.node,
            "workers": len(self.workers),
            "images": self.images,
            "images_per_second": self.images / max(self.ended - self.started, 1e-9),
        }


@dataclass(frozen=True, slots=True)
class _Job:
    """The parameters of every worker of one ingest.

    ``probe`` is a folder that every node must mount, or an object that it must be able to read;
    ``tries`` is the actor of :class:`_Tries`.
    """

    open_encoder: OpenEncoder
    fingerprint: str
    version: str
    probe: Path
    scenes: SceneOptions | None
    options: EncodingOptions
    tries: Any


class _Tries:
    """Counts how often parts were started; Ray itself would restart them without end."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def start(self, part: int) -> int:
        self._counts[part] += 1
        return self._counts[part]


class _Worker:
    """The callable of ``Dataset.map_batches``: reads, decodes and encodes the tasks of a row."""

    def __init__(self, job: _Job) -> None:
        self._job = job
        self._facts = SceneFacts()  # a scene is hashed once for all calls with its chips
        self._encoder: Encoder | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        started = time.perf_counter()
        found: list[Encoded] | LandcueError
        try:
            found = self._encode(batch)
        except LandcueError as error:  # Ray would return only its message
            found = error
        except Exception as error:
            line = (str(error).splitlines() or [""])[0]
            found = ArchiveError(
                f"a Ray worker failed ({type(error).__name__}: {line}); the records committed so "
                "far are safe: fix that and run the same command again"
            )
        return {
            "encoded": [pickle.dumps(found)],
            "host": [socket.gethostname()],
            "node": [import_ray().get_runtime_context().get_node_id()],
            "pid": [os.getpid()],
            "seconds": [time.perf_counter() - started],
        }

    def _encode(self, batch: dict[str, Any]) -> list[Encoded]:
        if self._encoder is None:
            self._encoder = _open(self._job)
        job, found = self._job, list[Encoded]()
        for part, pickled in zip(batch["part"], batch["tasks"], strict=True):
            tasks: Sequence[Task] = pickle.loads(pickled)
            if import_ray().get(job.tries.start.remote(int(part))) > _MOST_TRIES:
                raise ArchiveError(_hopeless(tasks))
            with encoding_here(
                tasks, self._encoder, job.scenes, job.options, facts=self._facts
            ) as encoded:
                found += encoded
        return found


def _open(job: _Job) -> Encoder:
    """Load the model on this node.

    Raises:
        LandcueError: This node lacks a requirement of the job.
    """
    host = socket.gethostname()
    if __version__ != job.version:
        raise UsageError(
            f"node {host} has LandCue {__version__}, not {job.version}; install the same version "
            "on all nodes"
        )
    if is_object(job.probe):
        try:
            store_of(job.probe)
        except LandcueError as error:
            raise type(error)(f"node {host}: {error}") from None
    elif not job.probe.is_dir():
        raise UsageError(
            f"node {host} does not see {job.probe}; mount it at the same path on all nodes, or "
            "index from an object store (s3://…)"
        )
    encoder = job.open_encoder(job.options.threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(job.options.threads)
    if encoder.fingerprint != job.fingerprint:
        raise ModelError(
            f"node {host} loaded model {encoder.fingerprint[:12]}, not {job.fingerprint[:12]}; "
            "its training may still be running: wait until it has finished"
        )
    return encoder


class RayEngine:
    """Reads and encodes with Ray; the ``engine`` of :func:`landcue.archive.ingest.ingest`.

    Attributes:
        sizing: Workers and their shares, once running.
        startup_seconds: From connecting to the first finished batch.
        nodes: Statistics of each node, by its id.
    """

    def __init__(
        self,
        address: str,
        open_encoder: Callable[[str], OpenEncoder],
        fingerprint: str,
        *,
        workers: int | None = None,
        device: str | None = None,
        batch_size: int = 64,
    ) -> None:
        """Describe the work; nothing starts before there is something to encode.

        Args:
            address: Cluster, as for :func:`connected`.
            open_encoder: Maps ``cpu`` or ``cuda`` to a function that loads the model there.
            workers: Number of workers; by default one for each GPU, or else for each core.
            device: Device of the model; by default GPUs, if there are any.
        """
        self._address, self._open, self._fingerprint = address, open_encoder, fingerprint
        self._workers, self._device, self._batch = workers, device, batch_size
        self.sizing: Sizing | None = None
        self.startup_seconds = 0.0
        self.nodes: dict[str, NodeRate] = {}

    @contextlib.contextmanager
    def connection(self) -> Generator[None]:
        """Connect for the duration of the block.

        Starting a local cluster forks this process, which should happen before the archive's
        table is open.
        """
        with connected(self._address, self._workers):
            yield

    @contextlib.contextmanager
    def __call__(
        self, tasks: Sequence[Task], scenes: SceneOptions | None
    ) -> Generator[Iterator[Encoded]]:
        """Connect, start workers, and yield the results of the tasks, in their order.

        Raises:
            UsageError: No such cluster, it is too small, or a node lacks what is needed.
            ArchiveError: Workers fail repeatedly. Committed rows stay.
        """
        with connected(self._address, self._workers) as ray:
            self.sizing = size_workers(ray, self._workers, self._device)
            size = self._batch * (_CHIP_BATCHES if scenes is not None else 1)
            parts = [_absolute(tasks[first : first + size]) for first in range(0, len(tasks), size)]
            with contextlib.closing(self._results(ray, parts, scenes)) as results:
                yield results

    def _results(
        self, ray: Any, parts: Sequence[Sequence[Task]], scenes: SceneOptions | None
    ) -> Generator[Encoded]:
        """Yield the results of all parts; Ray starts parts again whose worker died."""
        started, others = time.perf_counter(), set(threading.enumerate())
        rows = iter(self._dataset(ray, parts, scenes).iter_rows())
        try:
            for row in rows:
                self.startup_seconds = self.startup_seconds or time.perf_counter() - started
                found: list[Encoded] | LandcueError = pickle.loads(row["encoded"])
                if isinstance(found, LandcueError):
                    raise found
                self._count(row, sum(part.n for part in found))
                yield from found
        except ray.exceptions.RayError as error:
            raise ArchiveError(
                f"Ray failed ({first_line(error)}); the records committed so far are safe: run the "
                "same command again"
            ) from None
        finally:
            close = getattr(rows, "close", None)  # ends the workers
            if close is not None:
                close()
            _wait_for_threads(others)

    def _dataset(
        self, ray: Any, parts: Sequence[Sequence[Task]], scenes: SceneOptions | None
    ) -> Any:
        import ray.data as ray_data

        sizing = self.sizing or size_workers(ray, self._workers, self._device)
        device = self._device or ("cuda" if sizing.gpus else "cpu")
        probe = parts[0][0].record.path
        job = _Job(
            open_encoder=self._open(device),
            fingerprint=self._fingerprint,
            version=__version__,
            probe=probe if is_object(probe) else probe.parent,
            scenes=scenes,
            options=EncodingOptions(
                self._batch,
                workers=sizing.cpus,
                # With a GPU or a remote store, the cores are free to read meanwhile.
                overlap=device != "cpu" or is_object(probe),
            ),
            tries=ray.remote(_Tries)
            .options(num_cpus=0, max_restarts=-1, max_task_retries=-1)
            .remote(),
        )
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        context = ray_data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        workers = min(sizing.workers, len(parts))
        return ray_data.from_items(
            [{"part": i, "tasks": pickle.dumps(part)} for i, part in enumerate(parts)],
            override_num_blocks=len(parts),
        ).map_batches(
            _Worker,
            batch_size=1,
            fn_constructor_args=(job,),
            compute=ray_data.ActorPoolStrategy(
                min_size=1, max_size=workers, initial_size=workers, max_tasks_in_flight_per_actor=2
            ),
            # Half of each core stays free, so that the worker of a lost node can move to another.
            num_cpus=sizing.cpus / 2,
            num_gpus=sizing.gpus,
        )

    def _count(self, row: dict[str, Any], images: int) -> None:
        now = time.monotonic()
        fresh = NodeRate(row["host"], row["node"], now - row["seconds"])
        node = self.nodes.setdefault(row["node"], fresh)
        node.ended = now
        if row["pid"] not in node.workers:
            node.workers.append(row["pid"])
        node.images += images

    def to_json(self) -> dict[str, Any]:
        """Return JSON values: workers, seconds until the first batch, statistics of each node."""
        nodes = sorted(self.nodes.values(), key=lambda node: (node.host, node.node))
        return {
            "workers": 0 if self.sizing is None else self.sizing.workers,
            "startup_seconds": self.startup_seconds,
            "nodes": [node.to_json() for node in nodes],
        }

    def summary(self) -> list[str]:
        """Return the statistics as text lines."""
        facts = self.to_json()
        start = (
            f"Ray: {facts['workers']} workers, the first batch after {self.startup_seconds:.1f} s"
        )
        return [start] + [
            f"node {node['host']} ({node['node'][:8]}): {node['images']:,} images, "
            f"{node['images_per_second']:.0f}/s, {node['workers']} workers"
            for node in facts["nodes"]
        ]


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model that is sent to the nodes as safe files, so that they need no shared disk.

    Attributes:
        files: Content by name, of a checkpoint folder or an exported file.
        load: Loads the model from the folder of the files, for a number of threads.
    """

    files: dict[str, bytes]
    load: Callable[[Path, int], Encoder]

    @classmethod
    def read(cls, path: Path, load: Callable[[Path, int], Encoder]) -> ModelFiles:
        """Read the files to send of a run folder, a model folder or an exported file.

        Raises:
            ModelError: It cannot be read.
        """
        from landcue.archive.layout import model_files

        try:
            files = {name: file.read_bytes() for name, file in model_files(path).items()}
        except OSError as error:
            raise ModelError(f"cannot read {error.filename}: {error.strerror}") from None
        return cls(files, load)

    def __call__(self, threads: int) -> Encoder:
        """Open the model from a temporary folder."""
        import tempfile

        with tempfile.TemporaryDirectory(prefix="landcue-model-") as folder:
            for name, content in self.files.items():
                (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                (Path(folder) / name).write_bytes(content)
            return self.load(Path(folder), threads)


def _wait_for_threads(others: set[threading.Thread]) -> None:
    """Wait until no thread of Ray Data, beside others, can use the connection any more.

    Ray Data does not wait for its threads when an iteration ends early. One that calls Ray after
    the shutdown makes Ray end this process, or connect again.
    """
    deadline = time.monotonic() + _THREAD_SECONDS
    for thread in set(threading.enumerate()) - others:
        if thread.name.startswith(_RAY_DATA_THREADS):
            thread.join(max(0.0, deadline - time.monotonic()))


def _absolute(tasks: Sequence[Task]) -> list[Task]:
    """Return the tasks with paths that do not depend on where a process runs."""
    return [
        replace(task, record=replace(task.record, path=absolute(task.record.path)))
        for task in tasks
    ]


def _hopeless(tasks: Sequence[Task]) -> str:
    return (
        f"Ray workers failed repeatedly on the images {tasks[0].record.id} to "
        f"{tasks[-1].record.id} (killed, crashed or out of memory); the records committed so far "
        "are safe: use fewer --ray-workers or a smaller --batch for more memory, or take these "
        "images out, and run the same command again"
    )
