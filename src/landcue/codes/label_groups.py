"""Records grouped by label code."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from landcue.codes.packing import check_codes
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
                "the edges or rows of label groups do not fit: give G + 1 ascending edges from 0 "
                "to n, and n rows or none"
            )

    def __len__(self) -> int:
        """Return n, the number of records."""
        return int(self.edges[-1])


def group_by_label(label: ByteArray, n_label_bits: int) -> LabelGroups:
    """Group records by their label codes, packed uint8 ``[n, ceil(L / 8)]``.

    Raises:
        UsageError: The label codes are not packed codes of ``n_label_bits`` bits.
    """
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
