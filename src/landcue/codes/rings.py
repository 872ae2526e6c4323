"""Groups of codes split into rings around a center, whose radius bounds distances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from landcue.codes.hamming import plane_distances
from landcue.codes.label_groups import LabelGroups
from landcue.codes.packing import WORD_BITS

WHOLE = -1  # the radius of a group that is not split
_LEAST = 4096  # records from which on a group is split
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
    groups: LabelGroups, planes: Words, *, in_place: bool = False
) -> tuple[Rings, Words]:
    """Split large groups into rings around their majority code.

    Args:
        groups: Of n records.
        planes: Codes word by word ``[W, n]``, by row.
        in_place: The records come group by group: reorder ``planes`` themselves within each group,
            and number the rows anew, so that a row is its position.

    Returns:
        The rings, and the codes in their order; the very ``planes`` where that is the rows' own.
    """
    if groups.rows.size:
        planes = np.take(planes, groups.rows, axis=1)
    sizes = np.diff(groups.edges)
    if not (sizes >= _LEAST).any():
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
        if size < _LEAST:
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
