"""Hand images out to workers, take rows back in order, and outlive workers that die.

Workers read, decode and encode by themselves: only paths and windows go to them, only rows come
back. Ray's actors are used directly and not Ray Data, whose blocks would carry decoded pixels from
readers to encoders, and whose retries know nothing of rows that are committed already.
"""

from __future__ import annotations

import contextlib
import heapq
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from landcue import __version__
from landcue.archive.encoded import Encoded
from landcue.archive.plan import Task
from landcue.data.objects import absolute, is_object
from landcue.data.raster_read import SceneOptions
from landcue.errors import ArchiveError, LandcueError
from landcue.ray.cluster import Sizing, connected, size_workers
from landcue.ray.worker import Done, Job, OpenEncoder, Place, Worker

_AT_ONCE = 2
"""Calls a worker holds: the next one waits there while one runs."""
_AHEAD = 8
"""Calls per worker that may be done or running beyond the first that is not."""
_CHIP_CALLS = 4
"""Batches of chips per call: neighbors share blocks of their file."""
_MOST_DEATHS = 4
"""Deaths of workers that held the same images, or deaths in a row of ones that never began."""
_PATIENCE = 300.0  # seconds without any worker


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


@dataclass(slots=True)
class _Member:
    """One worker: its actor, and what it holds."""

    actor: Any
    place: Place | None = None
    opening: Any = None
    holds: dict[Any, int] = field(default_factory=lambda: {})


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
            crew = _Crew(ray, ray.put(job), replace(sizing, workers=n), overlap, self)
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

    def died(self, why: str) -> None:
        """Note that a worker died."""
        self.deaths += 1
        self._say(f"a Ray worker died and is replaced ({why})")

    def note(self, place: Place, done: Done) -> None:
        """Count what a worker has done."""
        now = time.monotonic()
        fresh = NodeRate(place.host, place.node, started=now - done.seconds)
        node = self.nodes.setdefault(place.node, fresh)
        node.ended = now
        if place.pid not in node.workers:
            node.workers.append(place.pid)
        node.images += sum(part.n for part in done.encoded)


