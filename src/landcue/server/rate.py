"""How many requests a client may send, counted for all processes of a service together."""

from __future__ import annotations

import hashlib
import math
import mmap
import secrets
import struct
import time
from pathlib import Path

from landcue.server.alone import alone
from landcue.server.problems import ProblemError

_BURST_SECONDS = 10.0

# A table of fixed size: a secret, then sets of entries. A client's set follows from a hash keyed by
# the secret, so that nobody can choose addresses that drive another client out.
_SECRET = 16
_SETS, _WAYS = 2_048, 8
_ENTRY = struct.Struct("<Qdd")  # hash of the client, requests it may still send, at which time
_SET = _WAYS * _ENTRY.size
_BYTES = _SECRET + _SETS * _SET

CLIENTS = _SETS * _WAYS
"""Clients remembered; further ones take the places of those that asked longest ago."""


class Rate:
    """Requests per second of each client, with some room for bursts."""

    def __init__(self, per_second: float | None, table: Path | None = None) -> None:
        """Take a rate, ``None`` for any; and a file of :func:`make_table` that processes share."""
        self._per_second = per_second or 0.0
        self._file = None if table is None else table.open("r+b")
        self._table = mmap.mmap(-1 if self._file is None else self._file.fileno(), _BYTES)
        if self._file is None:
            self._table[:_SECRET] = secrets.token_bytes(_SECRET)
        self._secret = bytes(self._table[:_SECRET])

    def check(self, client: str) -> None:
        """Count one request.

        Raises:
            ProblemError: 429.
        """
        if not self._per_second:
            return
        digest = hashlib.blake2b(client.encode(), digest_size=8, key=self._secret).digest()
        hashed = int.from_bytes(digest, "little")
        burst = max(1.0, self._per_second * _BURST_SECONDS)
        with alone(self._file):
            now = time.monotonic()  # the same clock for all processes
            place, left, then = self._find(hashed)
            left = burst if then is None else min(burst, left + (now - then) * self._per_second)
            kept = left - 1 if left >= 1 else left
            _ENTRY.pack_into(self._table, place, hashed, kept, now)
        if left < 1:
            seconds = max(1, math.ceil((1 - left) / self._per_second))
            raise ProblemError(429, "too many requests", {"Retry-After": str(seconds)})

    def _find(self, hashed: int) -> tuple[int, float, float | None]:
        """Return where a client's entry is or may be, and what it says."""
        start = _SECRET + hashed % _SETS * _SET
        oldest, when = start, math.inf
        entries = _ENTRY.iter_unpack(self._table[start : start + _SET])
        for place, (known, left, then) in enumerate(entries):
            if known == hashed and then:
                return start + place * _ENTRY.size, left, then
            if then < when:
                oldest, when = start + place * _ENTRY.size, then
        return oldest, 0.0, None


def make_table(path: Path) -> None:
    """Make the file that the processes of a service share; only they may read it."""
    path.touch(0o600)
    path.write_bytes(secrets.token_bytes(_SECRET) + bytes(_BYTES - _SECRET))
