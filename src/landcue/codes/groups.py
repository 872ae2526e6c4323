"""Records grouped by label code, and large groups split into rings around a center.

All codes of a ring have the same distance, its radius, to the center, which bounds distances.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from landcue.codes.hamming import plane_distances
from landcue.codes.packing import WORD_BITS, check_codes
from landcue.errors import UsageError
from landcue.types import ByteArray

_TABLE_BITS = 20  # up to here labels are counted in a table, which is faster than sorting them
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class LabelGroups:
    """G groups of n records that share their label code, one after another.

    Attributes:
        labels: Distinct label codes, packed uint8 ``[G, ceil(L / 8)]``.
        edges: int64 ``[G + 1]``; group g lies from ``edges[g]`` to ``edges[g + 1]``.
        rows: uint32 ``[n]``, the row of the record at each position, ascending within a group;
            ``[0]`` where the records come in this order, so that a row is its position.
        n_label_bits: L.
    """

    labels: ByteArray
    edges: npt.NDArray[np.int64]
    rows: npt.NDArray[np.uint32]
    n_label_bits: int

    def __post_init__(self) -> None:
        check_codes(self.labels, self.n_label_bits, "label codes of groups")
        edges = self.edges
        if (
            edges.shape != (len(self.labels) + 1,)
            or edges[0] != 0
            or (np.diff(edges) < 0).any()
            or len(self.rows) not in (0, len(self))
        ):
            raise UsageError(
                "the edges or rows of label groups do not fit: pass G + 1 ascending edges from 0 "
                "to n, and n rows or none"
            )

    def __len__(self) -> int:
        """Return n, the number of records."""
        return int(self.edges[-1])


def group_by_label(label: ByteArray, n_label_bits: int) -> LabelGroups:
    """Group records by their label codes, packed uint8 ``[n, ceil(L / 8)]``."""
    check_codes(label, n_label_bits, "label codes")
    if n_label_bits <= _TABLE_BITS:
        labels, numbers = _number_by_table(label, n_label_bits)
    else:
        labels, numbers = np.unique(label, axis=0, return_inverse=True)
        numbers = numbers.reshape(-1).astype(np.uint32)
    counts = np.bincount(numbers, minlength=len(labels))
    edges = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    rows = np.empty(0, np.uint32)
    if (numbers[1:] < numbers[:-1]).any():
        rows = np.argsort(numbers, kind="stable").astype(np.uint32)
    return LabelGroups(labels, edges, rows, n_label_bits)


def _number_by_table(
    label: ByteArray, n_label_bits: int
) -> tuple[ByteArray, npt.NDArray[np.unsignedinteger]]:
    """Return the distinct codes in the order of their values, and each record's among them."""
    n, width = label.shape
    seen = np.zeros(1 << n_label_bits, np.bool_)
    for first in range(0, n, _CHUNK):
        seen[_values(label[first : first + _CHUNK])] = True
    found = np.flatnonzero(seen)
    number_of = np.cumsum(seen, dtype=np.int64) - 1
    # Numbers of two bytes are sorted by counting, longer ones by comparing.
    numbers = np.empty(n, np.uint16 if len(found) <= 1 << 16 else np.uint32)
    for first in range(0, n, _CHUNK):
        numbers[first : first + _CHUNK] = number_of[_values(label[first : first + _CHUNK])]
    wide = found.astype("<u4").view(np.uint8).reshape(-1, 4)
    return np.ascontiguousarray(wide[:, :width]), numbers


def _values(label: ByteArray) -> npt.NDArray[np.uint32]:
    """Read packed codes of up to 4 bytes as numbers, bit 0 = 1."""
    values = np.zeros(len(label), np.uint32)
    for byte in range(label.shape[1]):
        values |= label[:, byte].astype(np.uint32) << np.uint32(8 * byte)
    return values


