"""The compiled Hamming scan. Importing this loads numba: ``hamming`` does so on first use.

Codes are read in blocks that stay in the first-level cache while every query passes over them.
A block's distances go to a small buffer with one vectorized loop, and only a block whose minimum
beats the query's current limit is looked at row by row.

The limit of a query is the smallest distance that can no longer enter its answer. Since rows come
in order and a later row loses a tie, the limit drops to d as soon as k rows have distance d or
less. So at most k rows of any one distance are ever noted, and one counting sort of the notes at
the end gives the answer in the order (distance, row). The cost does not depend on the order of
the rows: at most ``k * (n_bits + 1)`` rows per query are noted.
"""

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core import config
from numba.extending import intrinsic

BLOCK = 1024
CHUNK = 64
FAR = 65535  # above every distance: marks rows that the filter hides


def _emit_popcount(_context: Any, _word: Any) -> Any:
    """Have the ones of a uint64 counted by the machine's own (vector) instruction."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


_popcount: Any = intrinsic(_emit_popcount)


@numba.njit(nogil=True)
def _fill(planes: Any, first: int, size: int, words: Any, buffer: Any) -> Any:
    """Write the distances of ``size`` rows from ``first`` to ``buffer``; return the least."""
    low = np.uint16(FAR)
    plane = planes[0, first : first + size]
    word = words[0]
    if planes.shape[0] == 1:
        for i in range(size):
            distance = np.uint16(_popcount(plane[i] ^ word))
            buffer[i] = distance
            low = min(low, distance)
        return low
    for i in range(size):
        buffer[i] = np.uint16(_popcount(plane[i] ^ word))
    for w in range(1, planes.shape[0]):
        plane = planes[w, first : first + size]
        word = words[w]
        for i in range(size):
            buffer[i] += np.uint16(_popcount(plane[i] ^ word))
    for i in range(size):
        low = min(low, buffer[i])
    return low


@numba.njit(nogil=True)
def _hide(allowed: Any, first: int, size: int, buffer: Any) -> Any:
    """Push rows that are not ``allowed`` out of reach in ``buffer``; return the least left."""
    low = np.uint16(FAR)
    shown = allowed[first : first + size]
    for i in range(size):
        distance = buffer[i] if shown[i] else np.uint16(FAR)
        buffer[i] = distance
        low = min(low, distance)
    return low


def _scan(
    planes: Any,
    start: int,
    stop: int,
    queries: Any,
    allowed: Any,
    n_bits: int,
    distances: Any,
    rows: Any,
) -> int:
    """Fill ``distances`` and ``rows`` ``[q, k]``; see :func:`compiled`."""
    n_query, k = distances.shape
    capacity = min(stop - start, k * (n_bits + 1))
    noted_row = np.empty((n_query, capacity), np.int64)
    noted_distance = np.empty((n_query, capacity), np.uint16)
    n_noted = np.zeros(n_query, np.int64)
    count = np.zeros((n_query, n_bits + 1), np.int64)  # noted rows by distance
    below = np.zeros(n_query, np.int64)  # noted rows nearer than the limit
    limit = np.full(n_query, n_bits + 1, np.int64)
    buffer = np.empty(BLOCK, np.uint16)
    filtered = allowed.shape[0] > 0

    for first in range(start, stop, BLOCK):
        size = min(BLOCK, stop - first)
        for q in range(n_query):
            low = _fill(planes, first, size, queries[q], buffer)
            if filtered and low < limit[q]:
                low = _hide(allowed, first, size, buffer)
            if low >= limit[q]:
                continue
            for begin in range(0, size, CHUNK):
                end = min(begin + CHUNK, size)
                low = np.uint16(FAR)
                for i in range(begin, end):
                    low = min(low, buffer[i])
                if low >= limit[q]:
                    continue
                for i in range(begin, end):
                    distance = np.int64(buffer[i])
                    if distance >= limit[q]:
                        continue
                    noted_row[q, n_noted[q]] = first + i
                    noted_distance[q, n_noted[q]] = distance
                    n_noted[q] += 1
                    count[q, distance] += 1
                    below[q] += 1
                    while below[q] >= k:
                        limit[q] -= 1
                        below[q] -= count[q, limit[q]]

    for q in range(n_query):
        place = 0
        for d in range(n_bits + 1):
            place, count[q, d] = place + count[q, d], place
        for i in range(n_noted[q]):
            distance = noted_distance[q, i]
            place = count[q, distance]
            count[q, distance] += 1
            if place < k:
                distances[q, place] = distance
                rows[q, place] = noted_row[q, i]
    return min(k, n_noted[0])


def usable() -> bool:
    """Return whether numba may compile here (``NUMBA_DISABLE_JIT`` is not set)."""
    return not config.DISABLE_JIT  # pyright: ignore[reportAttributeAccessIssue]


@functools.cache
def compiled() -> Any:
    """Compile the scan, or load it from numba's cache folder; seconds once, then milliseconds.

    The returned function holds no lock while it runs and takes

    * ``planes`` uint64 ``[W, n]``, read-only, and the range ``start``, ``stop`` of its rows;
    * ``queries`` uint64 ``[q, W]``, read-only, q >= 1;
    * ``allowed`` bool ``[n]``, read-only, or ``[0]`` when every row is;
    * ``n_bits`` in 1..65534;
    * ``distances`` int32 ``[q, k]`` and ``rows`` int64 ``[q, k]``, which it fills,

    and returns how many columns it filled: fewer than k when fewer rows are allowed.
    """
    words = types.Array(types.uint64, 2, "C", readonly=True)
    signature = types.int64(
        words,
        types.int64,
        types.int64,
        words,
        types.Array(types.boolean, 1, "C", readonly=True),
        types.int64,
        types.int32[:, ::1],
        types.int64[:, ::1],
    )
    try:
        return numba.njit(signature, cache=True, nogil=True)(_scan)
    except Exception:  # no writable cache folder, or a broken one: compile for this process only
        return numba.njit(signature, nogil=True)(_scan)