class _Crew:
    """The workers of one ingest."""

    def __init__(
        self, ray: Any, job: Any, sizing: Sizing, overlap: bool, engine: RayEngine
    ) -> None:
        self._ray, self._job, self._sizing, self._engine = ray, job, sizing, engine
        self._members: list[_Member] = []
        self._failed_starts = 0
        # None of Ray's own restarts: a call that died is given to whoever is free.
        self._actor = ray.remote(Worker).options(
            num_cpus=sizing.cpus,
            num_gpus=sizing.gpus,
            max_restarts=0,
            max_concurrency=_AT_ONCE if overlap else 1,
            scheduling_strategy="SPREAD",
        )

    def start(self) -> None:
        """Start all workers; return when the first is ready."""
        for _ in range(self._sizing.workers):
            self._hire()
        self._open(block=True)

    def stop(self) -> None:
        """End all workers."""
        for member in self._members:
            with contextlib.suppress(Exception):  # it may be gone, and the cluster with it
                self._ray.kill(member.actor)

    def results(self, calls: Sequence[Sequence[Task]]) -> Iterator[Encoded]:
        """Yield what all calls became, in order."""
        waiting = list(range(len(calls)))  # a heap: what comes first is needed first
        deaths: dict[int, int] = {}
        done: dict[int, Done] = {}
        first = 0
        while first < len(calls):
            limit = first + _AHEAD * self._sizing.workers
            for member in self._free():
                if waiting and waiting[0] < limit:
                    index = heapq.heappop(waiting)
                    member.holds[member.actor.encode.remote(_absolute(calls[index]))] = index
            for index, value in self._finished():
                if isinstance(value, Done):
                    done[index] = value
                    continue
                heapq.heappush(waiting, index)
                if value is not None:  # it ran, or was next to run, when its worker died
                    deaths[index] = deaths.get(index, 0) + 1
                    if deaths[index] >= _MOST_DEATHS:
                        raise ArchiveError(_hopeless(calls[index], value))
            while first in done:
                yield from done.pop(first).encoded
                first += 1

    def _free(self) -> Iterator[_Member]:
        """Yield ready workers that can hold one more call, the idlest first, as often as needed."""
        for load in range(_AT_ONCE):
            for member in self._members:
                if member.place is not None and len(member.holds) == load:
                    yield member

    def _finished(self) -> list[tuple[int, Done | str | None]]:
        """Wait for calls to end; of dead workers, give back all they held and why they died."""
        self._open(block=not any(member.holds for member in self._members))
        refs = {ref: member for member in self._members for ref in member.holds}
        if not refs:
            return []
        ready, _ = self._ray.wait(list(refs), num_returns=1, timeout=1.0)
        found: list[tuple[int, Done | str | None]] = []
        for ref in ready:
            member = refs[ref]
            if ref not in member.holds:
                continue  # its worker was found dead by another call
            value = self._get(ref)
            if isinstance(value, Done):
                found.append((member.holds.pop(ref), value))
                if member.place is not None:
                    self._engine.note(member.place, value)
                continue
            # The oldest call was running; the others had not begun.
            held = sorted(member.holds.values())
            found += [(index, value if index == held[0] else None) for index in held]
            member.holds.clear()
            self._replace(member, str(value))
        return found

    def _get(self, ref: Any) -> Any:
        """Return the value of a call, or why its worker died."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(ref)
        except errors.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, LandcueError):
                raise cause from None
            line = (str(cause).splitlines() or [""])[0]
            raise ArchiveError(
                f"a Ray worker failed ({type(cause).__name__}: {line}); the records committed so "
                "far are safe: mend that and run the same command again"
            ) from None
        except errors.RayError as error:
            return _reason(error)

    def _hire(self) -> None:
        actor = self._actor.remote(self._job)
        self._members.append(_Member(actor, opening=actor.open.remote()))

    def _replace(self, member: _Member, why: str) -> None:
        self._members.remove(member)
        with contextlib.suppress(Exception):  # it may only have been out of reach
            self._ray.kill(member.actor)
        self._engine.died(why)
        self._hire()

    def _open(self, *, block: bool) -> None:
        """See which workers have become ready; with ``block`` wait for a first one.

        Raises:
            ArchiveError: None comes, or those that come die at once.
        """
        patience = time.monotonic() + _PATIENCE
        while True:
            opening = {m.opening: m for m in self._members if m.opening is not None}
            if opening:
                ready, _ = self._ray.wait(
                    list(opening), num_returns=1, timeout=1.0 if block else 0.0
                )
                for ref in ready:
                    self._welcome(opening[ref], self._get(ref))
            if not block or any(member.place is not None for member in self._members):
                return
            if time.monotonic() > patience:
                raise ArchiveError(
                    f"no Ray worker started within {_PATIENCE:.0f} s (each needs "
                    f"{self._sizing.cpus} cores and {self._sizing.gpus} GPUs); free some and run "
                    "the same command again: it goes on from here"
                )

    def _welcome(self, member: _Member, value: Any) -> None:
        if isinstance(value, Place):
            member.place, member.opening = value, None
            self._failed_starts = 0
            return
        self._failed_starts += 1
        if self._failed_starts >= _MOST_DEATHS:
            raise ArchiveError(
                f"{_MOST_DEATHS} Ray workers in a row died before they were ready ({value}); mend "
                "that and run the same command again: it goes on from here"
            )
        self._replace(member, str(value))


def _absolute(tasks: Sequence[Task]) -> list[Task]:
    """Return the tasks with paths that do not depend on where a process runs."""
    return [
        replace(task, record=replace(task.record, path=absolute(task.record.path)))
        for task in tasks
    ]


def _probe(tasks: Sequence[Task]) -> Path | None:
    """Return a folder that all nodes must see."""
    path = tasks[0].record.path
    return None if is_object(path) else absolute(path).parent


def _hopeless(tasks: Sequence[Task], why: str) -> str:
    return (
        f"{_MOST_DEATHS} Ray workers died over the images {tasks[0].record.id} to "
        f"{tasks[-1].record.id} ({why}); the records committed so far are safe: give workers more "
        "memory (fewer --ray-workers, a smaller --batch), or take these images out, and run the "
        "same command again"
    )


def _reason(error: Exception) -> str:
    """Return in a few words why a worker is gone."""
    name, text = type(error).__name__, str(error).lower()
    if name == "OutOfMemoryError" or "node_out_of_memory" in text or "low on memory" in text:
        return "its node ran out of memory"
    if name == "NodeDiedError" or "node is dead" in text or "node died" in text:
        return "its node is gone"
    if "sigkill" in text or "connection" in text:
        return "it was killed or crashed; memory may have run out"
    return name
