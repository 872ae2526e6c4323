"""The scans, to be compiled. Importing this loads numba: the indexes do so on first use.

A row enters an answer as one number, its key: ``distance << 32 | row``. Keys are unique and in the
order (distance, row), so the answer of a query is its k least keys, whatever the order in which
rows are seen, and answers of separate ranges of rows merge by sorting.

Rows are read in blocks that stay in the first-level cache while every query passes over them. Most
blocks need one vectorized loop, the least distance: only where that can still enter the answer are
rows looked at one by one and their keys noted. When a little more than k keys are noted, the k
least are kept, and the greatest of them is the worst key that later ones must stay under. Rows
ascend, so a block beyond the worst key's row must even have a smaller distance: an archive of equal
codes, or one sorted by falling distance, costs little more than any other.

All compiled functions are in this file, because numba's cache of a function notices changes of its
own file alone. Those whose names begin with an underscore share a few arguments:

* ``planes`` uint64 ``[W, n]`` and ``queries`` uint64 ``[q, W]``: codes, word by word;
* ``rows`` uint32 ``[n]``: the row at a position, or ``[0]`` where the two are the same;
* ``allowed`` uint8 ``[n]``, by row: 1 where the filter allows it, or ``[0]`` without a filter;
* ``buffer`` uint64 ``[BLOCK]``: the distances of one block;
* ``answer``: a tuple of ``keys`` uint64 ``[q, c]`` with c > k or enough for all rows, ``found``
  int64 ``[q]``, how many are noted, ``worst`` uint64 ``[q]``, and ``limit`` uint64 ``[q]``, which
  the distances of the next rows must stay under.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

BLOCK = 1024
CHUNK = 64
SHIFT = 32
FAR = 0xFFFFFFFF  # above every distance: marks rows that the filter hides
NOTHING = (FAR - 1) << SHIFT | 0xFFFFFFFF  # the limit before k rows are known
WARY = 32  # blocks for which the filter is looked at first, after it hid a block's near rows


def _emit_popcount(_context: Any, _word: Any) -> Any:
    """Have the ones of a uint64 counted by the machine's own (vector) instruction."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


_popcount: Any = intrinsic(_emit_popcount)


