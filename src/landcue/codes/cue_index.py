"""Exact search over semantic-cue codes that skips the records that are too far by their labels.

Records are grouped by label code, and large groups into rings: records whose hash codes have the
same distance, the radius, to a center of the group. The distance of a record x of group g is

    d(x) = weight * Hamming(label codes) + Hamming(hash codes) >= weight * Hamming(label codes),

where the right side, the bound b(g), is the same for the whole group. By the triangle inequality,
Hamming(hash codes) is at least the difference between the radius of x's ring and the query's own
distance to the center; with that added, b(r) <= d(x) is a bound of the ring. Groups are visited in
the order of b(g), and the rings of a group in that of b(r). Let t be the k-th least distance among
the allowed records visited so far. The search leaves a group at its first ring with b(r) > t, and
stops at the first group with b(g) > t.

The answer equals that of a full scan. Let x be a record that was not visited. Its ring or group was
left out by a bound above t, and so are the bounds of those that would have followed: so d(x) > t,
and at least k allowed records are strictly nearer than x. As t never rises, this holds to the end,
and x is not among the k first in the order (distance, row), whatever its row. A bound equal to t
does not stop the search, because a record with d(x) = t and a lower row than the k-th may follow.
Among visited records the k least of (distance, row) are kept, so order and ties are those of the
full scan too. Where threads share the work, each takes its share of every ring and stops by its own
t, which makes it exact for the records of its share; and the k least of all shares' answers are the
k least of all.

Little is skipped where labels and hash codes say little: a small weight, or hash codes that have
nothing to do with labels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from landcue.codes import codefile
from landcue.codes.cue import CueCodes
from landcue.codes.engine import (
    ROW_BITS,
    Engine,
    buffer_size,
    check_k,
    check_mask_shape,
    check_size,
    check_threads,
    for_each,
    frozen,
    load_compiled,
    merge,
    to_answer,
    to_keys,
)
from landcue.codes.groups import (
    SPLIT_FROM,
    LabelGroups,
    Rings,
    group_by_label,
    split_groups,
    whole_groups,
)
from landcue.codes.hamming import WORDS_PER_THREAD, plane_distances
from landcue.codes.packing import check_codes, code_width, to_words
from landcue.errors import UsageError
from landcue.types import ByteArray

_KIND = "cue"


class CueIndex:
    """Semantic-cue codes grouped by label code, ready to be searched exactly under any weight.

    The distance is ``weight * Hamming(label codes) + Hamming(hash codes)``: weight 1 is the Hamming
    distance of the joined code, 0 looks at hash codes alone, and more than K orders by label
    distance first. The index holds the hash codes ring by ring, the row of each (4 bytes), and
    the distinct label codes.

    Attributes:
        engine: ``numba`` (compiled) or ``numpy``; both give the same answers.

    >>> labels, hashes = np.array([[[0], [1], [0]], [[0], [0], [3]]], np.uint8)
    >>> codes = CueCodes(labels, hashes, 1, 8)
    >>> CueIndex(codes).search(codes.take(slice(0, 1)), 3, weight=5)[1].tolist()
    [[0, 2, 1]]
    """

    engine: Literal["numba", "numpy"]

    def __init__(
        self,
        codes: CueCodes,
        *,
        engine: Engine = "auto",
        threads: int | None = None,
        split_from: int = SPLIT_FROM,
        words_per_thread: int = WORDS_PER_THREAD,
    ) -> None:
        """Group the codes.

        Args:
            codes: Of at most 4,294,967,295 records.
            engine: ``auto`` takes numba if it is installed and ``LANDCUE_NUMBA`` is not ``0``.
            threads: Threads for large searches; by default the cores this process may use.
            split_from: Records from which on a group is split into rings.
            words_per_thread: Compared words (64 bits) from which on a search takes another thread.

        Raises:
            UsageError: There are too many codes, or numba was requested and is missing.
        """
        check_size(len(codes))
        groups = group_by_label(codes.label, codes.n_label_bits)
        rings, planes = split_groups(groups, to_words(codes.hash), split_from=split_from)
        bits = codes.n_label_bits, codes.n_hash_bits
        self._set(groups.labels, rings, planes, bits, engine, threads)
        self._words_per_thread = words_per_thread

    @classmethod
    def from_groups(
        cls,
        groups: LabelGroups,
        hash_codes: ByteArray,
        n_hash_bits: int,
        *,
        reorder: bool = False,
        engine: Engine = "auto",
        threads: int | None = None,
        split_from: int = SPLIT_FROM,
    ) -> CueIndex:
        """Take records as they are grouped, without row numbers.

        Hash codes of 64 bits are shared with the caller, not copied: do not change them afterwards.

        Args:
            groups: Of n records, which come group by group.
            hash_codes: Packed uint8 ``[n, ceil(K / 8)]``, by position.
            n_hash_bits: K.
            reorder: Put the records of each group in the order of their rings, which small weights
                need to skip much; rows are then counted in this order. Shared hash codes are
                reordered where they lie. Otherwise there are no rings.
            engine: As for a new index.
            threads: As for a new index.
            split_from: As for a new index.

        Raises:
            UsageError: The hash codes do not fit the groups or ``n_hash_bits``, the groups number
                their rows, or what shall be reordered is read-only; and as above.
        """
        check_codes(hash_codes, n_hash_bits, "hash codes")
        check_size(len(groups))
        if len(hash_codes) != len(groups):
            raise UsageError(
                f"{len(hash_codes)} hash codes and groups of {len(groups)} records: pass one of "
                "each per record"
            )
        if reorder and groups.rows.size:
            raise UsageError("groups that number their rows cannot be reordered: sort the records")
        planes, bits = to_words(hash_codes), (groups.n_label_bits, n_hash_bits)
        if reorder and not planes.flags.writeable:
            raise UsageError("the hash codes are read-only: pass a copy to reorder")
        if reorder:
            rings, planes = split_groups(groups, planes, in_place=True, split_from=split_from)
        else:
            rings = whole_groups(groups, len(planes))
        index = cls.__new__(cls)
        index._set(groups.labels, rings, planes, bits, engine, threads)
        return index

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        engine: Engine = "auto",
        threads: int | None = None,
        in_memory: bool = False,
        verify: bool = False,
    ) -> CueIndex:
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
        rings = Rings(
            stored.array("rows", np.uint32, 1),
            stored.array("edges", np.int64, 1),
            stored.array("radii", np.int64, 1),
            stored.array("firsts", np.int64, 1),
            stored.array("centers", np.uint64, 2),
        )
        bits = stored.fact("n_label_bits"), stored.fact("n_hash_bits")
        labels, words = stored.array("labels", np.uint8, 2), stored.array("words", np.uint64, 2)
        index = cls.__new__(cls)
        index._set(labels, rings, words, bits, engine, threads)
        return index

    def save(self, path: str | Path) -> None:
        """Write the index to one file, which is replaced whole or not at all.

        Raises:
            LandcueError: The file cannot be written.
        """
        path = Path(path)
        bits = {"n_label_bits": self._cues.n_label_bits, "n_hash_bits": self._cues.n_hash_bits}
        arrays = {field: getattr(self._rings, field) for field in Rings.__slots__}
        arrays |= {"labels": self._cues.label, "words": self._planes}
        codefile.write(path, _KIND, {**bits, "count": len(self)}, arrays)

    def _set(
        self,
        labels: ByteArray,
        rings: Rings,
        planes: npt.NDArray[np.uint64],
        bits: tuple[int, int],
        engine: Engine,
        threads: int | None,
    ) -> None:
        # One record for each group, which says what bits queries must have.
        no_hash = np.zeros((len(labels), code_width(bits[1])), np.uint8)
        self._cues = CueCodes(labels, no_hash, *bits)
        self._label_words = to_words(labels)
        self._planes = frozen(planes)
        self._rings = Rings(*(frozen(getattr(rings, field)) for field in Rings.__slots__))
        self._threads, self._words_per_thread = check_threads(threads), WORDS_PER_THREAD
        # The compiled scan needs a word to compare, also of codes without hash bits.
        self._compiled = load_compiled(engine) if bits[1] else None
        self.engine = "numpy" if self._compiled is None else "numba"

    def __len__(self) -> int:
        return int(self._planes.shape[1])

    def search(
        self,
        queries: CueCodes,
        k: int,
        mask: npt.NDArray[np.bool_] | None = None,
        *,
        weight: int = 1,
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Return the k nearest codes of every query, ordered by (distance, row).

        Args:
            queries: q codes with as many bits as the index.
            k: Hits per query, at least 1.
            mask: bool ``[n]``, by row: true for those that are searched; all without it.
            weight: Of the label distance, 0 or more.

        Returns:
            Distances int32 and rows int64, both ``[q, k']`` with k' = k, or the number of
            allowed rows if that is less.

        Raises:
            UsageError: The queries have other bits, ``k`` is less than 1, the weight cannot be
                used, or the mask is not one bool per code.
        """
        keys, _ = self._nearest_keys(queries, k, mask, weight)
        return to_answer(keys)

    def visited(
        self,
        queries: CueCodes,
        k: int,
        mask: npt.NDArray[np.bool_] | None = None,
        *,
        weight: int = 1,
    ) -> npt.NDArray[np.int64]:
        """Return how many records :meth:`search` looks at for each query, int64 ``[q]``."""
        return self._nearest_keys(queries, k, mask, weight)[1]

    def _nearest_keys(
        self, queries: CueCodes, k: int, mask: npt.NDArray[np.bool_] | None, weight: int
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        """Return the k least keys ``[q, k']``, unsorted, and the records visited ``[q]``."""
        check_same(queries, self._cues)
        weight = check_weight(self._cues, weight)
        check_mask_shape(mask, len(self))
        k, n, n_query = min(check_k(k), len(self)), len(self), len(queries)
        if not (k and n_query):
            return np.empty((n_query, k), np.uint64), np.zeros(n_query, np.int64)
        labels, words = to_words(queries.label).T, frozen(to_words(queries.hash).T)
        compiled = self._compiled
        allowed = frozen(np.empty(0, np.uint8) if mask is None else mask.view(np.uint8))
        # Few queries over many records share every group out between threads.
        work = self._planes.size // self._words_per_thread
        n_parts = self._threads if work >= self._threads > n_query and compiled is not None else 1
        found = [[np.empty((1, 0), np.uint64)] * n_parts for _ in range(n_query)]
        visited = np.zeros((n_query, n_parts), np.int64)

        def run(item: int) -> None:
            q, part = divmod(item, n_parts)
            near = plane_distances(self._label_words, labels[q])
            order = np.argsort(near, kind="stable").astype(np.int64, copy=False)
            bounds = near[order].astype(np.uint64) * np.uint64(weight)
            if compiled is None:
                found[q][part], visited[q, part] = self._visit(order, bounds, words[q], mask, k)
                return
            keys, count = np.empty((1, buffer_size(k, n)), np.uint64), np.empty(1, np.int64)
            rings = self._rings
            visited[q, part] = compiled.visit()(
                self._planes,
                rings.rows,
                rings.edges,
                rings.radii,
                rings.firsts,
                rings.centers,
                frozen(order),
                frozen(bounds),
                words[q : q + 1],
                allowed,
                part,
                n_parts,
                k,
                keys,
                count,
            )
            found[q][part] = keys[:, : count[0]]

        threads = max(1, min(self._threads, work * n_query))
        for_each(run, n_query * n_parts, threads)
        return np.concatenate([merge(parts, k) for parts in found]), visited.sum(axis=1)

    def _visit(
        self,
        order: npt.NDArray[np.int64],
        bounds: npt.NDArray[np.uint64],
        query: npt.NDArray[np.uint64],
        mask: npt.NDArray[np.bool_] | None,
        k: int,
    ) -> tuple[npt.NDArray[np.uint64], int]:
        """Return the k least keys ``[1, k']`` of one query and the records visited, in NumPy."""
        rings = self._rings
        best, visited = np.empty(0, np.uint64), 0
        for group, bound in zip(order.tolist(), bounds.tolist(), strict=True):
            if best.size == k and bound > int(best.max()) >> ROW_BITS:
                break
            # All rings of a group at once: rows need not ascend here.
            at = slice(*rings.edges[rings.firsts[group : group + 2]].tolist())
            visited += at.stop - at.start
            rows = rings.rows[at] if rings.rows.size else np.arange(at.start, at.stop)
            distances = plane_distances(self._planes[:, at], query).astype(np.int64) + bound
            keys = to_keys(distances, rows)
            if mask is not None:
                keys = keys[mask[rows]]
            best = merge([best[None], keys[None]], k)[0]
        return best[None], visited


_FAR = np.iinfo(np.int32).max  # above every distance: marks rows that the filter hides


def cue_distances(queries: CueCodes, gallery: CueCodes, weight: int = 1) -> npt.NDArray[np.int32]:
    """Return all distances int32 ``[q, n]``.

    Raises:
        UsageError: The codes differ in bits, or the weight cannot be used.

    >>> codes = CueCodes(np.array([[0], [1]], np.uint8), np.array([[0], [3]], np.uint8), 1, 2)
    >>> cue_distances(codes, codes, weight=10).tolist()
    [[0, 12], [12, 0]]
    """
    check_same(queries, gallery)
    weight = check_weight(gallery, weight)
    planes = to_words(gallery.label), to_words(gallery.hash)
    words = to_words(queries.label).T, to_words(queries.hash).T
    out = np.empty((len(queries), len(gallery)), np.int32)
    for row, label, code in zip(out, *words, strict=True):
        row[:] = _weighted(planes, label, code, weight)
    return out


def _weighted(
    planes: tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]],
    label: npt.NDArray[np.uint64],
    code: npt.NDArray[np.uint64],
    weight: int,
) -> npt.NDArray[np.int32]:
    """Return the distances int32 ``[n]`` of one query, its words ``[W]``, to ``[W, n]``."""
    total = plane_distances(planes[0], label).astype(np.int32)
    total *= np.int32(weight)
    total += plane_distances(planes[1], code)
    return total


def check_same(queries: CueCodes, gallery: CueCodes) -> None:
    """Refuse queries of other bits than the gallery's."""
    ours = queries.n_label_bits, queries.n_hash_bits
    if ours != (gallery.n_label_bits, gallery.n_hash_bits):
        raise UsageError(
            f"query codes have {queries.bits} bits, the gallery's {gallery.bits}: "
            "encode both with the same model and codebook"
        )


def check_weight(codes: CueCodes, weight: object) -> int:
    """Return the label weight as a plain int."""
    if isinstance(weight, bool) or not isinstance(weight, int | np.integer) or weight < 0:
        raise UsageError(f"the label weight is {weight!r}: pass a whole number, 0 or more")
    if weight == 0 and codes.n_hash_bits == 0:
        raise UsageError("without hash bits a label weight of 0 compares nothing: pass 1 or more")
    most = (_FAR - 1 - codes.n_hash_bits) // max(1, codes.n_label_bits)
    if weight > most:
        raise UsageError(
            f"a label weight of {weight} is too large for {codes.bits} bits: {codes.label_first} "
            "already puts the labels first"
        )
    return int(weight)