WHOLE = -1  # the radius of a group that is not split
SPLIT_FROM = 4096
"""Records from which on a group is split into rings."""
_SAMPLE = 4096

Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class Rings:
    """Records ring after ring, and the rings of every group one after another.

    All codes of a ring have the same Hamming distance, its radius, to the center of their group.

    Attributes:
        rows: uint32 ``[n]``, the row at each position, ascending within a ring; ``[0]`` where a
            row is its position.
        edges: int64 ``[R + 1]``; ring r lies from ``edges[r]`` to ``edges[r + 1]``.
        radii: int64 ``[R]``, ascending within a group; ``WHOLE`` for the only ring of a group that
            is not split.
        firsts: int64 ``[G + 1]``; group g has the rings ``firsts[g]`` to ``firsts[g + 1] - 1``.
        centers: uint64 ``[W, G]``, word by word; zeros for groups that are not split.
    """

    rows: npt.NDArray[np.uint32]
    edges: npt.NDArray[np.int64]
    radii: npt.NDArray[np.int64]
    firsts: npt.NDArray[np.int64]
    centers: Words


def whole_groups(groups: LabelGroups, n_words: int) -> Rings:
    """Return one ring for every group."""
    n = len(groups.labels)
    radii, firsts = np.full(n, WHOLE, np.int64), np.arange(n + 1, dtype=np.int64)
    return Rings(groups.rows, groups.edges, radii, firsts, np.zeros((n_words, n), np.uint64))


def split_groups(
    groups: LabelGroups, planes: Words, *, in_place: bool = False, split_from: int = SPLIT_FROM
) -> tuple[Rings, Words]:
    """Split large groups into rings around their majority code.

    Args:
        groups: Of n records.
        planes: Codes word by word ``[W, n]``, by row.
        in_place: The records come group by group: reorder ``planes`` themselves within each group,
            and number the rows anew, so that a row is its position.
        split_from: Records from which on a group is split.

    Returns:
        The rings, and the codes in their order; the very ``planes`` where that is the rows' own.
    """
    if groups.rows.size:
        planes = np.take(planes, groups.rows, axis=1)
    sizes = np.diff(groups.edges)
    if not (sizes >= split_from).any():
        return whole_groups(groups, len(planes)), planes
    if in_place:
        rows = np.empty(0, np.uint32)
    elif groups.rows.size:
        rows = groups.rows.copy()
    else:
        rows, planes = np.arange(len(groups), dtype=np.uint32), planes.copy()
    centers = np.zeros((len(planes), len(sizes)), np.uint64)
    radii: list[npt.NDArray[np.int64]] = []
    counts: list[npt.NDArray[np.int64]] = []
    for group, (start, size) in enumerate(zip(groups.edges.tolist(), sizes.tolist(), strict=False)):
        if size < split_from:
            radii.append(np.array([WHOLE]))
            counts.append(np.array([size]))
            continue
        at = slice(start, start + size)
        centers[:, group] = _majority(planes[:, at])
        distances = plane_distances(planes[:, at], centers[:, group])
        order = np.argsort(distances, kind="stable")
        planes[:, at] = planes[:, at][:, order]
        if rows.size:
            rows[at] = rows[at][order]
        count = np.bincount(distances)
        radii.append(np.flatnonzero(count))
        counts.append(count[count > 0])
    edges, firsts = (
        np.concatenate([[0], np.cumsum(values)]).astype(np.int64)
        for values in (np.concatenate(counts), [len(some) for some in radii])
    )
    return Rings(rows, edges, np.concatenate(radii).astype(np.int64), firsts, centers), planes


def _majority(planes: Words) -> Words:
    """Return the code ``[W]`` that takes every bit from the most of evenly spread codes."""
    some = planes[:, :: max(1, planes.shape[1] // _SAMPLE)]
    center = np.zeros(len(some), np.uint64)
    for bit in range(WORD_BITS):
        shift = np.uint64(bit)
        often = 2 * (some >> shift & np.uint64(1)).sum(axis=1) > some.shape[1]
        center |= often.astype(np.uint64) << shift
    return center
