"""Threads with a bounded queue: what does not fit is refused at once instead of piling up."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from landcue.serve.problems import ProblemError

T = TypeVar("T")


class Pool:
    """Runs functions in threads; a client that leaves does not free its place early.

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
        with self._lock:
            if self._jobs >= self.most:
                self.refused += 1
                seconds = max(1, math.ceil(self._jobs / self._workers / 4))
                raise ProblemError(
                    429,
                    f"too many requests wait for {self.name}; try again in {seconds} s",
                    {"Retry-After": str(seconds)},
                )
            self._jobs += 1
        try:
            future: Future[T] = self._executor.submit(work)
        except RuntimeError:
            self._leave(None)
            raise ProblemError(503, "the service is closing", {"Retry-After": "5"}) from None
        future.add_done_callback(self._leave)
        return await asyncio.shield(asyncio.wrap_future(future))

    def close(self) -> None:
        """Finish what runs; what waits is dropped."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _leave(self, _: Future[Any] | None) -> None:
        with self._lock:
            self._jobs -= 1
