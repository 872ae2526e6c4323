"""Exact nearest codes by Hamming distance, in the order (distance, row)."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np
import numpy.typing as npt

from landcue.codes import codefile
from landcue.codes.codefile import want_large_pages
from landcue.codes.engine import (
    Engine,
    buffer_size,
    check_k,
    check_mask,
    check_mask_shape,
    check_size,
    check_threads,
    for_each,
    frozen,
    load_compiled,
    merge,
    smallest,
    to_answer,
)
from landcue.codes.packing import check_codes, to_words
from landcue.errors import UsageError
from landcue.types import ByteArray

MAX_BITS = 65_534
_KIND = "hamming"

WORDS_PER_THREAD = 4_000_000
"""Compared words below which a second thread costs more than it saves."""
_PARTS_PER_THREAD = 4  # so that a busy core does not hold up the others
_QUERIES_PER_PASS = 64
_KEYS_PER_PASS = 4_000_000
_NO_KEYS = np.empty((0, 0), np.uint64)
_PACK = 8  # queries from which on it pays to gather the rows that a filter allows


class CodeIndex:
    """Packed codes, ready to be searched exactly.

    The codes are kept word by word, uint64 ``[W, n]`` with ``W = ceil(n_bits / 64)``. Codes of
    64 bits are shared with the caller, not copied, in memory or in a memory map: do not change
    them afterwards.

    Attributes:
        n_bits: Bits of a code.
        engine: ``numba`` (compiled) or ``numpy``; both give the same answers.

    >>> index = CodeIndex(np.array([[0], [3], [7]], np.uint8), n_bits=3)
    >>> index.search(np.array([[6]], np.uint8), k=2)[1].tolist()
    [[2, 0]]
    """

    n_bits: int
    engine: Literal["numba", "numpy"]

    def __init__(
        self,
        codes: ByteArray,
        n_bits: int,
        *,
        engine: Engine = "auto",
        threads: int | None = None,
        words_per_thread: int = WORDS_PER_THREAD,
    ) -> None:
        """Check and lay out the codes.

        Args:
            codes: uint8 ``[n, ceil(n_bits / 8)]``, bit 0 = least significant bit of byte 0.
            n_bits: 1..65534.
            engine: ``auto`` takes numba if it is installed and ``LANDCUE_NUMBA`` is not ``0``.
            threads: Threads for large searches; by default the cores this process may use.
            words_per_thread: Compared words (64 bits) from which on a search takes another thread.

        Raises:
            UsageError: The codes do not fit ``n_bits``, they are more than 4,294,967,295, or
                numba was requested and is missing.
        """
        if not 1 <= n_bits <= MAX_BITS:
            raise UsageError(f"codes of {n_bits} bits cannot be searched: need 1 to {MAX_BITS}")
        check_codes(codes, n_bits)
        check_size(len(codes))
        self._set(to_words(codes), n_bits, engine, threads)
        self._words_per_thread = words_per_thread

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        engine: Engine = "auto",
        threads: int | None = None,
        in_memory: bool = False,
        verify: bool = False,
    ) -> CodeIndex:
        """Open what :meth:`save` wrote as a memory map: at once, and shared between processes.

        Args:
            path: The file.
            engine: As for a new index.
            threads: As for a new index.
            in_memory: Read the codes into memory of this process, where scans are a little faster.
            verify: Read everything and compare the checksums.

        Raises:
            ArchiveError: The file is missing, cut off, damaged, or no such index.
            UsageError: ``engine`` or ``threads`` is not valid.
        """
        path = Path(path)
        stored = codefile.read(path, _KIND, in_memory=in_memory, verify=verify)
        index = cls.__new__(cls)
        index._set(stored.array("words", np.uint64, 2), stored.fact("n_bits"), engine, threads)
        return index

    def save(self, path: str | Path) -> None:
        """Write the index to one file, which is replaced whole or not at all.

        Raises:
            LandcueError: The file cannot be written.
        """
        path = Path(path)
        facts = {"n_bits": self.n_bits, "count": len(self)}
        codefile.write(path, _KIND, facts, {"words": self._planes})

    def _set(
        self, planes: npt.NDArray[np.uint64], n_bits: int, engine: Engine, threads: int | None
    ) -> None:
        self.n_bits = n_bits
        want_large_pages(planes)
        self._planes = frozen(planes)
        self._threads, self._words_per_thread = check_threads(threads), WORDS_PER_THREAD
        self._compiled = load_compiled(engine)
        self.engine = "numpy" if self._compiled is None else "numba"

    def __len__(self) -> int:
        return int(self._planes.shape[1])

    def search(
        self, queries: ByteArray, k: int, mask: npt.NDArray[np.bool_] | None = None
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Return the k nearest codes of every query, ordered by (distance, row).

        Args:
            queries: uint8 ``[q, ceil(n_bits / 8)]``.
            k: Hits per query, at least 1.
            mask: bool ``[n]``, true for the rows that are searched; all without it.

        Returns:
            Distances int32 and rows int64, both ``[q, k']`` with k' = k, or the number of
            allowed rows if that is less.

        Raises:
            UsageError: The queries are not codes of ``n_bits`` bits, ``k`` is less than 1, or the
                mask is not one bool per code.
        """
        check_codes(queries, self.n_bits, "query codes")
        check_mask_shape(mask, len(self))
        k = min(check_k(k), len(self))
        if self._compiled is not None and k and len(queries):
            words = frozen(to_words(queries).T)
            return to_answer(self._nearest_keys(self._compiled, words, k, mask))
        k = min(k, check_mask(mask, len(self)))
        distances = np.empty((len(queries), k), np.int32)
        rows = np.empty((len(queries), k), np.int64)
        if distances.size:
            _search_numpy(self._planes, to_words(queries).T, mask, distances, rows)
        return distances, rows

    def _nearest_keys(
        self,
        compiled: ModuleType,
        words: npt.NDArray[np.uint64],
        k: int,
        mask: npt.NDArray[np.bool_] | None,
    ) -> npt.NDArray[np.uint64]:
        """Return the k least keys of every query ``[q, k']``, unsorted."""
        planes, n, n_query = self._planes, len(self), len(words)
        allowed = None if mask is None else frozen(mask.view(np.uint8))
        # Many rows are shared out between threads, and a batch over few rows by its queries.
        share = planes.size // (self._words_per_thread * self._threads)
        n_parts = self._threads * min(_PARTS_PER_THREAD, share) if share else 1
        threads = max(1, min(self._threads, planes.size * n_query // self._words_per_thread))
        size = min(_QUERIES_PER_PASS, max(1, _KEYS_PER_PASS // buffer_size(k, n)))
        size = size if share else min(size, -(-n_query // threads))
        n_passes = -(-n_query // size)
        if n_passes * n_parts == 1:
            return _scan(compiled, planes, 0, n, words, k, allowed)
        found = [[_NO_KEYS] * n_parts for _ in range(n_passes)]

        def run(item: int) -> None:
            number, part = divmod(item, n_parts)
            queries = words[number * size : (number + 1) * size]
            start, stop = n * part // n_parts, n * (part + 1) // n_parts
            found[number][part] = _scan(compiled, planes, start, stop, queries, k, allowed)

        for_each(run, n_passes * n_parts, threads)
        return np.concatenate([merge(parts, k) for parts in found])


def _scan(
    compiled: ModuleType,
    planes: npt.NDArray[np.uint64],
    start: int,
    stop: int,
    words: npt.NDArray[np.uint64],
    k: int,
    allowed: npt.NDArray[np.uint8] | None,
) -> npt.NDArray[np.uint64]:
    """Return the k least keys of every query in a range of rows ``[q, k']``, unsorted."""
    keys = np.empty((len(words), buffer_size(k, stop - start)), np.uint64)
    found = np.empty(len(words), np.int64)
    if allowed is None:
        compiled.scan()(planes, start, stop, words, k, keys, found)
    else:
        step = len(words) if len(words) >= _PACK else 1
        for q in range(0, len(words), step):
            at = slice(q, q + step)
            compiled.scan_allowed()(planes, start, stop, words[at], allowed, k, keys[at], found[at])
    return keys[:, : found[0]]  # every query finds as many


def hamming_distances(queries: ByteArray, codes: ByteArray) -> npt.NDArray[np.uint16]:
    """Return all distances uint16 ``[q, n]`` between packed ``[q, B]`` and ``[n, B]`` codes.

    Raises:
        UsageError: The two are not packed codes of one width.

    >>> codes = np.array([[0], [3], [7]], np.uint8)
    >>> hamming_distances(codes[:1], codes).tolist()
    [[0, 2, 3]]
    """
    if codes.ndim != 2:
        raise UsageError(f"codes have shape {list(codes.shape)}: pass [n, bytes]")
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
