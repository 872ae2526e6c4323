"""Threads with a bounded queue: what does not fit is refused at once instead of piling up."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from landcue.server.problems import ProblemError

PATIENCE_SECONDS = 0.005
"""So long a job waits behind others before one more thread is taken for it."""

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Job:
    work: Callable[[], Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    since: float
    result: Any = None
    error: BaseException | None = None


class Pool:
    """Runs functions in threads; a client that leaves does not free its place early.

    Short jobs are better done one after another: threads that take the interpreter's lock from
    each other, and wake-ups, cost more than a short search. So one thread does all jobs as long as
    none of them waits for long; others help behind long jobs.

    Attributes:
        name: In metrics.
        most: Jobs that may run and wait together.
        refused: Jobs turned away so far.
    """

    def __init__(self, name: str, workers: int, waiting: int) -> None:
        self.name = name
        self.most = workers + waiting
        self.refused = 0
        self._workers = workers
        self._jobs = 0
        self._threads = 0
        self._watched = False
        self._closed = False
        self._waiting: deque[_Job] = deque()
        self._done: list[_Job] = []
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix=name)

    @property
    def jobs(self) -> int:
        """Jobs that run or wait."""
        return self._jobs

    async def run(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns.

        Raises:
            ProblemError: 429 when all places are taken, 503 when the service is closing.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._lock:
            if self._closed:
                raise _closing()
            if self._jobs >= self.most:
                self.refused += 1
                seconds = max(1, math.ceil(self._jobs / self._workers / 4))
                raise ProblemError(
                    429,
                    f"too many requests wait for {self.name}; try again in {seconds} s",
                    {"Retry-After": str(seconds)},
                )
            self._jobs += 1
            self._waiting.append(_Job(work, future, loop, time.monotonic()))
            if not self._threads:
                self._start()
        self._watch(loop)
        return await asyncio.shield(future)

    def close(self) -> None:
        """Finish what runs; what waits is dropped."""
        with self._lock:
            self._closed = True
            dropped = list(self._waiting)
            self._waiting.clear()
            self._jobs -= len(dropped)
        for job in dropped:
            with contextlib.suppress(RuntimeError):
                job.loop.call_soon_threadsafe(job.future.cancel)
        self._executor.shutdown(wait=True)

    def _start(self) -> None:
        self._threads += 1
        self._executor.submit(self._work)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look after the jobs that wait, as long as there are any and threads to spare."""
        if self._waiting and not self._watched and self._threads < self._workers:
            self._watched = True
            loop.call_later(PATIENCE_SECONDS, self._help, loop)

    def _help(self, loop: asyncio.AbstractEventLoop) -> None:
        self._watched = False
        with self._lock:
            late = time.monotonic() - 0.9 * PATIENCE_SECONDS
            oldest = self._waiting[0].since if self._waiting else late
            if oldest < late and self._threads < self._workers and not self._closed:
                self._start()
        self._watch(loop)

    def _work(self) -> None:
        """Do what waits until nothing does."""
        while True:
            with self._lock:
                if not self._waiting:
                    self._threads -= 1
                    return
                job = self._waiting.popleft()
            try:
                job.result = job.work()
            except BaseException as error:  # the caller's, whatever it is
                job.error = error
            self._finish(job)

    def _finish(self, job: _Job) -> None:
        """Hand a job back to its loop: several at once where the loop is busy."""
        with self._lock:
            self._jobs -= 1
            self._done.append(job)
            if len(self._done) > 1:
                return  # the loop was woken for an earlier one and has not come by
        with contextlib.suppress(RuntimeError):  # the loop is gone, and all who waited with it
            job.loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        with self._lock:
            done, self._done = self._done, []
        for job in done:
            if job.future.done():
                continue
            if job.error is None:
                job.future.set_result(job.result)
            else:
                job.future.set_exception(job.error)


def _closing() -> ProblemError:
    return ProblemError(503, "the service is closing", {"Retry-After": "5"})
