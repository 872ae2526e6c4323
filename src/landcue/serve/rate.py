"""How many requests a client may send."""

from __future__ import annotations

import math
import time
from collections import OrderedDict

from landcue.serve.problems import ProblemError

_CLIENTS = 10_000
_BURST_SECONDS = 10.0


class Rate:
    """Requests per second of each client, with some room for bursts."""

    def __init__(self, per_second: float | None) -> None:
        self._per_second = per_second
        self._seen: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def check(self, client: str) -> None:
        """Count one request.

        Raises:
            ProblemError: 429.
        """
        if self._per_second is None:
            return
        now, burst = time.monotonic(), max(1.0, self._per_second * _BURST_SECONDS)
        left, then = self._seen.pop(client, (burst, now))
        left = min(burst, left + (now - then) * self._per_second)
        self._seen[client] = (left - 1 if left >= 1 else left, now)
        if len(self._seen) > _CLIENTS:
            self._seen.popitem(last=False)
        if left < 1:
            seconds = max(1, math.ceil((1 - left) / self._per_second))
            raise ProblemError(429, "too many requests", {"Retry-After": str(seconds)})
