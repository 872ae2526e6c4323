"""Distances of semantic-cue codes, and the nearest ones.

The distance is ``weight * Hamming(label codes) + Hamming(hash codes)``: weight 1 is the Hamming
distance of the joined code, 0 looks at hash codes alone, and more than K orders by label distance
first.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from landcue.codes.cue import CueCodes
from landcue.codes.hamming import CodeIndex, plane_distances
from landcue.codes.packing import to_words
from landcue.codes.topk import check_k, check_mask, smallest
from landcue.errors import UsageError

_FAR = np.iinfo(np.int32).max  # above every distance: marks rows that the filter hides
_JOINED_BITS = 256  # up to here one scan of repeated label bits beats two scans and a sum


class CueIndex:
    """Semantic-cue codes under one weight, ready to be searched exactly."""

    def __init__(self, codes: CueCodes, weight: int = 1) -> None:
        """Check the weight and lay out the codes.

        Raises:
            UsageError: The weight is not a whole number of 0 or more, or leaves no bit to compare.
        """
        self._codes, self._weight = codes, check_weight(codes, weight)
        # All weights above K give one order, and from that of K + 1 both distances can be read.
        self._repeat = min(self._weight, codes.label_first)
        n_bits = self._repeat * codes.n_label_bits + codes.n_hash_bits
        self._index: CodeIndex | None = None
        if n_bits <= _JOINED_BITS:
            self._index = CodeIndex(codes.joined(self._repeat), n_bits)
        else:
            self._planes = to_words(codes.label), to_words(codes.hash)

    def __len__(self) -> int:
        return len(self._codes)

    def search(
        self, queries: CueCodes, k: int, mask: npt.NDArray[np.bool_] | None = None
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Return the k nearest codes of every query, ordered by (distance, row).

        Args:
            queries: q codes with as many bits as the index.
            k: Hits per query, at least 1.
            mask: bool ``[n]``, true for the rows that may be found; all without it.

        Returns:
            Distances int32 and rows int64, both ``[q, k']`` with k' = k, or the number of
            allowed rows if that is less.

        Raises:
            UsageError: The queries have other bits, ``k`` is less than 1, or the mask is not one
                bool per code.
        """
        check_same(queries, self._codes)
        k = check_k(k)
        if self._index is not None:
            distances, rows = self._index.search(queries.joined(self._repeat), k, mask)
            if self._weight > self._repeat:
                labels, hashes = np.divmod(distances, np.int32(self._repeat))
                distances = labels * np.int32(self._weight) + hashes
            return distances, rows
        k = min(k, check_mask(mask, len(self)))
        distances = np.empty((len(queries), k), np.int32)
        rows = np.empty((len(queries), k), np.int64)
        words = to_words(queries.label).T, to_words(queries.hash).T
        for q, (label, code) in enumerate(zip(*words, strict=True)):
            found = _weighted(self._planes, label, code, self._weight)
            if mask is not None:
                found[~mask] = _FAR
            rows[q] = smallest(found, k) if k else []
            distances[q] = found[rows[q]]
        return distances, rows


def search(
    queries: CueCodes, gallery: CueCodes, k: int, weight: int = 1
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Return distances and rows ``[q, min(k, n)]`` of the nearest codes: see :class:`CueIndex`.

    Raises:
        UsageError: The codes differ in bits, or ``k`` or ``weight`` cannot be used.
    """
    return CueIndex(gallery, weight).search(queries, k)


def distances(queries: CueCodes, gallery: CueCodes, weight: int = 1) -> npt.NDArray[np.int32]:
    """Return all distances int32 ``[q, n]``.

    Raises:
        UsageError: The codes differ in bits, or the weight cannot be used.
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
    """Refuse queries of other bits than the gallery's.

    Raises:
        UsageError: The label bits or the hash bits differ.
    """
    ours = queries.n_label_bits, queries.n_hash_bits
    if ours != (gallery.n_label_bits, gallery.n_hash_bits):
        raise UsageError(
            f"query codes have {queries.bits} bits, the gallery's {gallery.bits}: "
            "encode both with the same model and codebook"
        )


def check_weight(codes: CueCodes, weight: object) -> int:
    """Return the label weight as a plain int.

    Raises:
        UsageError: It is not a whole number of 0 or more, or leaves no bit to compare, or lets
            distances overflow.
    """
    if isinstance(weight, bool) or not isinstance(weight, int | np.integer) or weight < 0:
        raise UsageError(f"the label weight is {weight!r}: give a whole number, 0 or more")
    if weight == 0 and codes.n_hash_bits == 0:
        raise UsageError("without hash bits a label weight of 0 compares nothing: give 1 or more")
    most = (_FAR - 1 - codes.n_hash_bits) // max(1, codes.n_label_bits)
    if weight > most:
        raise UsageError(
            f"a label weight of {weight} is too large for {codes.bits} bits: {codes.label_first} "
            "already puts the labels first"
        )
    return int(weight)
