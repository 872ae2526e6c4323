"""Threads with a bounded queue: requests beyond it are refused at once."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from landcue.server.errors import ProblemError
from landcue.server.metrics import Metrics

T = TypeVar("T")


class BoundedExecutor:
    """Runs functions in threads; a client that leaves does not free its place early.

    Attributes:
        name: Name in metrics.
        jobs: Number of running and waiting jobs.
    """

    def __init__(self, name: str, workers: int, waiting: int, metrics: Metrics) -> None:
        self.name = name
        self.jobs = 0
        self._workers, self._most = workers, workers + waiting
        self._closed = False
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._jobs = metrics.pool_jobs.labels(pool=name)
        self._refused = metrics.pool_refused.labels(pool=name)
        metrics.pool_limit.labels(pool=name).set(self._most)

    async def run(self, work: Callable[[], T]) -> T:
        """Run ``work`` in a thread and return its result.

        Raises:
            ProblemError: 429 when all places are taken, 503 when the service is closing.
        """
        self.check()
        self._count(1)
        future = asyncio.get_running_loop().run_in_executor(self._executor, work)
        future.add_done_callback(self._finished)
        return await asyncio.shield(future)

    def check(self) -> None:
        """Check that a place is free: for before a large body is read.

        Raises:
            ProblemError: As :meth:`run`.
        """
        if self._closed:
            raise ProblemError(503, "the service is closing", {"Retry-After": "5"})
        if self.jobs >= self._most:
            self._refused.inc()
            seconds = max(1, math.ceil(self.jobs / self._workers / 4))
            raise ProblemError(
                429,
                f"too many requests wait for {self.name}; try again in {seconds} s",
                {"Retry-After": str(seconds)},
            )

    def close(self) -> None:
        """Finish running jobs; drop waiting ones."""
        self._closed = True
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _finished(self, future: asyncio.Future[Any]) -> None:
        self._count(-1)
        if not future.cancelled():
            future.exception()  # the client may have disconnected

    def _count(self, by: int) -> None:
        self.jobs += by
        self._jobs.inc(by)
