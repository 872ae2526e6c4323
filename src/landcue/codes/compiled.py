"""The scans of :mod:`landcue.codes.kernel`, compiled for the types they are called with.

The compiler runs once for each and takes seconds; from then on numba's cache folder holds them.
Arrays are C-contiguous, and where it says so read-only.
"""

from __future__ import annotations

import functools
from typing import Any

import numba
from numba import types
from numba.core import config

from landcue.codes import kernel

_PLANES = types.Array(types.uint64, 2, "C", readonly=True)
_ALLOWED = types.Array(types.uint8, 1, "C", readonly=True)
_ROWS = types.Array(types.uint32, 1, "C", readonly=True)
_NUMBERS = types.Array(types.int64, 1, "C", readonly=True)
_BOUNDS = types.Array(types.uint64, 1, "C", readonly=True)
_KEYS = types.uint64[:, ::1]
_FOUND = types.int64[::1]


def usable() -> bool:
    """Return whether numba may compile here (``NUMBA_DISABLE_JIT`` is not set)."""
    return not config.DISABLE_JIT  # pyright: ignore[reportAttributeAccessIssue]


@functools.cache
def scan() -> Any:
    """Compile the flat scan, or load it from numba's cache: seconds once, then milliseconds.

    The returned function holds no lock while it runs and takes

    * ``planes`` uint64 ``[W, n]``, read-only, and the range ``start``, ``stop`` of its rows;
    * ``queries`` uint64 ``[q, W]``, read-only;
    * ``k`` of at least 1;
    * ``keys`` uint64 ``[q, c]`` with c > k, or c >= stop - start, whose first columns it fills, in
      no order, and ``found`` int64 ``[q]``, how many of them: k, or all rows of the range.
    """
    rows = types.int64, types.int64
    return _compiled(kernel.scan, types.void(_PLANES, *rows, _PLANES, types.int64, _KEYS, _FOUND))


@functools.cache
def scan_allowed() -> Any:
    """Compile the flat scan behind a filter, or load it from numba's cache.

    The returned function takes what that of :func:`scan` does and, after the queries, ``allowed``
    uint8 ``[n]`` of 0 and 1, read-only. More than one query pays from about eight on: they share
    the gathering of the allowed rows.
    """
    rows = types.int64, types.int64
    return _compiled(
        kernel.scan_allowed,
        types.void(_PLANES, *rows, _PLANES, _ALLOWED, types.int64, _KEYS, _FOUND),
    )


@functools.cache
def visit() -> Any:
    """Compile the scan of groups, or load it from numba's cache.

    The returned function holds no lock while it runs and takes

    * ``planes`` uint64 ``[W, n]``, read-only, ring after ring;
    * ``rows``, ``edges``, ``radii``, ``firsts`` and ``centers`` of
      :class:`landcue.codes.groups.Rings`, read-only;
    * ``order`` int64 ``[G]``: groups in the order of their ``bounds`` uint64 ``[G]``, ascending;
      a row's distance is its group's bound plus the Hamming distance;
    * ``query`` uint64 ``[1, W]``, read-only;
    * ``allowed`` uint8 ``[n]`` by row, read-only, or ``[0]`` when every row is;
    * ``part`` of ``n_parts``: which share of every ring is looked at;
    * ``k``, ``keys`` and ``found`` as :func:`scan` does, for one query,

    and returns how many records it visited.
    """
    rings = _ROWS, _NUMBERS, _NUMBERS, _NUMBERS, _PLANES
    numbers = types.int64, types.int64, types.int64
    signature = types.int64(
        _PLANES, *rings, _NUMBERS, _BOUNDS, _PLANES, _ALLOWED, *numbers, _KEYS, _FOUND
    )
    return _compiled(kernel.visit, signature)


@functools.cache
def dots() -> Any:
    """Compile the dot products of many rows with one query, or load them from numba's cache.

    The returned function holds no lock while it runs and takes ``rows`` float32 ``[n, d]``,
    read-only, the range ``start``, ``stop`` of them, ``query`` float32 ``[d]``, read-only, and
    ``out`` float32 ``[n]``, of which it fills that range. It sums in any order.
    """
    rows = types.Array(types.float32, 2, "C", readonly=True)
    query = types.Array(types.float32, 1, "C", readonly=True)
    signature = types.void(rows, types.int64, types.int64, query, types.float32[::1])
    return _compiled(kernel.dots, signature, fastmath={"reassoc", "contract"})


@functools.cache
def pairwise_distances() -> Any:
    """Compile the exact distances of some rows to one query, or load them from numba's cache.

    The returned function holds no lock while it runs and takes ``rows`` float32 ``[n, d]``,
    read-only, ``picked`` int64 ``[m]``, the range ``start``, ``stop`` of it, ``query`` float64
    ``[d]``, and ``out`` float32 ``[m]``, of which it fills that range with 1 - dot product. It sums
    in float64 and in the order in which NumPy sums a row: blocks from ``edges`` int64 ``[B + 1]``,
    after each of which the last ``joins`` int64 ``[B]`` sums are added up.
    """
    rows = types.Array(types.float32, 2, "C", readonly=True)
    some, part = types.int64[::1], (types.int64, types.int64)
    query, out = types.float64[::1], types.float32[::1]
    signature = types.void(rows, some, *part, query, some, some, out)
    return _compiled(kernel.pairwise_distances, signature)


@functools.cache
def region_scores() -> Any:
    """Compile the scan of regions, or load it from numba's cache.

    The returned function holds no lock while it runs and takes ``rows`` int8 ``[n, R * d]``,
    read-only, the range ``start``, ``stop`` of them, ``query`` int16 ``[d]``, read-only, of which
    no sum of products exceeds 32 bits, ``offset``, ``lengths`` float32 ``[n, R]``, read-only, and
    ``out`` float64 ``[n]``, of which it fills that range with the largest of (product of the query
    and a region over the norm of the region - offset) / length.
    """
    rows = types.Array(types.int8, 2, "C", readonly=True)
    query = types.Array(types.int16, 1, "C", readonly=True)
    lengths = types.Array(types.float32, 2, "C", readonly=True)
    out = types.float64[::1]
    signature = types.void(rows, types.int64, types.int64, query, types.float64, lengths, out)
    return _compiled(kernel.region_scores, signature)


def _compiled(function: Any, signature: Any, **options: Any) -> Any:
    options["nogil"] = True
    try:
        return numba.njit(signature, cache=True, **options)(function)
    except Exception:  # no writable cache folder, or a broken one: compile for this process only
        return numba.njit(signature, **options)(function)
