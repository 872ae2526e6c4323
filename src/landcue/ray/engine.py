"""Hand images out to workers, take rows back in order, and outlive workers that die.

Workers read, decode and encode by themselves: only paths and windows go to them, only rows come
back. Ray's actors are used directly and not Ray Data, whose blocks would carry files or pixels from
readers to encoders, and which begins an actor that its images kill again without end.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from landcue import __version__
from landcue.archive.encoding import Encoded
from landcue.archive.plan import Task
from landcue.data.objects import absolute, is_object
from landcue.data.scenes import SceneOptions
from landcue.ray.cluster import Sizing, connected, size_workers
from landcue.ray.crew import Crew
from landcue.ray.worker import Done, Job, OpenEncoder, Place

_CHIP_CALLS = 4
"""Batches of chips per call: neighbors share blocks of their file."""


@dataclass(slots=True)
class NodeRate:
    """What one node has done.

    Attributes:
        host: Its name.
        node: Ray's id of it.
        workers: Process ids of its workers so far.
        images: Images and chips done.
        started: When its first call began, in seconds of this machine's clock.
        ended: When its last call ended.
    """

    host: str
    node: str
    workers: list[int] = field(default_factory=lambda: [])
    images: int = 0
    started: float = 0.0
    ended: float = 0.0

    @property
    def rate(self) -> float:
        """Images per second, from its first call to its last."""
        return self.images / max(self.ended - self.started, 1e-9)

    def __str__(self) -> str:
        workers = f"{len(self.workers)} worker{'s' if len(self.workers) > 1 else ''}"
        done = f"{self.images:,} images, {self.rate:.0f}/s"
        return f"node {self.host} ({self.node[:8]}): {done}, {workers}"


class RayEngine:
    """Reads and encodes with Ray; give it to :func:`landcue.archive.ingest.ingest`.

    Attributes:
        sizing: Workers and their shares, once running.
        startup_seconds: From connecting to the first worker that is ready.
        nodes: What each node has done, by its id.
        deaths: Workers that died and were replaced.
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
        say: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Describe the work; nothing starts before there is something to encode.

        Args:
            address: See :func:`landcue.ray.cluster.connected`.
            open_encoder: From ``cpu`` or ``cuda``, to what opens the model there.
            fingerprint: Of that model.
            workers: Their number; by default one for each GPU, or else for each core.
            device: Where the model runs; by default on GPUs where there are any.
            batch_size: Images per encoder call.
            say: Called with one line when workers come and go.
        """
        self._address, self._open, self._fingerprint = address, open_encoder, fingerprint
        self._workers, self._device, self._batch = workers, device, batch_size
        self._say = say
        self.sizing: Sizing | None = None
        self.startup_seconds = 0.0
        self.nodes: dict[str, NodeRate] = {}
        self.deaths = 0

    @contextlib.contextmanager
    def connection(self) -> Generator[None]:
        """Connect now, for as long as the block lasts.

        Starting a local cluster forks this process, which the archive's table, once it is open,
        does not like.

        Raises:
            UsageError: See :func:`landcue.ray.cluster.connected`.
        """
        started = time.perf_counter()
        with connected(self._address, self._workers):
            self.startup_seconds = time.perf_counter() - started
            yield

    @contextlib.contextmanager
    def __call__(
        self, tasks: Sequence[Task], scenes: SceneOptions | None
    ) -> Generator[Iterator[Encoded]]:
        """Connect, start workers, and give what the tasks become, in their order.

        Raises:
            UsageError: No such cluster, it is too small, or a node lacks what is needed.
            ArchiveError: Workers die again and again. What was committed stays.
        """
        started = time.perf_counter()
        with connected(self._address, self._workers) as ray:
            sizing = self.sizing = size_workers(ray, self._workers, self._device)
            device = self._device or ("cuda" if sizing.gpus else "cpu")
            # A device of its own, or a store far away, leaves the cores time to read meanwhile.
            overlap = device != "cpu" or is_object(tasks[0].record.path)
            job = Job(
                open_encoder=self._open(device),
                fingerprint=self._fingerprint,
                version=__version__,
                probe=_probe(tasks),
                scenes=scenes,
                batch_size=self._batch,
                threads=sizing.cpus,
                overlap=overlap,
            )
            chips = any(task.record.window is not None for task in tasks)
            per_call = self._batch * (_CHIP_CALLS if chips else 1)
            n = min(sizing.workers, -(-len(tasks) // per_call))
            crew = Crew(
                ray, ray.put(job), replace(sizing, workers=n), overlap, self.note, self.died
            )
            try:
                crew.start()
                self.startup_seconds += time.perf_counter() - started
                yield crew.results(
                    [tasks[i : i + per_call] for i in range(0, len(tasks), per_call)]
                )
            finally:
                crew.stop()

    def summary(self) -> list[str]:
        """Return lines for people: the start, and what each node has done."""
        if self.sizing is None:
            return []
        first = f"Ray: {self.sizing.workers} workers, the first ready after "
        return [first + f"{self.startup_seconds:.1f} s", *(str(node) for node in self._sorted())]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "workers": 0 if self.sizing is None else self.sizing.workers,
            "startup_seconds": self.startup_seconds,
            "deaths": self.deaths,
            "nodes": [
                {
                    "host": node.host,
                    "node": node.node,
                    "workers": len(node.workers),
                    "images": node.images,
                    "images_per_second": node.rate,
                }
                for node in self._sorted()
            ],
        }

    def _sorted(self) -> list[NodeRate]:
        return sorted(self.nodes.values(), key=lambda node: (node.host, node.node))

    def died(self, why: str, then: str) -> None:
        """Note that a worker died, and what follows."""
        self.deaths += 1
        self._say(f"a Ray worker died {then} ({why})")

    def note(self, place: Place, done: Done) -> None:
        """Count what a worker has done."""
        now = time.monotonic()
        fresh = NodeRate(place.host, place.node, started=now - done.seconds)
        node = self.nodes.setdefault(place.node, fresh)
        node.ended = now
        if place.pid not in node.workers:
            node.workers.append(place.pid)
        node.images += sum(part.n for part in done.encoded)


def _probe(tasks: Sequence[Task]) -> Path:
    """Return a folder that all nodes must see, or an object."""
    path = tasks[0].record.path
    return path if is_object(path) else absolute(path).parent
