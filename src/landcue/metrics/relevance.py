"""When one image is relevant to another, and how much.

Every kind of relevance here depends on only two numbers of a pair: how many labels it shares and
how many it has together. A pair is therefore coded as one small integer, and a kind of relevance
is a table over these integers. Gains that come with a run are coded likewise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.errors import UsageError, did_you_mean
from landcue.types import ByteArray

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

GAINS = ("shared", "jaccard")
PREDICATES = ("any", "j0.4", "j0.6", "j0.8", "exact", "same-class")


@dataclass(frozen=True, slots=True)
class PackedLabels:
    """Labels of n images, as :meth:`PairTable.pack` makes them.

    Attributes:
        words: 64 labels a word, uint64 ``[n, ceil(C / 64)]``.
        counts: Labels of each image, uint16 or uint32 ``[n]``.
        stride: What one shared label adds to the code of a pair, its share in the union aside.
    """

    words: npt.NDArray[np.uint64]
    counts: npt.NDArray[np.unsignedinteger[Any]]
    stride: np.unsignedinteger[Any]

    def __getitem__(self, rows: slice) -> PackedLabels:
        return PackedLabels(self.words[rows], self.counts[rows], self.stride)

    def codes(self, gallery: PackedLabels) -> npt.NDArray[np.unsignedinteger[Any]]:
        """Return the pair codes ``[q, n]`` of these images as queries."""
        shared = np.zeros((len(self.words), len(gallery.words)), self.counts.dtype)
        for ours, theirs in zip(self.words.T, gallery.words.T, strict=True):
            shared += np.bitwise_count(ours[:, None] & theirs[None, :])
        shared *= self.stride
        shared += self.counts[:, None]
        shared += gallery.counts[None, :]
        return shared


@dataclass(frozen=True, slots=True)
class PairTable:
    """The code of a pair with ``shared`` common labels and ``union`` labels together.

    The code is ``shared * (2 * most + 1) + union``; 0 is a pair without labels, which is relevant
    in no sense.

    Attributes:
        most: The largest number of labels that one image has.
    """

    most: int

    @property
    def n_codes(self) -> int:
        """One more than the largest code."""
        return (self.most + 1) * (2 * self.most + 1)

    def codes(self, query: ByteArray, gallery: ByteArray) -> npt.NDArray[np.unsignedinteger[Any]]:
        """Return the codes ``[q, n]`` of multi-hot labels ``[q, C]`` and ``[n, C]``."""
        return self.pack(query).codes(self.pack(gallery))

    def pack(self, labels: ByteArray) -> PackedLabels:
        """Pack multi-hot labels ``[n, C]``, so that their pairs are coded fast."""
        kind = np.uint16 if self.n_codes <= 2**16 else np.uint32
        counts = labels.sum(axis=1, dtype=np.int64).astype(kind)
        return PackedLabels(_words(labels), counts, kind(2 * self.most))

    def gain(self, kind: str) -> Floats:
        """Return the graded gain of every code, float64 ``[n_codes]``.

        Raises:
            UsageError: ``kind`` is not one of ``GAINS``.
        """
        if kind not in GAINS:
            raise UsageError(f"unknown gain {kind!r}{did_you_mean(kind, GAINS)}")
        shared, union = self._counts()
        return shared.astype(np.float64) if kind == "shared" else shared / np.maximum(union, 1)

    def relevant(self, kind: str) -> npt.NDArray[np.bool_]:
        """Return whether a pair of each code is relevant, bool ``[n_codes]``.

        Raises:
            UsageError: ``kind`` is neither one of ``PREDICATES`` nor ``j`` and a number in 0..1.
        """
        shared, union = self._counts()
        cut = cut_of(kind)
        if kind == "given" or (cut is not None and not cut.jaccard):
            raise UsageError(
                f"relevance {kind!r} is that of judged runs, not of labels: "
                "use a protocol with relevance 'any', or landcue.metrics.runs"
            )
        if cut is not None:
            return (shared > 0) & (shared / np.maximum(union, 1) >= cut.least)
        if kind == "exact":
            return (shared > 0) & (shared == union)
        return shared > 0

    def _counts(self) -> tuple[Integers, Integers]:
        shared, union = np.divmod(np.arange(self.n_codes), 2 * self.most + 1)
        return shared, union


@dataclass(frozen=True, slots=True)
class Cut:
    """A relevance that begins at a number: a Jaccard overlap, or a judged gain."""

    jaccard: bool
    least: float


def cut_of(kind: str) -> Cut | None:
    """Return the cut of a relevance ``j<t>`` or ``g<t>``, or ``None`` for the other predicates."""
    if kind in ("any", "exact", "same-class", "given"):
        return None
    try:
        least = float(kind[1:])
    except ValueError:
        least = np.nan
    if kind[:1] == "j" and 0 < least <= 1:
        return Cut(jaccard=True, least=least)
    if kind[:1] == "g" and 0 < least < np.inf:
        return Cut(jaccard=False, least=least)
    raise UsageError(
        f"unknown relevance {kind!r}{did_you_mean(kind, PREDICATES)}; j<t> with 0 < t <= 1 asks "
        "for a Jaccard overlap, g<t> for a judged gain of at least t"
    )


def check_labels(labels: npt.ArrayLike, name: str) -> ByteArray:
    """Return multi-hot labels as uint8 ``[n, C]``."""
    array = np.asarray(labels)
    if array.ndim != 2:
        raise UsageError(f"labels of the {name} have shape {list(array.shape)}: pass [n, labels]")
    ones = array == 1
    broken = np.flatnonzero(~(ones | (array == 0)).all(axis=1))
    if broken.size:
        raise UsageError(
            f"labels of the {name} hold values other than 0 and 1 (first in row {int(broken[0])}): "
            "use one column per label"
        )
    return ones.astype(np.uint8)


def check_single_label(labels: ByteArray, name: str) -> None:
    """Refuse images with several labels where the relevance is the same class."""
    several = np.flatnonzero(labels.sum(axis=1, dtype=np.int64) > 1)
    if several.size:
        raise UsageError(
            f"row {int(several[0])} of the {name} has several labels, so 'same-class' is not "
            "defined: use a protocol with relevance 'any'"
        )


def pair_table(query: ByteArray, gallery: ByteArray) -> PairTable:
    """Return the table that codes all pairs of these multi-hot labels."""
    counts = [labels.sum(axis=1, dtype=np.int64).max(initial=0) for labels in (query, gallery)]
    return PairTable(int(max(counts)))


def gains(query: npt.ArrayLike, gallery: npt.ArrayLike, kind: str = "shared") -> Floats:
    """Return graded gains ``[q, n]``: the number of shared labels, or their Jaccard overlap.

    Args:
        query: Multi-hot labels ``[q, C]``.
        gallery: Multi-hot labels ``[n, C]``.
        kind: ``shared`` or ``jaccard``.

    Raises:
        UsageError: The labels or the kind cannot be used.

    >>> gains([[1, 1, 0]], [[1, 1, 0], [0, 1, 1]]).tolist()
    [[2.0, 1.0]]
    """
    ours, theirs = _check_pair(query, gallery)
    table = pair_table(ours, theirs)
    return table.gain(kind)[table.codes(ours, theirs)]


def relevant(
    query: npt.ArrayLike, gallery: npt.ArrayLike, kind: str = "any"
) -> npt.NDArray[np.bool_]:
    """Return which items are relevant to which queries, bool ``[q, n]``.

    Args:
        query: Multi-hot labels ``[q, C]``.
        gallery: Multi-hot labels ``[n, C]``.
        kind: ``any`` shared label, ``j0.4`` (Jaccard overlap of at least 0.4; any number in 0..1),
            ``exact`` (the same labels, at least one), ``same-class`` (one label per image).

    Raises:
        UsageError: The labels or the kind cannot be used.

    >>> relevant([[1, 1, 0]], [[1, 0, 0], [1, 1, 0], [0, 0, 1]], "exact").tolist()
    [[False, True, False]]
    """
    ours, theirs = _check_pair(query, gallery)
    if kind == "same-class":
        check_single_label(ours, "queries")
        check_single_label(theirs, "gallery")
    table = pair_table(ours, theirs)
    return table.relevant(kind)[table.codes(ours, theirs)]


def _words(labels: ByteArray) -> npt.NDArray[np.uint64]:
    """Pack multi-hot labels ``[n, C]`` to 64 labels a word, ``[n, ceil(C / 64)]``."""
    n, width = labels.shape
    padded = np.zeros((n, (width + 63) // 64 * 64), np.uint8)
    padded[:, :width] = labels
    return np.packbits(padded, axis=1).view(np.uint64)


def _check_pair(query: npt.ArrayLike, gallery: npt.ArrayLike) -> tuple[ByteArray, ByteArray]:
    ours, theirs = check_labels(query, "queries"), check_labels(gallery, "gallery")
    if ours.shape[1] != theirs.shape[1]:
        raise UsageError(
            f"the queries have {ours.shape[1]} labels, the gallery {theirs.shape[1]}: "
            "use the same label columns for both"
        )
    return ours, theirs


_MOST_LEVELS = 4096
MOST_GAIN = 500  # 2**gain is still a float64, and so are sums of many


@dataclass(frozen=True, slots=True)
class GainTable:
    """Gains as codes: the place of a gain among the different ones, 0 for gain 0.

    Attributes:
        levels: The different gains, rising from 0, float64 ``[n_codes]``.
    """

    levels: Floats

    @classmethod
    def of(cls, gains: Iterable[float]) -> GainTable:
        """Collect the different gains.

        Raises:
            UsageError: More than 4,096 of them.
        """
        levels = sorted({0.0, *gains})
        if len(levels) > _MOST_LEVELS:
            raise UsageError(
                f"{len(levels)} different gains: round them, {_MOST_LEVELS:,} are possible"
            )
        return cls(np.array(levels))

    @property
    def n_codes(self) -> int:
        """Number of codes."""
        return len(self.levels)

    def codes(self, gains: npt.NDArray[np.floating]) -> npt.NDArray[np.uint16]:
        """Return the codes of gains that are all among the levels."""
        return np.searchsorted(self.levels, gains).astype(np.uint16)

    def gain(self, kind: str) -> Floats:
        """Return the gain of every code.

        Raises:
            UsageError: The kind is one of labels.
        """
        if kind != "judged":
            raise UsageError(
                f"gain {kind!r} needs labels: judged gains need a protocol with gain 'judged'"
            )
        return self.levels

    def relevant(self, kind: str) -> npt.NDArray[np.bool_]:
        """Return whether each code is relevant: gain above 0 (``given``) or at least t (``g<t>``).

        Raises:
            UsageError: The kind is one of labels.
        """
        cut = cut_of(kind)
        if kind != "given" and (cut is None or cut.jaccard):
            raise UsageError(
                f"relevance {kind!r} needs labels: judged gains need a protocol with relevance "
                "'given' or 'g<t>', such as run-v1"
            )
        return self.levels > 0 if cut is None else self.levels >= cut.least


def check_gain(gain: float, what: str) -> float:
    """Return a gain that can be used."""
    if not (math.isfinite(gain) and 0 <= gain <= MOST_GAIN):
        raise UsageError(f"the gain of {what} is {gain:g}: pass a number from 0 to {MOST_GAIN}")
    return float(gain)