@numba.njit(nogil=True)
def _block_rows(n_words: int) -> Any:
    """Return the rows of a block: fewer for longer codes, so that it stays in the cache."""
    return np.uint64(max(128, BLOCK // max(1, n_words)))


@numba.njit(nogil=True)
def _fill(
    planes: Any, n_words: int, first: Any, size: Any, queries: Any, q: int, buffer: Any
) -> None:
    """Write the distances of ``size`` rows from ``first``, in the first words, to ``buffer``."""
    odd = n_words % 2
    word = queries[q, 0]
    for i in range(size):
        buffer[i] = _popcount(planes[0, first + i] ^ word) if odd else 0
    for w in range(odd, n_words, 2):
        word = queries[q, w]
        other = queries[q, w + 1]
        for i in range(size):
            buffer[i] += _popcount(planes[w, first + i] ^ word)
            buffer[i] += _popcount(planes[w + 1, first + i] ^ other)


@numba.njit(nogil=True)
def _seek(
    planes: Any, first: Any, stop: Any, queries: Any, q: int, limit: Any, buffer: Any
) -> tuple[Any, int]:
    """Return the first block and query, from (``first``, ``q``) on, that come under the limit."""
    last = planes.shape[0] - 1
    block = _block_rows(planes.shape[0])
    while first < stop:
        size = min(block, stop - first)
        while q < queries.shape[0]:
            low = np.uint64(FAR)
            word = queries[q, last]
            if last == 0:
                for i in range(first, first + size):
                    low = min(low, _popcount(planes[0, i] ^ word))
            elif last == 1:
                other = queries[q, 0]
                for i in range(first, first + size):
                    low = min(low, _popcount(planes[0, i] ^ other) + _popcount(planes[1, i] ^ word))
            else:
                _fill(planes, last, first, size, queries, q, buffer)
                for i in range(size):
                    low = min(low, buffer[i] + _popcount(planes[last, first + i] ^ word))
            if low < limit[q]:
                return first, q
            q += 1
        q = 0
        first += block
    return stop, 0


@numba.njit(nogil=True)
def _seek_allowed(
    planes: Any, first: Any, stop: Any, query: Any, allowed: Any, limit: Any, buffer: Any
) -> Any:
    """Return the first block in which an allowed row comes under the limit of one query."""
    last = planes.shape[0] - 1
    word = query[0, last]
    block = _block_rows(planes.shape[0])
    far = np.uint64(FAR)
    while first < stop:
        low = far
        size = min(block, stop - first)
        if last == 0:
            for i in range(first, first + size):
                distance = _popcount(planes[0, i] ^ word)
                low = min(low, distance if allowed[i] else far)
        else:
            _fill(planes, last, first, size, query, 0, buffer)
            for i in range(size):
                distance = buffer[i] + _popcount(planes[last, first + i] ^ word)
                low = min(low, distance if allowed[first + i] else far)
        if low < limit[0]:
            return first
        first += block
    return stop


@numba.njit(nogil=True)
def _keep(keys: Any, q: int, n: int, k: int) -> Any:
    """Move the k least of ``keys[q, :n]``, n >= k, to the front; return the greatest of them."""
    left = 0
    right = n - 1
    while left < right:
        a, b, c = keys[q, left], keys[q, (left + right) // 2], keys[q, right]
        pivot = max(min(a, b), min(max(a, b), c))
        i = left
        j = right
        while i <= j:
            while keys[q, i] < pivot:
                i += 1
            while keys[q, j] > pivot:
                j -= 1
            if i <= j:
                keys[q, i], keys[q, j] = keys[q, j], keys[q, i]
                i += 1
                j -= 1
        if k - 1 <= j:
            right = j
        elif k - 1 >= i:
            left = i
        else:
            break
    return keys[q, k - 1]


@numba.njit(nogil=True)
def _limit(worst: Any, row: Any, base: Any) -> Any:
    """Return what Hamming distances from ``row`` on must stay under, beside a bound ``base``."""
    tie = np.uint64(row <= (worst & np.uint64(FAR)))
    return (worst >> np.uint64(SHIFT)) + tie - base


@numba.njit(nogil=True)
def _note(
    buffer: Any,
    rows: Any,
    allowed: Any,
    first: Any,
    size: Any,
    base: Any,
    k: int,
    answer: Any,
    q: int,
) -> None:
    """Note the rows of one block that may enter the answer.

    ``buffer`` holds their distances less ``base``.
    """
    keys, found, worsts, limits = answer
    noted = found[q]
    worst = worsts[q]
    mapped = rows.shape[0] > 0
    filtered = allowed.shape[0] > 0
    limit = _limit(worst, np.uint64(rows[first]) if mapped else first, base)
    for begin in range(np.uint64(0), size, np.uint64(CHUNK)):
        end = min(begin + np.uint64(CHUNK), size)
        low = np.uint64(FAR)
        for i in range(begin, end):
            low = min(low, buffer[i])
        if low >= limit:
            continue
        for i in range(begin, end):
            if buffer[i] >= limit:
                continue
            row = np.uint64(rows[first + i]) if mapped else first + i
            key = ((buffer[i] + base) << np.uint64(SHIFT)) | row
            if key >= worst or (filtered and not allowed[row]):
                continue
            keys[q, noted] = key
            noted += 1
            if noted == keys.shape[1] and noted > k:
                worst = _keep(keys, q, noted, k)
                noted = k
                limit = _limit(worst, row, base)
    found[q] = noted
    worsts[q] = worst
    limits[q] = worst >> np.uint64(SHIFT)


@numba.njit(nogil=True)
def _sweep(
    planes: Any, rows: Any, start: Any, stop: Any, queries: Any, k: int, answer: Any, buffer: Any
) -> None:
    """Note the rows of a range, all of them allowed and beyond those seen before."""
    everything = np.empty(0, np.uint8)
    block = _block_rows(planes.shape[0])
    first, q = _seek(planes, start, stop, queries, 0, answer[3], buffer)
    while first < stop:
        size = min(block, stop - first)
        _fill(planes, planes.shape[0], first, size, queries, q, buffer)
        _note(buffer, rows, everything, first, size, np.uint64(0), k, answer, q)
        first, q = _seek(planes, first, stop, queries, q + 1, answer[3], buffer)


@numba.njit(nogil=True)
def _sweep_packed(
    planes: Any, start: Any, stop: Any, queries: Any, allowed: Any, k: int, answer: Any, buffer: Any
) -> None:
    """Gather the allowed rows block by block, once for many queries, and note those."""
    block = _block_rows(planes.shape[0])
    packed = np.empty((planes.shape[0], block), np.uint64)
    rows = np.empty(block + np.uint64(1), np.uint32)
    for first in range(start, stop, block):
        n = np.uint64(0)
        for i in range(first, min(first + block, stop)):
            rows[n] = i
            n += np.uint64(allowed[i])
        for w in range(planes.shape[0]):
            for i in range(n):
                packed[w, i] = planes[w, rows[i]]
        _sweep(packed, rows, np.uint64(0), n, queries, k, answer, buffer)


@numba.njit(nogil=True)
def _sweep_allowed(
    planes: Any, start: Any, stop: Any, query: Any, allowed: Any, k: int, answer: Any, buffer: Any
) -> None:
    """Note the allowed rows of a range for one query.

    The filter is looked at where a block has near rows; and at once for some blocks after one in
    which it hid them all.
    """
    limit = answer[3]
    rows = np.empty(0, np.uint32)
    everything = np.empty(0, np.uint8)
    block = _block_rows(planes.shape[0])
    wary = False
    first = start
    while first < stop:
        if wary:
            end = min(stop, first + np.uint64(WARY) * block)
            first = _seek_allowed(planes, first, end, query, allowed, limit, buffer)
            wary = first < end
            if not wary:
                continue
        else:
            first, _ = _seek(planes, first, stop, query, 0, limit, buffer)
        size = min(block, stop - first)
        _fill(planes, planes.shape[0], first, size, query, 0, buffer)
        low = np.uint64(FAR)
        for i in range(size):
            buffer[i] = buffer[i] if allowed[first + i] else np.uint64(FAR)
            low = min(low, buffer[i])
        if low < limit[0]:
            _note(buffer, rows, everything, first, size, np.uint64(0), k, answer, 0)
        else:
            wary = True
        first += block


@numba.njit(nogil=True)
def _start(keys: Any, found: Any) -> Any:
    """Return an empty answer."""
    found[:] = 0
    worst = np.full(found.shape[0], np.uint64(NOTHING))
    return keys, found, worst, worst >> np.uint64(SHIFT)


@numba.njit(nogil=True)
def _finish(k: int, answer: Any) -> None:
    """Leave no more than the k least keys of every query."""
    keys, found, _, _ = answer
    for q in range(found.shape[0]):
        if found[q] > k:
            _keep(keys, q, found[q], k)
            found[q] = k


def scan(planes: Any, start: int, stop: int, queries: Any, k: int, keys: Any, found: Any) -> None:
    """Note the least keys of every query over a range: see ``compiled.scan``."""
    answer = _start(keys, found)
    rows = np.empty(0, np.uint32)
    buffer = np.empty(BLOCK, np.uint64)
    _sweep(planes, rows, np.uint64(start), np.uint64(stop), queries, k, answer, buffer)
    _finish(k, answer)


def scan_allowed(
    planes: Any, start: int, stop: int, queries: Any, allowed: Any, k: int, keys: Any, found: Any
) -> None:
    """Note the least keys of every query over a range: see ``compiled.scan_allowed``."""
    answer = _start(keys, found)
    buffer = np.empty(BLOCK, np.uint64)
    first, end = np.uint64(start), np.uint64(stop)
    if queries.shape[0] > 1:
        _sweep_packed(planes, first, end, queries, allowed, k, answer, buffer)
    else:
        _sweep_allowed(planes, first, end, queries, allowed, k, answer, buffer)
    _finish(k, answer)


@numba.njit(nogil=True)
def _visit_ring(
    planes: Any,
    rows: Any,
    first: Any,
    stop: Any,
    query: Any,
    allowed: Any,
    base: Any,
    k: int,
    answer: Any,
    buffer: Any,
) -> None:
    """Note the rows of one ring, whose distances are ``base`` more than those of the codes."""
    keys, found, worst, limit = answer
    block = _block_rows(planes.shape[0])
    before = found[0]
    while first < stop:
        row = np.uint64(rows[first]) if rows.shape[0] > 0 else first
        limit[0] = _limit(worst[0], row, base)
        first, _ = _seek(planes, first, stop, query, 0, limit, buffer)
        if first < stop:
            size = min(block, stop - first)
            _fill(planes, planes.shape[0], first, size, query, 0, buffer)
            _note(buffer, rows, allowed, first, size, base, k, answer, 0)
            first += block
    if found[0] != before and found[0] >= k:
        worst[0] = _keep(keys, 0, found[0], k)
        found[0] = k


def visit(
    planes: Any,
    rows: Any,
    edges: Any,
    radii: Any,
    firsts: Any,
    centers: Any,
    order: Any,
    bounds: Any,
    query: Any,
    allowed: Any,
    part: int,
    n_parts: int,
    k: int,
    keys: Any,
    found: Any,
) -> Any:
    """Note the least keys of one query, group by group: see ``compiled.visit``."""
    answer = _start(keys, found)
    worst = answer[2]
    buffer = np.empty(BLOCK, np.uint64)
    visited = 0
    for group, base in zip(order, bounds):  # noqa: B905 - the compiler knows no strict
        if base > worst[0] >> np.uint64(SHIFT):
            break
        distance = 0
        for w in range(planes.shape[0]):
            distance += np.int64(_popcount(centers[w, group] ^ query[0, w]))
        # From the ring at the query's own distance to the center outwards.
        low, high = firsts[group], firsts[group + 1]
        outer = low
        while outer < high and radii[outer] < distance:
            outer += 1
        inner = outer - 1
        while inner >= low or outer < high:
            if outer == high or (
                inner >= low and distance - radii[inner] <= radii[outer] - distance
            ):
                ring = inner
                inner -= 1
            else:
                ring = outer
                outer += 1
            gap = 0 if radii[ring] < 0 else abs(distance - radii[ring])
            if base + np.uint64(gap) > worst[0] >> np.uint64(SHIFT):
                break
            begin = edges[ring]
            size = edges[ring + 1] - begin
            first = np.uint64(begin + size * part // n_parts)
            stop = np.uint64(begin + size * (part + 1) // n_parts)
            visited += np.int64(stop - first)
            _visit_ring(planes, rows, first, stop, query, allowed, base, k, answer, buffer)
    return visited


def dots(rows: Any, start: int, stop: int, query: Any, out: Any) -> None:
    """Write the dot products of a range of rows with a query: see ``compiled.dots``."""
    for i in range(start, stop):
        total = np.float32(0)
        for j in range(query.shape[0]):
            total += rows[i, j] * query[j]
        out[i] = total


def pairwise_distances(
    rows: Any, picked: Any, start: int, stop: int, query: Any, edges: Any, joins: Any, out: Any
) -> None:
    """Write exact distances to a range of the picked rows: see ``compiled.pairwise_distances``."""
    stack = np.empty(64, np.float64)
    for i in range(start, stop):
        row, top = picked[i], 0
        for b in range(joins.shape[0]):
            first, last = edges[b], edges[b + 1]
            whole = first + (last - first) // 8 * 8
            s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
            for j in range(first, whole, 8):
                s0 += np.float64(rows[row, j]) * query[j]
                s1 += np.float64(rows[row, j + 1]) * query[j + 1]
                s2 += np.float64(rows[row, j + 2]) * query[j + 2]
                s3 += np.float64(rows[row, j + 3]) * query[j + 3]
                s4 += np.float64(rows[row, j + 4]) * query[j + 4]
                s5 += np.float64(rows[row, j + 5]) * query[j + 5]
                s6 += np.float64(rows[row, j + 6]) * query[j + 6]
                s7 += np.float64(rows[row, j + 7]) * query[j + 7]
            total = ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))
            for j in range(whole, last):
                total += np.float64(rows[row, j]) * query[j]
            for _ in range(joins[b]):
                top -= 1
                total = stack[top] + total
            stack[top] = total
            top += 1
        out[i] = 1 - stack[0]


def region_scores(
    rows: Any, start: int, stop: int, query: Any, offset: float, lengths: Any, out: Any
) -> None:
    """Write the best score of the regions of a range of rows: see ``compiled.region_scores``."""
    dim = query.shape[0]
    for i in range(start, stop):
        best = -np.inf
        for part in range(lengths.shape[1]):
            first = part * dim
            product = np.int32(0)
            square = np.int32(0)
            for j in range(dim):
                value = np.int32(rows[i, first + j])
                product += value * np.int32(query[j])
                square += value * value
            cosine = product / np.sqrt(np.float64(max(square, np.int32(1))))
            best = max(best, (cosine - offset) / np.float64(lengths[i, part]))
        out[i] = best
