"""The workers of one ingest: calls go out, rows come back in order, and the dead are replaced."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from landcue.archive.encoding import Encoded
from landcue.archive.plan import Task
from landcue.data.objects import absolute
from landcue.errors import ArchiveError, LandcueError
from landcue.ray.cluster import Sizing
from landcue.ray.worker import Done, Place, Worker

_AT_ONCE = 2
"""Calls a worker holds: the next one waits there while one runs."""
_AHEAD = 8
"""Calls per worker that may be done or running beyond the first that is not."""
_MOST_DEATHS = 4
"""Deaths of workers that held the same images, or deaths in a row of ones that never began."""
_PATIENCE = 300.0  # seconds without any worker


@dataclass(slots=True)
class _Member:
    """One worker: its actor, and what it holds."""

    actor: Any
    place: Place | None = None
    opening: Any = None
    holds: dict[Any, int] = field(default_factory=lambda: {})
    scene: Path | None = None


class Crew:
    """The workers of one ingest."""

    def __init__(
        self,
        ray: Any,
        job: Any,
        sizing: Sizing,
        overlap: bool,
        note: Callable[[Place, Done], object],
        died: Callable[[str, str], object],
    ) -> None:
        """Describe the workers; none starts yet.

        Args:
            ray: The connected module.
            job: A reference to the :class:`landcue.ray.worker.Job`.
            sizing: Workers and their shares.
            overlap: Let a worker read for its next call while one encodes.
            note: Called with what a worker has done.
            died: Called with why a worker died, and what follows.
        """
        self._ray, self._job, self._sizing = ray, job, sizing
        self._note, self._died = note, died
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
        waiting: list[int] = []
        deaths: dict[int, int] = {}
        done: dict[int, Done] = {}
        first = begun = 0
        while first < len(calls):
            limit = min(first + _AHEAD * self._sizing.workers, len(calls))
            waiting += range(begun, limit)
            begun = max(begun, limit)
            for member in self._free():
                if waiting:
                    index = self._choose(member, waiting, calls)
                    waiting.remove(index)
                    member.holds[member.actor.encode.remote(_absolute(calls[index]))] = index
            for index, value in self._finished():
                if isinstance(value, Done):
                    done[index] = value
                    continue
                waiting.append(index)
                if value is not None:  # it ran, or was next to run, when its worker died
                    deaths[index] = deaths.get(index, 0) + 1
                    if deaths[index] >= _MOST_DEATHS:
                        raise ArchiveError(_hopeless(calls[index], value))
            while first in done:
                yield from done.pop(first).encoded
                first += 1

    def _choose(
        self, member: _Member, waiting: Sequence[int], calls: Sequence[Sequence[Task]]
    ) -> int:
        """Return the first call for a worker, but rather one of the scene that it reads already.

        Each worker that reads a scene opens and hashes it.
        """
        taken = {other.scene for other in self._members if other is not member} - {None}

        def key(index: int) -> tuple[bool, bool, int]:
            scene = _scene(calls[index])
            return scene != member.scene, scene in taken, index

        index = min(waiting, key=key)
        member.scene = _scene(calls[index])
        return index

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
                    self._note(member.place, value)
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

    def _drop(self, member: _Member) -> None:
        self._members.remove(member)
        with contextlib.suppress(Exception):  # it may only have been out of reach
            self._ray.kill(member.actor)

    def _replace(self, member: _Member, why: str) -> None:
        self._drop(member)
        self._died(why, "and is replaced")
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
        others = len(self._members) - 1
        if self._failed_starts >= _MOST_DEATHS and others:
            self._drop(member)
            self._died(str(value), f"each time it starts, and is not replaced; {others} go on")
            return
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


def _scene(tasks: Sequence[Task]) -> Path | None:
    """Return the file that the first of some chips is cut from, or ``None`` for whole images."""
    record = tasks[0].record
    return None if record.window is None else record.path


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
    return "its process ended"
