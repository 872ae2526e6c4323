"""Exact nearest codes by Hamming distance, in the order (distance, row)."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from landcue.codes.packing import check_codes, to_words
from landcue.codes.topk import check_k, check_mask, smallest
from landcue.errors import UsageError
from landcue.types import ByteArray

MAX_BITS = 65_534
Engine = Literal["auto", "numba", "numpy"]

# Below this many compared words a second thread costs more than it saves.
_WORDS_PER_THREAD = 4_000_000
_QUERIES_PER_PASS = 64
_NOTES_PER_PASS = 4_000_000


class CodeIndex:
    """Packed codes, ready to be searched exactly.

    The codes are kept word by word, uint64 ``[W, n]`` with ``W = ceil(n_bits / 64)``. Codes of
    64 bits are shared with the caller, not copied: do not change them afterwards.

    Attributes:
        n_bits: Bits of a code.
        engine: ``numba`` (compiled) or ``numpy``; both give the same answers.
    """

    def __init__(
        self,
        codes: ByteArray,
        n_bits: int,
        *,
        engine: Engine = "auto",
        threads: int | None = None,
    ) -> None:
        """Check and lay out the codes.

        Args:
            codes: uint8 ``[n, ceil(n_bits / 8)]``, bit 0 = least significant bit of byte 0.
            n_bits: 1..65534.
            engine: ``auto`` takes numba if it is installed and ``LANDCUE_NUMBA`` is not ``0``.
            threads: Threads for large searches; by default the cores this process may use.

        Raises:
            UsageError: The codes do not fit ``n_bits``, or numba was asked for and is missing.
        """
        if not 1 <= n_bits <= MAX_BITS:
            raise UsageError(f"codes of {n_bits} bits cannot be searched: need 1 to {MAX_BITS}")
        check_codes(codes, n_bits)
        self.n_bits = n_bits
        self._planes = _frozen(to_words(codes))
        self._kernel = _load_kernel(engine)
        self.engine: Literal["numba", "numpy"] = "numpy" if self._kernel is None else "numba"
        self._threads = threads or _usable_cores()

    def __len__(self) -> int:
        return int(self._planes.shape[1])

    def search(
        self, queries: ByteArray, k: int, mask: npt.NDArray[np.bool_] | None = None
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Return the k nearest codes of every query, ordered by (distance, row).

        Args:
            queries: uint8 ``[q, ceil(n_bits / 8)]``.
            k: Hits per query, at least 1.
            mask: bool ``[n]``, true for the rows that may be found; all without it.

        Returns:
            Distances int32 and rows int64, both ``[q, k']`` with k' = k, or the number of
            allowed rows if that is less.

        Raises:
            UsageError: The queries are not codes of ``n_bits`` bits, ``k`` is less than 1, or the
                mask is not one bool per code.
        """
        check_codes(queries, self.n_bits, "query codes")
        n_allowed = check_mask(mask, len(self))
        k = min(check_k(k), n_allowed)
        distances = np.empty((len(queries), k), np.int32)
        rows = np.empty((len(queries), k), np.int64)
        if not distances.size:
            return distances, rows
        words = _frozen(to_words(queries).T)
        planes, kept = self._planes, None
        if mask is not None and 4 * n_allowed < len(self):
            kept = np.flatnonzero(mask)
            planes, mask = _frozen(np.take(planes, kept, axis=1)), None
        if self._kernel is None:
            _search_numpy(planes, words, mask, distances, rows)
        else:
            allowed = np.empty(0, np.bool_) if mask is None else mask
            self._search_numba(self._kernel, planes, words, _frozen(allowed), distances, rows)
        return distances, rows if kept is None else kept[rows]

    def _search_numba(
        self,
        kernel: Callable[..., int],
        planes: npt.NDArray[np.uint64],
        words: npt.NDArray[np.uint64],
        allowed: npt.NDArray[np.bool_],
        distances: npt.NDArray[np.int32],
        rows: npt.NDArray[np.int64],
    ) -> None:
        """Fill ``distances`` and ``rows``, over threads where the work is worth it."""
        n_query, k = distances.shape
        n = planes.shape[1]
        threads = max(1, min(self._threads, planes.size * n_query // _WORDS_PER_THREAD))
        if n_query < threads:
            self._search_row_parts(kernel, threads, planes, words, allowed, distances, rows)
            return
        # Every query of a pass notes up to k rows per distance: bound the memory of a pass.
        notes = min(n, k * (self.n_bits + 1))
        size = min(_QUERIES_PER_PASS, -(-n_query // threads), max(1, _NOTES_PER_PASS // notes))

        def run(first: int) -> None:
            part = slice(first, first + size)
            kernel(planes, 0, n, words[part], allowed, self.n_bits, distances[part], rows[part])

        _for_each(run, range(0, n_query, size), threads)

    def _search_row_parts(
        self,
        kernel: Callable[..., int],
        n_parts: int,
        planes: npt.NDArray[np.uint64],
        words: npt.NDArray[np.uint64],
        allowed: npt.NDArray[np.bool_],
        distances: npt.NDArray[np.int32],
        rows: npt.NDArray[np.int64],
    ) -> None:
        """Search ranges of rows side by side, then merge their answers."""
        shape = (n_parts, *distances.shape)
        part_distances, part_rows = np.empty(shape, np.int32), np.empty(shape, np.int64)
        edges = np.linspace(0, planes.shape[1], n_parts + 1).astype(np.int64).tolist()
        found = [0] * n_parts

        def run(p: int) -> None:
            outputs = part_distances[p], part_rows[p]
            found[p] = kernel(planes, edges[p], edges[p + 1], words, allowed, self.n_bits, *outputs)

        _for_each(run, range(n_parts), n_parts)
        # Parts follow one another in row order, so a stable sort keeps the lowest row first.
        filled = [(part_distances[p, :, :f], part_rows[p, :, :f]) for p, f in enumerate(found)]
        merged = np.concatenate([d for d, _ in filled], axis=1)
        order = np.argsort(merged, axis=1, kind="stable")[:, : distances.shape[1]]
        distances[:] = np.take_along_axis(merged, order, axis=1)
        rows[:] = np.take_along_axis(np.concatenate([r for _, r in filled], axis=1), order, axis=1)


def hamming_distances(queries: ByteArray, codes: ByteArray) -> npt.NDArray[np.uint16]:
    """Return all distances uint16 ``[q, n]`` between packed ``[q, B]`` and ``[n, B]`` codes.

    Raises:
        UsageError: The two are not packed codes of one width.
    """
    if codes.ndim != 2:
        raise UsageError(f"codes have shape {list(codes.shape)}: give [n, bytes]")
    n_bits = codes.shape[1] * 8
    check_codes(codes, n_bits)
    check_codes(queries, n_bits, "query codes")
    planes, words = to_words(codes), to_words(queries).T
    distances = np.empty((len(queries), len(codes)), np.uint16)
    for row, query in zip(distances, words, strict=True):
        row[:] = plane_distances(planes, query)
    return distances


def plane_distances(
    planes: npt.NDArray[np.uint64], query: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint16]:
    """Return the distances uint16 ``[n]`` of one query ``[W]`` to ``[W, n]``."""
    total = np.zeros(planes.shape[1], np.uint16)
    for plane, word in zip(planes, query, strict=True):
        total += np.bitwise_count(plane ^ word)
    return total


def _search_numpy(
    planes: npt.NDArray[np.uint64],
    words: npt.NDArray[np.uint64],
    mask: npt.NDArray[np.bool_] | None,
    distances: npt.NDArray[np.int32],
    rows: npt.NDArray[np.int64],
) -> None:
    """Fill ``distances`` and ``rows`` ``[q, k]`` without numba."""
    hidden = None if mask is None else ~mask
    for q, query in enumerate(words):
        found = plane_distances(planes, query)
        if hidden is not None:
            found[hidden] = MAX_BITS + 1
        rows[q] = smallest(found, rows.shape[1])
        distances[q] = found[rows[q]]


def _for_each(run: Callable[[int], None], items: range, threads: int) -> None:
    """Call ``run`` for every item, side by side if more than one thread is asked for."""
    if threads == 1 or len(items) == 1:
        for item in items:
            run(item)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, items))


def _load_kernel(engine: Engine) -> Any | None:
    """Return the compiled scan, or ``None`` where NumPy must do."""
    if engine not in ("auto", "numba", "numpy"):
        raise UsageError(f"unknown search engine {engine!r}: give 'auto', 'numba' or 'numpy'")
    if engine == "numpy" or (engine == "auto" and os.environ.get("LANDCUE_NUMBA") == "0"):
        return None
    try:
        from landcue.codes import kernel

        if kernel.usable():
            return kernel.compiled()
    except ImportError:
        pass
    if engine == "numba":
        raise UsageError("numba is missing or disabled: install numba, or use engine='numpy'")
    return None


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a contiguous, read-only view: the one array type the kernel is compiled for."""
    view = np.require(array, requirements=["C", "A", "E"]).view()
    view.flags.writeable = False
    return view


def _usable_cores() -> int:
    """Return the cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
